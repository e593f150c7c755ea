"""Checks of the machine: the disk under the node's folder, memory, files, ports, the clock. A scratch file is all that is ever written."""

import os
import resource
import shutil
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from overseer.checkup.check import Check, Patient, Told, ok, warning, wrong
from overseer.node.findings import DISK_WARN_BYTES, DISK_WRONG_BYTES
from overseer.node.folder import NodeFolder

__all__ = ["MACHINE", "check_clock", "check_disk", "check_files", "check_filesystem", "check_memory", "check_ports", "mount_of", "nearest"]

# In memory: what is synced there is gone with the power. Over a net: whether a sync is one depends on the other side.
VOLATILE = frozenset({"tmpfs", "ramfs", "devtmpfs"})
REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "fuse.sshfs", "fuse.glusterfs", "virtiofs"})
LAYERED = frozenset({"overlay", "aufs"})
SYNCS = 8
# A commit takes two of them, and each message one in the server.
SLOW_SYNC_MS = 30.0
# No disk is that quick: the sync went nowhere.
NO_SYNC_MS = 0.02
# Seven processes of 70 to 90 MB, the server, and what RocksDB caches.
MEMORY_BYTES = 1024**3
# RocksDB keeps up to this many open, and the server has a connection for each.
FILES_MIN, FILES_WANTED = 512, 1024
# The sources are of this time: a clock before it is not set.
YEAR_MIN = 2025
FUTURE_S = 60.0


def nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    folder = folder.absolute()
    return folder if folder.is_dir() or folder == folder.parent else nearest(folder.parent)


def mount_of(folder: Path, mounts: str | None = None) -> str:
    """The type of the file system under a folder; "" where the machine does not tell."""
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text()
        except OSError:
            return ""
    place, best, kind = str(folder.resolve()), -1, ""
    for line in mounts.splitlines():
        before, _, behind = line.partition(" - ")
        at = before.split(" ")[4].replace("\\040", " ")
        if (place == at or place.startswith(at.rstrip("/") + "/")) and len(at) >= best:
            best, kind = len(at), behind.split(" ")[0]
    return kind


def check_filesystem(patient: Patient, *, kind: str | None = None) -> Iterator[Told]:
    """What the node's folder lies on, and how long a sync takes there."""
    folder = nearest(patient.loaded.config.data_dir)
    kind = mount_of(folder) if kind is None else kind
    if kind in VOLATILE:
        yield warning(
            f"{folder} is in memory ({kind}): all is gone at the next start of the machine", "Name a folder on a disk (--data-dir)"
        )
    elif kind in REMOTE:
        remedy = "Use a local disk: RocksDB and JetStream are not made for it, and a sync may be none"
        yield warning(f"{folder} is on a network file system ({kind})", remedy)
    elif kind in LAYERED:
        yield warning(f"{folder} is in a container's own layer ({kind}): it goes with the container", "Mount a volume there")
    took_ms = _sync_ms(folder)
    if took_ms is None:
        yield wrong(f"nothing can be written into {folder}", "Give the user that runs the node this folder")
    elif took_ms > SLOW_SYNC_MS:
        yield warning(f"a sync takes {took_ms:.0f} ms on {folder} ({kind})", "Every commit waits for one: use a faster disk")
    elif took_ms < NO_SYNC_MS and kind not in VOLATILE:
        yield warning(f"a sync takes {took_ms * 1000:.0f} us: it reaches no disk", "Look for a write cache that is not backed by a battery")
    else:
        yield ok(f"{kind or 'a file system'}, a sync takes {took_ms:.1f} ms")


def _sync_ms(folder: Path) -> float | None:
    """The median of a few, of 4 KiB; None when nothing can be written."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            taken: list[float] = []
            for _ in range(SYNCS):
                file.write(os.urandom(4096))
                file.flush()
                began_s = time.perf_counter()
                os.fsync(file.fileno())
                taken.append(1000 * (time.perf_counter() - began_s))
            return statistics.median(taken)
    except OSError:
        return None


def check_disk(patient: Patient, *, free: int | None = None) -> Iterator[Told]:
    """Room for what the streams may hold, and for the stores."""
    config = patient.loaded.config
    folder = nearest(config.data_dir)
    free = shutil.disk_usage(folder).free if free is None else free
    # Of another machine's server the streams lie elsewhere.
    wanted = DISK_WARN_BYTES + (0 if config.nats.url else config.nats.stream_bytes_max)
    if free < DISK_WRONG_BYTES:
        yield wrong(f"{free / 1e6:.0f} MB are free under {folder}", "Free space: a full disk stops the node")
    elif free < wanted:
        remedy = "Free space, or lower nats.stream_bytes_max: beyond the disk's end the server is silent, below it says so"
        yield warning(
            f"{free / 1e9:.1f} GB are free under {folder}; the stream may take up to {wanted / 1e9:.1f} GB with a reserve", remedy
        )
    else:
        yield ok(f"{free / 1e9:.0f} GB free")


def check_memory(_: Patient, *, meminfo: str | None = None) -> Iterator[Told]:
    try:
        text = Path("/proc/meminfo").read_text() if meminfo is None else meminfo
        available = next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        yield ok("the machine does not tell")
        return
    if available < MEMORY_BYTES:
        remedy = "Free memory, or run all subsystems in one process: overseer run --in-process"
        yield warning(f"{available / 1e6:.0f} MB of memory are available; a node takes up to {MEMORY_BYTES / 1e6:.0f} MB", remedy)
    else:
        yield ok(f"{available / 1e9:.1f} GB available")


def check_files(_: Patient, *, limit: int | None = None) -> Iterator[Told]:
    """How many files a process may have open."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if limit is None else limit
    remedy = f"ulimit -n {FILES_WANTED}   (LimitNOFILE= in a service of systemd)"
    if soft == resource.RLIM_INFINITY or soft >= FILES_WANTED:
        yield ok("as many as it likes" if soft == resource.RLIM_INFINITY else f"{soft}")
    elif soft < FILES_MIN:
        yield wrong(f"a process may have {soft} files open", remedy)
    else:
        yield warning(f"a process may have {soft} files open", remedy)


def check_ports(patient: Patient) -> Iterator[Told]:
    """Loopback works, and the ports that are asked for by number are free, or the running node's."""
    config = patient.loaded.config
    try:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=2):
            pass
    except OSError as error:
        yield wrong(f"a connection over loopback fails: {error}", "The node's processes talk over 127.0.0.1: let them, in the firewall too")
        return
    running = NodeFolder(config.data_dir).is_locked()
    asked = {"http.port": (config.http.host, config.http.port), "nats.port": (config.nats.host, 0 if config.nats.url else config.nats.port)}
    for key, (host, port) in asked.items():
        if not port or running:
            continue
        try:
            with socket.create_server((host, port)):
                pass
        except OSError as error:
            yield wrong(f"{key} {host}:{port} cannot be had: {error.strerror}", f"End who has it, or choose another {key} (0: a free one)")
    yield ok("loopback works")


def check_clock(patient: Patient, *, now_s: float | None = None) -> Iterator[Told]:
    """It is set, and not behind what the node wrote."""
    now_s = time.time() if now_s is None else now_s
    written_s = max((file.stat().st_mtime for file in patient.loaded.config.data_dir.glob("*") if file.is_file()), default=0.0)
    if time.gmtime(now_s).tm_year < YEAR_MIN:
        yield wrong(f"the clock says {time.strftime('%Y-%m-%d', time.gmtime(now_s))}", "Set it, by NTP")
    elif written_s > now_s + FUTURE_S:
        yield warning(f"the node wrote files {written_s - now_s:.0f} s in the clock's future", "Set the clock, by NTP: it has gone back")
    else:
        yield ok(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_s)))


MACHINE: tuple[Check, ...] = (
    Check("file system", "what the node's folder lies on (memory, a net, a container's layer); how long a sync takes", check_filesystem),
    Check("disk", "free space, against `nats.stream_bytes_max` and 2 GiB for the stores", check_disk),
    Check("memory", "available memory, against what a node takes", check_memory),
    Check("open files", "how many a process may have (`ulimit -n`)", check_files),
    Check("ports", "loopback works; `http.port` and `nats.port` are free", check_ports),
    Check("clock", "it is set, and not behind what the node wrote", check_clock),
)
