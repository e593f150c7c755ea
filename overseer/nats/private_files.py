"""Files that only their owner can read, written whole or not at all."""

import contextlib
import os
import re
import secrets
from pathlib import Path

__all__ = ["is_draft", "private_folder", "sync_folder", "write_private"]

_DRAFT = re.compile(r"\..+\.[0-9a-f]{16}")


def private_folder(folder: Path) -> None:
    """Make the folder (0700) where there is none; an existing one is left as it is."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def write_private(path: Path, text: str, *, replace: bool = True) -> None:
    """Write `text` to `path` (0600), on disk when this returns; a kill leaves the old file or the new one.

    With `replace=False` an existing file stays as it is, also one that another process makes at this moment.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            draft.replace(path)
        else:
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)


def is_draft(name: str) -> bool:
    """Whether `write_private` gives such a name to what it has not finished."""
    return _DRAFT.fullmatch(name) is not None


def sync_folder(folder: Path) -> None:
    """Names made, replaced or removed in the folder are on disk when this returns."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
