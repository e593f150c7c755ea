"""Ways in which a disk spoils a file, and the kinds of files a node has."""

import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["FAULTS", "NODE_KINDS", "STORE_KINDS", "Damage", "damage", "kinds_of"]

_PAGE = 4096

# Of one store, by pattern within its folder.
STORE_KINDS: dict[str, str] = {
    "rocks log": "*.log",
    "rocks table": "*.sst",
    "rocks manifest": "MANIFEST-*",
    "rocks CURRENT": "CURRENT",
    "rocks OPTIONS": "OPTIONS-*",
    "rocks IDENTITY": "IDENTITY",
    "seal": "SEAL",
    "owner": "OWNER",
    "library's note": "rocksdict-config.json",
    "checkpoint": "checkpoints/*/*",
}
# Of everything else in a node's folder, by pattern within it.
NODE_KINDS: dict[str, str] = {
    "stream block": "nats/jetstream/**/*.blk",
    "stream meta.inf": "nats/jetstream/**/streams/*/meta.inf",
    "stream meta.sum": "nats/jetstream/**/streams/*/meta.sum",
    "stream index": "nats/jetstream/**/index.db",
    "consumer meta.inf": "nats/jetstream/**/obs/*/meta.inf",
    "consumer meta.sum": "nats/jetstream/**/obs/*/meta.sum",
    "consumer state": "nats/jetstream/**/obs/*/o.dat",
    "key": "keys/*.nk",
    "server's files": "nats/*.*",
    "run file": "run.json",
    "lock": "node.lock",
}


class Damage(NamedTuple):
    """What was done to which file."""

    kind: str
    fault: str
    file: Path

    def text(self) -> str:
        return f"{self.fault} of {self.kind} {self.file}"


def _flip(path: Path, others: Sequence[Path], chance: random.Random) -> None:
    with path.open("r+b") as file:
        at = chance.randrange(path.stat().st_size)
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << chance.randrange(8)]))


def _truncate(path: Path, others: Sequence[Path], chance: random.Random) -> None:
    os.truncate(path, chance.randrange(path.stat().st_size))


def _delete(path: Path, others: Sequence[Path], chance: random.Random) -> None:
    path.unlink()


def _swap(path: Path, others: Sequence[Path], chance: random.Random) -> None:
    """The content of another file of the kind, and the other way round."""
    other = chance.choice(others)
    mine, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    other.write_bytes(mine)


def _zero(path: Path, others: Sequence[Path], chance: random.Random) -> None:
    """One page, or the whole of a smaller file."""
    size = path.stat().st_size
    at = chance.randrange((size + _PAGE - 1) // _PAGE) * _PAGE
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes(min(_PAGE, size - at)))


FAULTS: dict[str, Callable[[Path, Sequence[Path], random.Random], None]] = {
    "flip": _flip,
    "truncation": _truncate,
    "deletion": _delete,
    "swap": _swap,
    "zeroed page": _zero,
}


def kinds_of(folder: Path, kinds: dict[str, str]) -> dict[str, list[Path]]:
    """The files of each kind that are there; checkpoints' tables are links, so that damage to them is the store's as well."""
    found = {kind: sorted(path for path in folder.glob(pattern) if path.is_file()) for kind, pattern in kinds.items()}
    return {kind: paths for kind, paths in found.items() if paths}


def damage(folder: Path, kinds: dict[str, str], chance: random.Random) -> Damage:
    """Spoil one file in `folder`: each kind and each fault as likely as the others."""
    found = kinds_of(folder, kinds)
    while True:
        kind = chance.choice(sorted(found))
        fault = chance.choice(sorted(FAULTS))
        path = chance.choice(found[kind])
        others = [other for other in found[kind] if other != path and other.stat().st_ino != path.stat().st_ino]
        if (fault == "swap" and not others) or (fault not in ("swap", "deletion") and path.stat().st_size == 0):
            continue
        before = path.read_bytes()
        FAULTS[fault](path, others, chance)
        if not path.exists() or path.read_bytes() != before:
            return Damage(kind, fault, path.relative_to(folder))
