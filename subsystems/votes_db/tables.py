"""The tables of `votes_db` and the reading of them that several functions share.

Whatever grows with votes is keyed by session first (big-endian), so that forgetting a session is a range delete; the one
exception, the index by validator id, is pruned by way of the session's validator set.
"""

import struct
from functools import partial
from typing import Any, NamedTuple

from messages.codec import decode_value
from messages.polkadot import Scheme, Validator
from messages.votes_db import Dispute, StoredCandidate
from overseer.tables import HASH, U8, U32, Table, View
from subsystems.votes_db.dispute_row import DisputeRow, load_dispute
from subsystems.votes_db.packing import read_row

__all__ = [
    "BACKED",
    "CANDIDATES",
    "CURSOR",
    "DISPUTED",
    "DISPUTES",
    "HELD",
    "IDS",
    "INCLUDED",
    "KNOWN",
    "NUMBERS",
    "SESSIONS",
    "SESSION_FIRST",
    "SPAM",
    "TABLES",
    "VALIDATOR_BYTES",
    "VOTED",
    "VOTES",
    "WINDOW",
    "Key",
    "Window",
    "dispute_row",
    "pack_validators",
    "scheme_and_key",
    "session_validators",
    "spam_slots",
    "stored_candidate",
    "window",
]

# (session, candidate): what votes are about.
Key = tuple[int, bytes]

# (session) -> its validator set, VALIDATOR_BYTES each
SESSIONS = Table("sessions", key=(U32,), value=bytes)
# (validator id, session, index)
IDS = Table("ids", key=(HASH, U32, U32), value=bytes)
# (session, candidate) -> receipt and PoV, CBOR of a StoredCandidate
CANDIDATES = Table("candidates", key=(U32, HASH), value=bytes, reads=partial(decode_value, StoredCandidate))
# (session, candidate) -> see dispute_row
DISPUTES = Table("disputes", key=(U32, HASH), value=bytes, reads=load_dispute)
# (session, candidate) of those that both sides have voted on
DISPUTED = Table("disputed", key=(U32, HASH), value=bytes)
# (session, candidate, validator) -> one or two slots, see packing
VOTES = Table("votes", key=(U32, HASH, U32), value=bytes, reads=read_row)
# (session, validator, candidate) -> time of the first vote (ms, 8 bytes)
VOTED = Table("voted", key=(U32, U32, HASH), value=bytes)
# (session, validator) -> spam slots taken, one byte
SPAM = Table("spam", key=(U32, U32), value=bytes)
# (session of the block, candidate) -> BACKED or INCLUDED, number of that block
KNOWN = Table("known", key=(U32, HASH), value=bytes)
# (session, candidate) -> a Dispute of another node whose session has not started here
HELD = Table("held", key=(U32, HASH), value=Dispute)
# (0) -> newest session, oldest session of the window
WINDOW = Table("window", key=(U8,), value=bytes)
# (0) -> session being pruned, indices whose ids are forgotten already: the watermark of pruning
CURSOR = Table("cursor", key=(U8,), value=bytes)

# In the order in which a session is pruned; its validator set last, as the index by id is pruned by it.
SESSION_FIRST: tuple[Table[Any], ...] = (VOTES, VOTED, DISPUTED, DISPUTES, CANDIDATES, SPAM, KNOWN, HELD, SESSIONS)
TABLES: tuple[Table[Any], ...] = (*SESSION_FIRST, IDS, WINDOW, CURSOR)

VALIDATOR_BYTES = 33
# What the chain is known to have done with a candidate; the greater counts more.
BACKED, INCLUDED = 1, 2
# Two u32: the value of WINDOW and of CURSOR.
NUMBERS = struct.Struct(">II")
_SCHEMES = (Scheme.SR25519.value, Scheme.ED25519.value)


class Window(NamedTuple):
    """The sessions kept: `oldest` to `current`."""

    current: int
    oldest: int


def window(view: View) -> Window | None:
    """None before the first session."""
    data = view.get(WINDOW, (0,))
    return None if data is None else Window(*NUMBERS.unpack(data))


def session_validators(view: View, session: int) -> bytes | None:
    """The packed validator set; None for a session that is unknown or has left the window."""
    kept = window(view)
    return view.get(SESSIONS, (session,)) if kept is not None and session >= kept.oldest else None


def pack_validators(validators: list[Validator]) -> bytes:
    return b"".join(bytes((_SCHEMES.index(v.scheme.value),)) + v.key for v in validators)


def scheme_and_key(validators: bytes, index: int) -> tuple[str, bytes]:
    at = index * VALIDATOR_BYTES
    return _SCHEMES[validators[at]], validators[at + 1 : at + VALIDATOR_BYTES]


def dispute_row(view: View, key: Key) -> DisputeRow | None:
    data = view.get(DISPUTES, key)
    return None if data is None else load_dispute(data)


def stored_candidate(view: View, key: Key) -> StoredCandidate | None:
    data = view.get(CANDIDATES, key)
    return None if data is None else decode_value(StoredCandidate, data)


def spam_slots(view: View, session: int, validator: int) -> int:
    """How many slots the validator has taken in the session."""
    data = view.get(SPAM, (session, validator))
    return data[0] if data else 0
