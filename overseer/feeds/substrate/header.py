"""A Substrate header from JSON: its hash is worked out here, so a remote cannot pass one block off as another."""

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from messages.scale import blake2b_256, encode_compact, encode_vec
from overseer.feeds.substrate.troubles import RemoteLies

__all__ = ["RemoteHeader", "block_number", "hex_bytes", "read_header"]

_HASH_BYTES = 32
# Items of a digest, and bytes of one: a real one has three or four, of some hundred bytes.
_LOGS_MAX = 64
_LOG_BYTES_MAX = 256 * 1024


class RemoteHeader(NamedTuple):
    hash: bytes
    parent: bytes
    # On the remote's chain: ours counts from the block where this node begins.
    number: int


def read_header(value: Any, expected: bytes | None = None) -> RemoteHeader:
    """The header and its hash, blake2b-256 of its SCALE bytes. Raises RemoteLies, also when that is not the `expected` one."""
    if not isinstance(value, dict):
        raise RemoteLies("a header that is no object")
    fields = cast(Mapping[str, Any], value)
    parent = hex_bytes(fields.get("parentHash"), _HASH_BYTES, "parentHash of a header")
    number = block_number(fields.get("number"))
    roots = [hex_bytes(fields.get(name), _HASH_BYTES, f"{name} of a header") for name in ("stateRoot", "extrinsicsRoot")]
    found = blake2b_256(parent + encode_compact(number) + b"".join(roots) + encode_vec(_logs(fields.get("digest"))))
    if expected is not None and found != expected:
        raise RemoteLies(f"block {expected.hex()} comes with a header whose hash is {found.hex()}")
    return RemoteHeader(found, parent, number)


def _logs(digest: Any) -> list[bytes]:
    logs = cast(Mapping[str, Any], digest).get("logs") if isinstance(digest, dict) else None
    if not isinstance(logs, list):
        raise RemoteLies("a header without a digest")
    listed = cast(list[Any], logs)
    if len(listed) > _LOGS_MAX:
        raise RemoteLies(f"a digest of {len(listed)} items")
    return [hex_bytes(log, None, "an item of a digest", most=_LOG_BYTES_MAX) for log in listed]


def block_number(value: Any) -> int:
    """A block number as JSON has it: hexadecimal text, of 32 bits. Raises RemoteLies."""
    try:
        number = int(value, 16) if isinstance(value, str) and value.startswith("0x") else -1
    except ValueError:
        number = -1
    if not 0 <= number < 2**32:
        raise RemoteLies(f"a block number that is none: {str(value)[:40]!r}")
    return number


def hex_bytes(value: Any, size: int | None, what: str, *, most: int | None = None) -> bytes:
    """Bytes of `0x`-hexadecimal text. Raises RemoteLies, naming `what`."""
    if isinstance(value, str) and value.startswith("0x"):
        try:
            data = bytes.fromhex(value[2:])
        except ValueError:
            data = None
        if data is not None and (size is None or len(data) == size) and (most is None or len(data) <= most):
            return data
    wanted = f" of {size} bytes" if size is not None else ""
    raise RemoteLies(f"{what} is no hexadecimal text{wanted}: {str(value)[:80]!r}")
