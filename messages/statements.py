"""The bytes that a dispute vote signs: Polkadot's, so that real votes of a real network verify. Integers little-endian.

| Kind                        | Bytes                                                              |
|-----------------------------|--------------------------------------------------------------------|
| explicit valid / invalid    | `DISP` 01/00, candidate hash, session (u32): 41                     |
| backing seconded / valid    | `BKNG` 01/02, candidate hash, session, relay parent: 73             |
| approval                    | `APPR`, candidate hash, session: 40                                 |
| approval of several         | `APPR`, SCALE vector of candidate hashes, session, from two on      |
"""

from collections.abc import Sequence
from typing import assert_never

from messages.polkadot import VoteKind
from messages.scale import encode_vec

__all__ = ["StatementError", "vote_payload"]

_HASH_BYTES = 32


class StatementError(ValueError):
    """There are no signed bytes for this. `reason`: no_candidates | unexpected_candidates | hash_length | session_range."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def vote_payload(kind: VoteKind, *, candidate: bytes, session: int, relay_parent: bytes, candidates: Sequence[bytes] = ()) -> bytes:
    """What a vote of `kind` on `candidate` (hash) in `session` signs.

    `relay_parent` counts for backing kinds alone. `candidates` are, for an approval of several, their hashes in signed order;
    whether `candidate` is among them is the caller's question. An approval of several that names one is signed as a plain
    approval of that one, as Polkadot does.

    Raises StatementError: `no_candidates`, `unexpected_candidates` (hashes with a kind that has none); `hash_length`,
    `session_range` for values that never passed the codec.
    """
    if not 0 <= session < 2**32:
        raise StatementError("session_range", f"{session} does not fit in 32 bits")
    if any(len(h) != _HASH_BYTES for h in (candidate, relay_parent, *candidates)):
        raise StatementError("hash_length", "a hash has 32 bytes")
    if candidates and kind is not VoteKind.APPROVAL_MULTIPLE:
        raise StatementError("unexpected_candidates", f"{kind.value} names no candidates of its own")
    at = session.to_bytes(4, "little")
    match kind:
        case VoteKind.EXPLICIT_VALID:
            return b"DISP\x01" + candidate + at
        case VoteKind.EXPLICIT_INVALID:
            return b"DISP\x00" + candidate + at
        case VoteKind.BACKING_SECONDED:
            return b"BKNG\x01" + candidate + at + relay_parent
        case VoteKind.BACKING_VALID:
            return b"BKNG\x02" + candidate + at + relay_parent
        case VoteKind.APPROVAL:
            return b"APPR" + candidate + at
        case VoteKind.APPROVAL_MULTIPLE:
            if not candidates:
                raise StatementError("no_candidates", "an approval of several names them")
            return b"APPR" + (candidates[0] if len(candidates) == 1 else encode_vec(list(candidates))) + at
        case _:
            assert_never(kind)
