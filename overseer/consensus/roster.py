"""The nodes of a network, as their operators tell each other: one public file for each, `<folder>/<node>.json`.

`overseer provision --describe` writes a node's own. From these files follow the accounts of a bus that several nodes share, the keys
that network messages are checked with, and who may be drawn for a consensus group. They hold no secret.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from messages.primitives import Hash32, Name

__all__ = ["BadNetwork", "Described", "read_network"]


class BadNetwork(Exception):
    """The files of a network's nodes cannot be used: which, and why."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}; a node's file is the output of `overseer provision --describe` there")
        self.path = path


class Described(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One node: the public keys of its users on the bus, and its identity (Ed25519 and X25519, hexadecimal)."""

    node: Name
    signing: str
    box: str
    weight: int = 1
    subsystems: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    keys: dict[str, str] = {}
    coming: dict[str, str] = {}

    @property
    def signing_key(self) -> Hash32:
        return bytes.fromhex(self.signing)

    @property
    def box_key(self) -> Hash32:
        return bytes.fromhex(self.box)

    def to_json(self) -> str:
        return msgspec.json.format(msgspec.json.encode(self), indent=1).decode() + "\n"


def read_network(folder: Path | None) -> Mapping[str, Described]:
    """The nodes that the files of a folder describe, by name in order; none without a folder. Raises BadNetwork."""
    if folder is None:
        return {}
    if not folder.is_dir():
        raise BadNetwork(folder, "there is no such folder")
    found: dict[str, Described] = {}
    for path in sorted(folder.glob("*.json")):
        found[path.stem] = _read(path)
    keys = [each.signing for each in found.values()]
    if len(set(keys)) < len(keys):
        raise BadNetwork(folder, "two nodes have one signing key")
    return found


def _read(path: Path) -> Described:
    try:
        described = msgspec.json.decode(path.read_bytes(), type=Described)
        lengths = {len(described.signing_key), len(described.box_key)}
    except (OSError, ValueError) as error:
        raise BadNetwork(path, str(error)) from None
    if described.node != path.stem:
        raise BadNetwork(path, f"describes the node {described.node!r}, not the one it is named after")
    if lengths != {32}:
        raise BadNetwork(path, "an identity has two keys of 32 bytes")
    return described
