"""C14: cascades far larger than one step or message; and the cost of an import does not grow with the chain."""

import random

import pytest
from blake3 import blake3
from chain_story import GENESIS, Listener, cause, digest

from messages.chain_api import Best, Blacklist, GovernanceStatus, ImportBlock, IsBlacklisted
from messages.chain_events import BestChainMoved, BlockRecorded, BlocksMarked, ChainStarted, LeavesMoved
from messages.message import Message
from messages.signals import BlocksBlacklisted
from overseer.memory.rows import MemoryRows
from overseer.tables import Overlay, Tables
from overseer.testing.given import Given
from subsystems.chain_api.config import ChainConfig
from subsystems.chain_api.subsystem import ChainApi
from subsystems.chain_api.tables import block_key, ref_of
from subsystems.chain_api.tree import ancestor, fork_point, read_block, skip_of_child


def parents_of(kind: str, count: int) -> list[int]:
    """The parent of each block 1..count; all but block 1 descend from block 1."""
    random_ = random.Random(14)
    match kind:
        case "chain":
            return list(range(count))
        case "star":
            return [0] + [1] * (count - 1)
        case _:
            return [0] + [random_.randrange(max(1, n - 50), n) for n in range(2, count + 1)]


def grown(kind: str, count: int) -> tuple[Given, list[bytes], list[int]]:
    """The tables after so many imports, told as one journal; hashes and heights by number of the block."""
    given = Given(ChainApi(ChainConfig(genesis=GENESIS)))
    overlay = Overlay(MemoryRows(given.rows.tables()))
    tables = Tables(overlay)
    hashes = [GENESIS, *(digest(n) for n in range(1, count + 1))]
    heights = [0]
    parents = parents_of(kind, count)
    evolve = given.subsystem.evolve
    evolve(tables, ChainStarted(genesis=GENESIS, validators=None))
    for n, above in enumerate(parents, 1):
        heights.append(heights[above] + 1)
        block = ImportBlock(hash=hashes[n], parent=hashes[above], number=heights[n], session=0)
        skip = skip_of_child(tables, hashes[above], read_block(tables, hashes[above]))
        evolve(tables, BlockRecorded(block=block, skip=skip, convicted_by=None))
    keys = [block_key(height, block) for height, block in zip(heights, hashes, strict=True)]
    inner = set(parents)
    tips = [keys[n] for n in range(1, count + 1) if n not in inner]
    best = ref_of(max(keys))
    events: list[Message] = [
        LeavesMoved(activated=b"".join(tips), covered=b"", put_off=b""),
        BestChainMoved(best=best, told=best, search=None, reverted=b"", applied=b"", returned=[], included=[], page=0, last=True),
    ]
    for event in events:
        evolve(tables, event)
    given.rows.apply(overlay)
    return given, hashes, heights


def restarted(given: Given) -> Given:
    """Another process over what was committed: tables and timers."""
    other = Given(ChainApi(ChainConfig(genesis=GENESIS)))
    other.rows = given.rows.copy()
    other.timers = dict(given.timers)
    other.now_ms = given.now_ms
    return other


def marked_in(events: list[Message]) -> int:
    return sum(len(run.keys) // 36 for event in events if isinstance(event, BlocksMarked) for run in event.runs)


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("random", 100_000),
        ("star", 20_000),
        pytest.param("chain", 100_000, marks=pytest.mark.slow),
        pytest.param("star", 100_000, marks=pytest.mark.slow),
    ],
)
def test_C14_a_huge_cascade_is_paged_complete_and_resumable(kind: str, count: int) -> None:
    given, hashes, heights = grown(kind, count)
    then = given.when(Blacklist(roots=[hashes[1]], cause=cause()))
    pages = then.sent_of(BlocksBlacklisted)
    assert given.ask(Best()).hash == GENESIS
    half = 0
    while half < count // 2:
        then = given.fire_one()
        assert then is not None
        assert marked_in(then.events) <= 2_000
        pages += then.sent_of(BlocksBlacklisted)
        half += marked_in(then.events)
    # Killed and started again, and another block comes below one that is not marked yet.
    given = restarted(given)
    lowest = max(range(1, count + 1), key=lambda n: (heights[n], hashes[n]))
    late = ImportBlock(hash=digest("late"), parent=hashes[lowest], number=heights[lowest] + 1, session=0)
    assert given.when(late).reply.blacklisted
    while then is not None:
        then = given.fire_one()
        pages += then.sent_of(BlocksBlacklisted) if then is not None else []
    found = [block for page in pages for block in page.hashes]
    assert len(found) == count
    assert set(found) == set(hashes[1:])
    assert [page.page for page in pages] == list(range(len(pages)))
    running = bytes(32)
    for page in pages:
        running = blake3(running + b"".join(page.hashes)).digest()
    assert (pages[-1].last, pages[-1].count, pages[-1].digest) == (True, count, running)
    assert given.ask(GovernanceStatus()).blacklisted == count + 1
    assert given.ask(IsBlacklisted(hash=digest("late"))).blacklisted
    assert given.ask(Best()).hash == GENESIS


def test_the_skips_of_blocks_lead_to_every_ancestor_and_fork_point() -> None:
    given, hashes, heights = grown("random", 400)
    parents = [None, *parents_of("random", 400)]
    lines: list[list[int]] = [[0]]
    for n in range(1, 401):
        lines.append([*lines[parents[n] or 0], n])
    random_ = random.Random(3)
    for _ in range(500):
        one, other = random_.randrange(401), random_.randrange(401)
        height = random_.randrange(heights[one] + 3)
        expected = hashes[lines[one][height]] if height <= heights[one] else None
        assert ancestor(given.view, hashes[one], height) == expected
        shared = [a for a, b in zip(lines[one], lines[other], strict=False) if a == b][-1]
        left, right = (block_key(heights[n], hashes[n]) for n in (one, other))
        assert fork_point(given.view, left, right) == block_key(heights[shared], hashes[shared])


class Counting(MemoryRows):
    """Rows that count what is read of them."""

    def __init__(self, rows: MemoryRows) -> None:
        super().__init__(rows.tables())
        for table in rows.tables():
            self.load(table, rows.scan(table, b"", None))
        self.reads = 0

    def get(self, table: str, key: bytes) -> bytes | None:
        self.reads += 1
        return super().get(table, key)

    def scan(self, table: str, start: bytes, end: bytes | None, *, reverse: bool = False):  # type: ignore[no-untyped-def]
        for row in super().scan(table, start, end, reverse=reverse):
            self.reads += 1
            yield row


def reads_of_an_import(count: int, on: int) -> int:
    given, hashes, heights = grown("chain", count)
    given.rows = counting = Counting(given.rows)
    on = on % (count + 1)
    assert given.when(ImportBlock(hash=digest("new"), parent=hashes[on], number=heights[on] + 1, session=0)).rejection is None
    return counting.reads


def test_an_import_reads_no_more_of_a_long_chain_than_of_a_short_one() -> None:
    assert reads_of_an_import(4_000, -1) == reads_of_an_import(20, -1)


def test_a_fork_deep_below_costs_no_walk_of_the_chain() -> None:
    assert reads_of_an_import(4_000, 3) <= reads_of_an_import(20, 3) + 40


def test_the_listener_follows_a_huge_fall_of_the_best_chain_page_by_page() -> None:
    given, hashes, _ = grown("chain", 5_000)
    heard = Listener()
    heard.best, heard.leaves = list(hashes), {hashes[-1]}
    heard.hear(given.when(Blacklist(roots=[hashes[100]], cause=cause())).sent)
    assert given.ask(Best()).hash == hashes[99]
    heard.hear(given.settle().sent)
    assert heard.best == hashes[:100]
    assert heard.leaves == {hashes[99]}
