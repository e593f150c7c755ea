"""One block of a remote chain, read: its place, its session, its candidates, its dispute votes; and what of it could not be read.

A block is executed by the runtime of its parent's state, and its inherent in the session that this state names: both are asked of there.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from messages.polkadot import CandidateReceipt, Validator
from overseer.feeds.substrate.header import RemoteHeader
from overseer.feeds.substrate.remote import Remote, Runtimes
from overseer.feeds.substrate.runtime import CANDIDATES, DISPUTES, SESSIONS, CandidateEvents
from overseer.feeds.substrate.troubles import RemotePruned, Unreadable
from overseer.feeds.substrate.values import StatementSet

__all__ = ["EVERYTHING", "ReadBlock", "read_block", "read_receipt", "read_validators", "receipts_in"]

T = TypeVar("T")

# Of a block of whose runtime nothing is known.
EVERYTHING = "everything but the header"


class ReadBlock(NamedTuple):
    header: RemoteHeader
    # None: not read.
    session: int | None
    candidates: CandidateEvents
    disputes: list[StatementSet]
    # What was not read -> why.
    unread: dict[str, str]


async def read_block(remote: Remote, runtimes: Runtimes, block: bytes | RemoteHeader, *, pruned_too: bool = False) -> ReadBlock:
    """The block, by its hash or by its header in hand. What its runtime does not allow to be read is left out, and said in `unread`.

    Raises RemoteError; RemotePruned where state or body is gone, unless `pruned_too`: then that is `unread` as well.
    """
    header = await _header(remote, block)
    passed = (Unreadable, RemotePruned) if pruned_too else (Unreadable,)
    nothing = CandidateEvents([], [])
    try:
        runtime = await runtimes.get(remote, header.parent)
    except passed as error:
        return ReadBlock(header, None, nothing, [], {EVERYTHING: str(error)})
    session, candidates, disputes, unread = None, nothing, list[StatementSet](), dict[str, str]()
    try:
        session = await _stored(remote, runtime.session_key, header.parent, runtime.session, "session")
    except passed as error:
        unread[SESSIONS] = str(error)
    try:
        candidates = await _stored(remote, runtime.events_key, header.hash, runtime.candidate_events, "events")
    except passed as error:
        unread[CANDIDATES] = str(error)
    try:
        disputes = runtime.disputes(await remote.extrinsics(header.hash))
    except passed as error:
        unread[DISPUTES] = str(error)
    return ReadBlock(header, session, candidates, disputes, unread)


async def read_validators(remote: Remote, runtimes: Runtimes, session: int, at: bytes) -> list[Validator]:
    """The session's validators by index, in the state of block `at`. Raises RemoteError, Unreadable."""
    runtime = await runtimes.get(remote, at)
    return await _stored(remote, runtime.session_info_key(session), at, runtime.validators, f"validators of session {session}")


async def read_receipt(remote: Remote, runtimes: Runtimes, session: int, candidate: bytes, at: bytes) -> list[CandidateReceipt]:
    """Receipts of the block that included the candidate on the way to block `at`, as long as the chain knows it.

    Raises RemoteError, Unreadable.
    """
    runtime = await runtimes.get(remote, at)
    key = runtime.included_key(session, candidate)
    value = None if key is None else await remote.storage(key, at)
    before = None if value is None else runtime.included_after(value)
    if before is None:
        return []
    (block,) = await remote.hashes([before + 1])
    return [] if block is None else await receipts_in(remote, runtimes, block)


async def receipts_in(remote: Remote, runtimes: Runtimes, block: bytes | RemoteHeader) -> list[CandidateReceipt]:
    """Receipts of the candidates that a block backs or includes. Raises RemoteError, Unreadable."""
    header = await _header(remote, block)
    runtime = await runtimes.get(remote, header.parent)
    found = await _stored(remote, runtime.events_key, header.hash, runtime.candidate_events, "events")
    return [*found.backed, *found.included]


async def _header(remote: Remote, block: bytes | RemoteHeader) -> RemoteHeader:
    """Asked for only where it is not in hand. Raises RemoteError; RemotePruned where the remote does not know the block."""
    if isinstance(block, RemoteHeader):
        return block
    header = await remote.header(block)
    if header is None:
        raise RemotePruned(f"it does not know block {block.hex()}")
    return header


async def _stored(remote: Remote, key: bytes, at: bytes, read: Callable[[bytes], T], what: str) -> T:
    value = await remote.storage(key, at)
    if value is None:
        raise Unreadable(f"no {what} in the state of block {at.hex()}")
    return read(value)
