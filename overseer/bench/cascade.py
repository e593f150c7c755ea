"""`cascade`: marking all descendants of a convicted block, telling them page by page, while others are answered meanwhile."""

import shutil
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from hashlib import blake2b
from itertools import count
from pathlib import Path

import anyio

from messages.chain_api import Blacklist, ImportBlock
from messages.chain_events import BestChainMoved, BlockRecorded, LeavesMoved
from messages.chain_queries import IsBlacklisted
from messages.codec import encode
from messages.message import Message
from messages.polkadot import DisputeRef
from messages.signals import BlockRef
from messages.subjects import CONTENT_CBOR, HEADER_CONTENT_TYPE, build, request_subject
from overseer.bench.bare_rows import bare_writes
from overseer.bench.measure import Measure, Report, Sizes, judged
from overseer.bench.site import NODE, OPERATOR, Site, open_site
from overseer.bench.votes import chain_of_bench
from overseer.checks import InlineVerifier
from overseer.nats.exchange import NatsExchange
from overseer.node.folder import NodeFolder
from overseer.node.hosting import open_store
from overseer.rocks.store import RocksStore
from overseer.tables import Overlay, Tables, View
from subsystems.chain_api.chain import Chain
from subsystems.chain_api.subsystem import ChainApi
from subsystems.chain_api.tables import STATE, block_key, ref_of
from subsystems.chain_api.tree import read_block, skip_of_child
from subsystems.dispute_conclusion.subsystem import DisputeConclusion

__all__ = ["cascade"]

# The descendants are so many chains of the same length below one block; the longest chain of all is among them.
_BRANCHES = 10
_BLOCKS_PER_COMMIT = 5_000
_CAUSE = DisputeRef(session=0, candidate=bytes(32))
_ANSWER_MS_MAX = 250
_ASK_EVERY_S = 0.01
_ASK_TIMEOUT_MS = 10_000


def _hash(*parts: object) -> bytes:
    return blake2b(repr(parts).encode(), digest_size=32).digest()


_ROOT = _hash("root")


async def cascade(folder: Path, sizes: Sizes, report: Report) -> list[Measure]:
    chain = chain_of_bench()
    report("growing the tree")
    await _grow(folder / "grown", chain, sizes.descendants)
    pairs: list[tuple[float, float]] = []
    answers: list[tuple[float, float]] = []
    for number in range(sizes.cascades):
        report(f"cascade {number + 1} of {sizes.cascades}")
        limit = _bare_marks(folder / f"bare-{number}", sizes.descendants, chain.config.mark_step)
        place = folder / f"site-{number}"
        shutil.copytree(folder / "grown" / "stores", place / "stores")
        async with open_site(place, [chain, DisputeConclusion()]) as site:
            rate, slowest_ms = await _cascade(site, chain, sizes.descendants)
        pairs.append((rate, limit))
        answers.append((slowest_ms, _ANSWER_MS_MAX))
    return [
        judged(
            "cascade",
            f"blocks blacklisted by one conviction with {sizes.descendants} descendants",
            pairs,
            unit="blocks/s",
            limited_by="bare RocksDB writes of as many marks, as many to a synced batch",
            target=0.30,
        ),
        judged(
            "cascade_answers",
            "slowest answer to queries and commands during the cascade",
            answers,
            unit="ms",
            limited_by="what is allowed",
            target=1.0,
            at_most=True,
        ),
    ]


# ------------------------------------------------------------------------------------------------ the tree


async def _grow(folder: Path, chain: ChainApi, descendants: int) -> None:
    """A store with the tree in its tables, as its events build them; without journal."""
    store = open_store(NodeFolder(folder), NODE, chain.declaration)
    try:
        begin = Chain(View(store), chain.config).beginning
        parents = [_ROOT] * _BRANCHES
        first = ImportBlock(hash=_ROOT, parent=chain.config.genesis, number=1, session=0)
        await _apply(store, chain, [begin], [first])
        blocks: list[ImportBlock] = []
        for serial in range(descendants):
            branch, number = serial % _BRANCHES, 2 + serial // _BRANCHES
            block = ImportBlock(hash=_hash(serial), parent=parents[branch], number=number, session=0)
            parents[branch] = block.hash
            blocks.append(block)
            if len(blocks) == _BLOCKS_PER_COMMIT or serial == descendants - 1:
                await _apply(store, chain, [], blocks)
                blocks = []
        view = View(store)
        leaves = sorted(block_key(read_block(view, leaf).number, leaf) for leaf in set(parents))
        await _apply(store, chain, [LeavesMoved(activated=b"".join(leaves), covered=b"", put_off=b""), _best(ref_of(leaves[-1]))], [])
    finally:
        store.close()


async def _apply(store: RocksStore, chain: ChainApi, events: list[Message], blocks: list[ImportBlock]) -> None:
    writes = Overlay(store)
    tables = Tables(writes)
    for event in events:
        chain.evolve(tables, event)
    for block in blocks:
        skip = skip_of_child(tables, block.parent, read_block(tables, block.parent))
        chain.evolve(tables, BlockRecorded(block=block, skip=skip, convicted_by=None))
    await store.commit(writes)


def _best(block: BlockRef) -> BestChainMoved:
    return BestChainMoved(best=block, told=block, search=None, reverted=b"", applied=b"", returned=[], included=[], page=0, last=True)


# ------------------------------------------------------------------------------------------------ limit and measured


def _bare_marks(folder: Path, marks: int, per_batch: int) -> float:
    """Marks written in a second by RocksDB alone."""
    keys = [i.to_bytes(4, "big") + _hash(i) for i in range(marks)]
    mark = (1).to_bytes(4, "big")
    return bare_writes(folder, [(key, mark) for key in keys], per_batch)


async def _cascade(site: Site, chain: ChainApi, descendants: int) -> tuple[float, float]:
    """(blocks blacklisted in a second, the slowest answer meanwhile in ms)."""
    async with (
        site.feeder("dispute_conclusion") as dispute_conclusion,
        site.exchange(OPERATOR) as operator,
        site.working(chain, InlineVerifier(), gauge=_blacklisted) as work,
        _asking(operator, chain.config.genesis) as asking,
    ):
        await asking.answered()
        asking.slowest_s = 0.0
        began = time.perf_counter() - work.ready_s
        await dispute_conclusion.tell(Blacklist(roots=[_ROOT], cause=_CAUSE))
        took = await work.until(descendants + 1) - began
        # Who asked before it ended and still waits counts.
        await asking.answered()
        return descendants / took, 1_000 * asking.slowest_s


def _blacklisted(store: RocksStore) -> int:
    """Blocks marked so far."""
    state = View(store).get(STATE, (0,))
    return 0 if state is None else state.blacklisted


class _Asking:
    """Somebody who asks a query and sends a command in turns, one at a time, for ever, and times the answers."""

    def __init__(self, operator: NatsExchange, genesis: bytes) -> None:
        self.slowest_s = 0.0
        self._operator = operator
        self._genesis = genesis
        self._next = anyio.Event()

    async def answered(self) -> None:
        """Return with the next answer."""
        await self._next.wait()

    async def run(self) -> None:
        for number in count():
            block = ImportBlock(hash=_hash("asked", number), parent=self._genesis, number=1, session=0)
            await self._ask(build(NODE, "", IsBlacklisted.spec), IsBlacklisted(hash=_hash(number)))
            await self._ask(request_subject(NODE, ImportBlock.spec), block)

    async def _ask(self, subject: str, message: Message) -> None:
        began = time.perf_counter()
        response = await self._operator.request(subject, encode(message), {HEADER_CONTENT_TYPE: CONTENT_CBOR}, _ASK_TIMEOUT_MS)
        if response.error is not None:
            raise RuntimeError(f"{subject}: {response.error}")
        self.slowest_s = max(self.slowest_s, time.perf_counter() - began)
        self._next.set()
        self._next = anyio.Event()
        await anyio.sleep(_ASK_EVERY_S)


@asynccontextmanager
async def _asking(operator: NatsExchange, genesis: bytes) -> AsyncGenerator[_Asking, None]:
    asking = _Asking(operator, genesis)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(asking.run)
        yield asking
        tasks.cancel_scope.cancel()
