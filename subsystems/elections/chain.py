"""What elections know of the chain, from the node's signals: the best chain's blocks by height, and the session's validators.

These rows belong to no election. With one site they are made of recorded events; with several each site keeps its own, from the same
stream. A block is on the best chain, and so not blacklisted, while its row is here: one that is blacklisted leaves the best chain. Heights
far below the best are forgotten (`ElectionsConfig.chain_blocks_kept`).
"""

from collections.abc import Iterator, Sequence

import msgspec

from messages.elections import ChainSeen, SessionSeen
from messages.message import Message
from messages.signals import BestChain, BlockRef, SessionChange
from overseer.subsystem import Context
from overseer.tables import HASH, U8, U32, Table, Tables, View

__all__ = ["BEST", "CHAIN", "FOLLOWING", "SESSION", "Chain", "ChainRow", "apply", "followers", "seen"]


class ChainRow(msgspec.Struct, frozen=True, array_like=True):
    """The best block's height; the height below which blocks were forgotten; when and where the last signal was stored.

    Between `lowest` and `height` blocks are unknown only where a signal began above our end.
    """

    height: int
    lowest: int
    at_ms: int
    position: int


# (0)
CHAIN = Table("chain", key=(U8,), value=ChainRow)
# (height) -> hash
BEST = Table("chain_best", key=(U32,), value=bytes)
# (validator) -> nothing
SESSION = Table("chain_session", key=(HASH,), value=bytes)
# (election) -> key: the elections to which the chain matters. A part of the election, and copied with it.
FOLLOWING = Table("following", key=(HASH,), value=str)

_UNKNOWN = ChainRow(0, 1, 0, 0)


class Chain:
    """What `view` knows. Before the first signal the height is 0, and no block is known."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.row = view.get(CHAIN, (0,)) or _UNKNOWN

    @property
    def height(self) -> int:
        return self.row.height

    def block(self, height: int) -> BlockRef | None:
        """The best chain's block there; None above its end, and where it is not known any more."""
        found = self._view.get(BEST, (height,))
        return None if found is None else BlockRef(found, height)

    @property
    def best(self) -> BlockRef | None:
        return self.block(self.height)

    def known_from(self, height: int) -> int:
        """The first height from there on at which the block is known; the one above the end where there is none."""
        found = next(self._view.scan_packed(BEST, start=(height,)), None)
        return self.height + 1 if found is None else BEST.unpack(found[0])[0]

    def stands(self, block: BlockRef) -> bool:
        """Whether a block that once was on the best chain is there still. What was forgotten had not left it."""
        if block.number > self.height:
            return False
        return block.number < self.row.lowest or self._view.get(BEST, (block.number,)) == block.hash

    def in_session(self, key: bytes) -> bool:
        return self._view.has(SESSION, (key,))


def seen(view: View, signal: Message, context: Context, *, blocks_kept: int) -> Sequence[Message]:
    """The events that a signal makes: none where nothing is new in it (G08)."""
    match signal:
        case BestChain():
            event = _moved(Chain(view), signal, context, blocks_kept)
            return () if event is None else (event,)
        case SessionChange():
            keys = sorted({validator.key for validator in signal.validators})
            known = [key for (key,), _ in view.scan(SESSION)]
            return () if keys == known else (SessionSeen(index=signal.index, validators=keys),)
        case _:
            return ()


def _moved(chain: Chain, signal: BestChain, context: Context, blocks_kept: int) -> ChainSeen | None:
    applied = list(signal.applied)
    while applied and not signal.reverted and chain.block(applied[0].number) == applied[0]:
        applied.pop(0)
    numbers = [ref.number for ref in (*signal.reverted, *applied)]
    if not numbers:
        return None
    first = min(numbers)
    # Whoever takes back what is above our end repeats what we have heard to its end (its store was set back): it was taken back then.
    if signal.reverted and first > chain.height + 1:
        return None
    hashes = [ref.hash for ref in applied]
    # Anything else is no chain; `chain_api` never tells it.
    if [ref.number for ref in applied] != list(range(first, first + len(applied))) or first == 0:
        return None
    height, row = first - 1 + len(hashes), chain.row
    # The stream's clock may have been set back; what is behind in the stream is later all the same.
    at_ms = max(row.at_ms, context.now_ms)
    # A stream that was replaced counts anew; the time above tells the two apart, unless its clock was set back as well.
    position = context.position if at_ms > row.at_ms else max(row.position, context.position)
    forgotten = max(row.lowest, height - blocks_kept + 1)
    return ChainSeen(kept=first - 1, hashes=hashes, forgotten=forgotten, at_ms=at_ms, position=position)


def apply(tables: Tables, event: ChainSeen | SessionSeen) -> None:
    """One event to the rows."""
    match event:
        case ChainSeen():
            _apply_blocks(tables, event)
        case SessionSeen():
            tables.delete_range(SESSION)
            for key in event.validators:
                tables.put(SESSION, (key,), b"")


def _apply_blocks(tables: Tables, event: ChainSeen) -> None:
    row = Chain(tables).row
    _forget(tables, max(event.kept + 1, row.lowest), row.height + 1)
    # What begins above our end leaves a gap: signals between are lost, or a chain that was set back repeats what was taken back since. What
    # is known below is known in either case.
    nothing = row.height < row.lowest
    lowest = event.kept + 1 if nothing and event.kept > row.height else row.lowest
    for number, block in enumerate(event.hashes, event.kept + 1):
        tables.put(BEST, (number,), block)
    _forget(tables, lowest, min(event.forgotten, event.kept + 1))
    height = event.kept + len(event.hashes)
    lowest = min(max(lowest, event.forgotten), event.kept + 1)
    tables.put(CHAIN, (0,), ChainRow(height, lowest, event.at_ms, event.position))


def _forget(tables: Tables, start: int, end: int) -> None:
    """The blocks from `start` to before `end`. As many deletions as there are rows: a gap may be of any size."""
    if start < end:
        for (height,), _ in list(tables.scan(BEST, start=(start,), end=(end,))):
            tables.delete(BEST, (height,))


def followers(view: View) -> Iterator[str]:
    """The keys of the elections to which the chain matters."""
    return (key for _, key in view.scan(FOLLOWING))
