"""Convictions and their cascades.

A conviction takes effect for all descendants in the commit that records it: what is not marked yet is known by its ancestry.
Marking follows in bounded steps, one cascade after the other, and tells the pages of `blocks_blacklisted`.
"""

from hashlib import blake2b
from itertools import takewhile

from messages.chain_api import BadBlock, Blacklist, BlocksReverted, LiftRevert, Revert, RevertLifted, UnknownBlock
from messages.chain_events import BLOCK_KEY_BYTES, BlacklistRecorded, BlocksMarked, Conviction, GovernanceEntry, MarkCursor, MarkedRun
from messages.message import Rejection
from messages.polkadot import DisputeRef
from messages.signals import BlockRef
from overseer.subsystem import Decision
from subsystems.chain_api import best, leaves
from subsystems.chain_api.chain import Chain, Draft
from subsystems.chain_api.evolve_blacklist import digest_of
from subsystems.chain_api.tables import (
    ACTIVE,
    CASCADES,
    CAUSES,
    CONVICTED,
    MARKS,
    PENDING,
    REVERTED,
    ROOT_OF,
    Cascade,
    hash_of,
    number_of,
    ref_of,
)
from subsystems.chain_api.tree import Descent, Verdict, is_ancestor

__all__ = ["blacklist", "governance_for", "lift_revert", "mark", "revert"]

# A level's blocks outside the cascade cost a look each; so many looks count as one mark.
_ROWS_PER_MARK = 4
# What beginning with one more root counts for, in marks.
_MARKS_PER_ROOT = 10


def _find(chain: Chain, blocks: list[bytes]) -> list[bytes] | Rejection:
    """Their block keys, lowest first, each once. Genesis can be neither reverted nor convicted."""
    keys: set[bytes] = set()
    for block in blocks:
        key = chain.key(block)
        if key is None:
            return UnknownBlock(hash=block)
        if not number_of(key):
            return BadBlock(hash=block, detail="genesis stands")
        keys.add(key)
    return sorted(keys)


def governance_for(chain: Chain, bad: list[bytes]) -> GovernanceEntry | None:
    """What final blocks found bad mean: the mode entered, frozen lower, or (C12) nothing new."""
    state = chain.state
    if not bad:
        return None
    frozen_at = number_of(min(bad)) - 1
    if not state.governance:
        return GovernanceEntry(state.entry + 1, frozen_at)
    return GovernanceEntry(state.entry, frozen_at) if frozen_at < state.frozen_at else None


def revert(draft: Draft, message: Revert) -> Decision | Rejection:
    """Stop building on blocks until it is lifted; once for each cause, and not after the cause was judged."""
    keys = _find(draft, message.blocks)
    if isinstance(keys, Rejection):
        return keys
    place = (message.cause.session, message.cause.candidate)
    fresh = [hash_of(key) for key in keys if not any(draft.tables.has(table, (hash_of(key), *place)) for table in (REVERTED, CAUSES))]
    if fresh:
        draft.record(BlocksReverted(blocks=fresh, cause=message.cause))
        best.reconsider(draft)
        # A search in progress has looked at such blocks already.
        best.consider(draft, [draft.parent(key) for key in keys])
        best.search(draft)
        best.announce(draft)
    return draft.decision()


def lift_revert(draft: Draft, message: LiftRevert) -> Decision:
    place = (message.cause.session, message.cause.candidate)
    lifted = [block for block in dict.fromkeys(message.blocks) if draft.tables.has(REVERTED, (block, *place))]
    if lifted:
        draft.record(RevertLifted(blocks=lifted, cause=message.cause))
        best.reconsider(draft)
        best.search_all(draft)
        best.search(draft)
        best.announce(draft)
    return draft.decision()


def blacklist(draft: Draft, message: Blacklist) -> Decision | Rejection:
    """Convict the roots, decide on governance mode, and mark what one step allows (C06, C08, C11, C17, C20)."""
    keys = _find(draft, message.roots)
    if isinstance(keys, Rejection):
        return keys
    cause = message.cause
    keys = [key for key in keys if not draft.tables.has(CAUSES, (hash_of(key), cause.session, cause.candidate))]
    if not keys:
        return draft.decision()
    state = draft.state
    convictions: list[Conviction] = []
    final: list[bytes] = []
    next_id = state.conviction
    for key in keys:
        known = draft.tables.get(CONVICTED, (number_of(key), hash_of(key)))
        convictions.append(Conviction(next_id if known is None else known.id, hash_of(key), number_of(key), known is None))
        if known is None:
            next_id += 1
            if is_ancestor(draft.tables, key, state.finalized):
                final.append(key)
    draft.record(
        BlacklistRecorded(
            cascade=state.cascade,
            cascade_id=_cascade_id(state.genesis, state.cascade, cause, keys),
            cause=cause,
            convictions=convictions,
            final=[ref_of(key) for key in final],
            governance=governance_for(draft, final),
        )
    )
    fallen = _step(draft, draft.config.mark_step)
    fresh = [BlockRef(c.hash, c.number) for c in convictions if c.fresh]
    bared = _bared(draft, fresh)
    leaves.move(draft, activated=bared, put_off=fallen)
    best.reconsider(draft)
    best.search(draft)
    best.announce(draft)
    return draft.decision()


def _cascade_id(genesis: bytes, cascade: int, cause: DisputeRef, keys: list[bytes]) -> bytes:
    parts = (genesis, cascade.to_bytes(4, "big"), cause.session.to_bytes(4, "big"), cause.candidate, *keys)
    return blake2b(b"".join(parts), digest_size=32, person=b"cascade").digest()


def _bared(draft: Draft, roots: list[BlockRef]) -> list[bytes]:
    """Parents that are leaves now that all their children are convicted."""
    parents = {draft.parent(root.number.to_bytes(4, "big") + root.hash) for root in roots}
    return sorted(key for key in parents if leaves.is_dormant(draft.tables, key) and leaves.may_be_active(draft, key))


def mark(draft: Draft) -> None:
    """The next step of the cascade in progress."""
    if draft.state.cascades:
        leaves.move(draft, put_off=_step(draft, draft.config.mark_step))


def _step(draft: Draft, room: int) -> list[bytes]:
    """Mark the next blocks of the oldest cascade; the active leaves among them."""
    (serial,), cascade = next(draft.tables.scan(CASCADES))
    runs: list[MarkedRun] = []
    cursors: list[MarkCursor] = []
    fallen: list[bytes] = []
    pending = list(draft.tables.scan(PENDING, (serial,)))
    for (_, conviction), cursor in pending:
        if room <= 0:
            break
        marker = _Marker(draft, conviction, cursor, room)
        keys = marker.run()
        if keys:
            runs.append(MarkedRun(conviction, b"".join(keys)))
            fallen += marker.fallen
            if len(pending) > 1:
                # What several roots of this step reach is marked once: the later ones must see the marks.
                draft.tables.put_all_packed(MARKS, keys, conviction.to_bytes(4, "big"))
        cursors.append(marker.cursor)
        room -= len(keys) + marker.rows // _ROWS_PER_MARK + _MARKS_PER_ROOT
    finished = sum(cursor.done for cursor in cursors) == len(pending)
    draft.record(_marked(serial, cascade, runs, cursors, finished))
    return fallen


def _marked(serial: int, cascade: Cascade, runs: list[MarkedRun], cursors: list[MarkCursor], finished: bool) -> BlocksMarked:
    told = not cascade.silent and (bool(runs) or finished)
    return BlocksMarked(
        cascade=serial,
        cascade_id=cascade.id,
        roots=cascade.roots,
        cause=cascade.cause,
        runs=runs,
        cursors=cursors,
        page=cascade.page if told else None,
        last=finished,
        count=cascade.count + sum(len(run.keys) // BLOCK_KEY_BYTES for run in runs),
        digest=digest_of(cascade.digest, runs) if told else cascade.digest,
    )


class _Marker:
    """One step along the cascade of one conviction."""

    def __init__(self, draft: Draft, conviction: int, cursor: bytes, room: int) -> None:
        self._tables = draft.tables
        self._conviction = conviction
        self._mine = conviction.to_bytes(4, "big")
        self._root = draft.root_of(conviction)
        self._begins = not cursor
        self._room = room
        self._descent = Descent(
            draft.tables,
            self._root,
            last=cursor[:BLOCK_KEY_BYTES] or None,
            hit=cursor[-1:] != b"\x00",
            known=lambda parent: draft.tables.get_packed(MARKS, parent) == self._mine,
            rows_max=room * _ROWS_PER_MARK,
        )
        self._standing: dict[bytes, bool] = {}
        self.done = False
        # Active leaves among the marked.
        self.fallen: list[bytes] = []

    @property
    def rows(self) -> int:
        return self._descent.rows

    @property
    def cursor(self) -> MarkCursor:
        return MarkCursor(self._conviction, self._descent.last, self._descent.hit, self.done)

    def _stands(self, mark: bytes) -> bool:
        found = self._standing.get(mark)
        if found is None:
            found = self._standing[mark] = self._tables.get_packed(ROOT_OF, mark) is not None
        return found

    def run(self) -> list[bytes]:
        """The block keys to be marked, in order. Blocks under another standing conviction are marked, or will be, by that one."""
        keys: list[bytes] = []
        if self._begins:
            mark = self._tables.get_packed(MARKS, self._root)
            if mark != self._mine:
                if mark is not None and self._stands(mark):
                    self.done = True
                    return keys
                keys.append(self._root)
                if leaves.is_listed(self._tables, self._root):
                    self.fallen.append(self._root)
        self._below(keys)
        return keys

    def _judge(self, mark: bytes) -> Verdict:
        if mark == self._mine:
            return Verdict.PASS
        return Verdict.CUT if self._stands(mark) else Verdict.TAKE

    def _below(self, keys: list[bytes]) -> None:
        descent = self._descent
        start = descent.last
        # Marks are in the order of the walk: they are read along with it instead of asked for each block.
        found = descent.walk(self._room, self._tables.scan_packed(MARKS, start=MARKS.unpack(start)), self._judge)
        self.done = descent.done
        if found:
            keys += found
            rows = self._tables.scan_packed(ACTIVE, start=ACTIVE.unpack(start))
            listed = [key for key, _ in takewhile(lambda row: row[0] <= found[-1], rows)]
            if listed:
                self.fallen += sorted(set(found).intersection(listed))
