"""A disk whose power can be cut: ext4 on a loop device, of which only what the file system has sent to the device survives.

Data that no fsync has sent there is in the page cache of the mounted file system alone. The file behind the loop device has
what the device was given. So a copy of that file, taken when the processes are gone and before the mount is given up (which
would write everything out), is the disk as a power cut leaves it. That the kernel wrote nothing while it was copied is seen
by the device's own write counter; otherwise it is copied again.
"""

import os
import shutil
import subprocess
import time
from pathlib import Path

__all__ = ["Disk", "SmallDisk", "why_not"]

# A copy takes 0.1 s; the kernel's periodic writing of dirty data comes every 5 s.
COPIES_MAX = 50
# How long the killed may take to close their files.
CLOSED_S = 10.0
# Sectors written, in /sys/block/*/stat.
_WRITTEN = 6
_TOOLS = ("mount", "umount", "losetup", "mkfs.ext4", "cp")


def why_not() -> str:
    """Why this machine cannot mount images; "" when it can."""
    if os.geteuid() != 0:
        return "mounting a loop device needs root"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"there is no {', '.join(missing)}"
    if not Path("/dev/loop-control").exists():
        return "there are no loop devices (/dev/loop-control)"
    trial = subprocess.run(["losetup", "--find"], capture_output=True, text=True)
    return "" if trial.returncode == 0 else f"no loop device is free: {trial.stderr.strip()}"


def _run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout


class SmallDisk:
    """A tmpfs of a fixed size: it fills up like a disk does. Use it as a context."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.mount = folder
        self._megabytes = megabytes

    def __enter__(self) -> "SmallDisk":
        self.mount.mkdir(parents=True, exist_ok=True)
        _run("mount", "-t", "tmpfs", "-o", f"size={self._megabytes}m", "tmpfs", str(self.mount))
        return self

    def __exit__(self, *_: object) -> None:
        _run("umount", "--lazy", str(self.mount))

    def fill(self) -> Path:
        """Until nothing more fits; what to delete to make room again."""
        filler = self.mount / "filler"
        with filler.open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while True:
                        file.write(b"x" * size)
                except OSError:
                    continue
        return filler


class Disk:
    """The image and its mount, both within `folder` (in memory: only the inner file system's syncs count). Use it as a context."""

    def __init__(self, folder: Path, megabytes: int = 256) -> None:
        self.mount = folder / "disk"
        self._memory = SmallDisk(folder / "images", 4 * megabytes)
        self._image = folder / "images" / "disk.img"
        self._next = folder / "images" / "next.img"
        self._megabytes = megabytes
        self._device = ""
        # Copies thrown away because the kernel wrote meanwhile.
        self.retries = 0

    def __enter__(self) -> "Disk":
        self.mount.mkdir(parents=True, exist_ok=True)
        with_image = self._memory.__enter__()
        try:
            with self._image.open("wb") as file:
                file.truncate(self._megabytes * 1024 * 1024)
            _run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(self._image))
            self._attach()
        except BaseException:
            with_image.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._detach()
        finally:
            self._memory.__exit__()

    def _attach(self) -> None:
        self._device = _run("losetup", "--find", "--show", str(self._image)).strip()
        try:
            _run("mount", "-t", "ext4", self._device, str(self.mount))
        except OSError:
            _run("losetup", "--detach", self._device)
            self._device = ""
            raise

    def _detach(self) -> None:
        if self._device:
            device, self._device = self._device, ""
            try:
                self._unmount()
            finally:
                _run("losetup", "--detach", device)

    def _unmount(self) -> None:
        """A process that was killed closes its files a moment after it is no longer seen."""
        deadline = time.monotonic() + CLOSED_S
        while True:
            try:
                _run("umount", str(self.mount))
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return

    def _written(self) -> int:
        """Sectors that the device was given so far."""
        return int((Path("/sys/block") / Path(self._device).name / "stat").read_text().split()[_WRITTEN])

    def cut(self) -> None:
        """The power fails, and comes back. No process has a file open on the disk any more (they were killed, not told to end)."""
        for _ in range(COPIES_MAX):
            before = self._written()
            _run("cp", "--sparse=always", str(self._image), str(self._next))
            if self._written() == before:
                break
            self.retries += 1
        else:
            raise OSError(f"{self._device} is still written to, although nobody uses it")
        self._detach()
        self._next.replace(self._image)
        self._attach()
