"""Which release this is, and whether another is newer."""

import re

__all__ = ["RELEASE", "is_newer"]

# As pyproject.toml has it; a test compares them.
RELEASE = "0.1.0"


def is_newer(release: str, than: str) -> bool:
    """Whether `release` came after `than`; of one that is not known ("") nothing is newer, and it is newer than none."""
    return bool(release and than) and _parts(release) > _parts(than)


def _parts(release: str) -> list[int]:
    return [int(part) for part in re.findall(r"[0-9]+", release)[:3]]
