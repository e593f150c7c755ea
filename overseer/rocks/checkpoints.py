"""The folder of checkpoints inside a store's folder; replacing one survives a kill at any moment."""

import shutil
from collections.abc import Callable
from pathlib import Path

from overseer.ports.store import check_checkpoint_name
from overseer.rocks.seal import sync_folder

__all__ = ["CheckpointFolder"]

# Names with a dot in front are no checkpoint's: `.new.<name>` is being made, `.old.<name>` is being removed.
_NEW = ".new."
_OLD = ".old."


class CheckpointFolder:
    def __init__(self, store: Path) -> None:
        self.folder = store / "checkpoints"

    def names(self) -> list[str]:
        if not self.folder.is_dir():
            return []
        return sorted(entry.name for entry in self.folder.iterdir() if not entry.name.startswith("."))

    def path(self, name: str) -> Path:
        """Raises KeyError."""
        path = self.folder / check_checkpoint_name(name)
        if not path.is_dir():
            raise KeyError(name)
        return path

    def make(self, name: str, create: Callable[[str], None]) -> None:
        """Have `create` fill a folder and put it in place of any of that name."""
        check_checkpoint_name(name)
        self.folder.mkdir(exist_ok=True)
        new, old, place = self.folder / f"{_NEW}{name}", self.folder / f"{_OLD}{name}", self.folder / name
        shutil.rmtree(new, ignore_errors=True)
        create(str(new))
        if place.exists():
            place.rename(old)
        new.rename(place)
        sync_folder(self.folder)
        shutil.rmtree(old, ignore_errors=True)

    def drop(self, name: str) -> None:
        place, old = self.folder / check_checkpoint_name(name), self.folder / f"{_OLD}{name}"
        if place.exists():
            # Out of sight first: half a checkpoint must never be found under its name.
            place.rename(old)
            shutil.rmtree(old, ignore_errors=True)

    def settle(self) -> None:
        """Finish or undo what a kill interrupted."""
        if not self.folder.is_dir():
            return
        for entry in list(self.folder.glob(f"{_NEW}*")):
            name = entry.name.removeprefix(_NEW)
            if (self.folder / f"{_OLD}{name}").exists() and not (self.folder / name).exists():
                # The old one is moved away only when the new one is complete.
                entry.rename(self.folder / name)
            else:
                shutil.rmtree(entry, ignore_errors=True)
        for entry in list(self.folder.glob(f"{_OLD}*")):
            shutil.rmtree(entry, ignore_errors=True)
