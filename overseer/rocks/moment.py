"""Whether a store's files, opened one after the other beside a running owner, are those of one moment."""

from pathlib import Path

__all__ = ["moment_of"]


def moment_of(path: Path) -> tuple[object, ...]:
    """Another one after every flush, compaction and new log of the owner. The same before and after an opening: it saw one moment.

    Else it may have seen a manifest of before a flush and logs of after it: rows of some tables are then in neither.
    """
    try:
        current = (path / "CURRENT").read_bytes()
        manifest = path / current.decode("ascii", "replace").strip()
        return current, manifest.stat().st_size, sorted(file.name for file in path.iterdir() if file.suffix == ".log")
    except FileNotFoundError:
        # Just removed by the owner; or damaged, which the opening says.
        return ()
