"""The reckoning: what was acknowledged against what is stored, told and rewarded; by queries, and by reading the whole stream."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import anyio

from messages.chain_api import (
    Best,
    BlacklistStatus,
    GetHeader,
    GovernanceReport,
    GovernanceStatus,
    Header,
    IsBlacklisted,
    PendingTransactions,
    SubmitTransaction,
    TransactionIncluded,
    TransactionPool,
    TransactionQueued,
    TransactionReturned,
)
from messages.codec import decode
from messages.dispute_conclusion import Conclusion, ConclusionState, GetConclusion
from messages.message import Message
from messages.transaction import transaction_id
from messages.votes_db import DisputeStatus, QueryVotes, VotesSnapshot
from overseer.node.client import Client, Refused
from tests.crash.polls_reckoning import Counted, counted, told_problems
from tests.crash.queues_reckoning import QueueFound, shown
from tests.crash.traffic import PER_BLOCK, SESSION, Dispute, Traffic
from tests.node.nodes import Stored, answered, history, said_once

# Queries at once.
AT_ONCE = 16
SETTLE_S = 60.0

_T = TypeVar("_T")


class Found:
    """What the reckoning found: nothing lost, nothing doubled, nothing strange, or it says what."""

    def __init__(self) -> None:
        self.votes_stored = 0
        self.transactions = 0
        # The whole of the node's stream.
        self.messages: list[Stored] = []
        self.blacklisted = 0
        self.ballots = 0
        self.queue = QueueFound()
        self.lost: list[str] = []
        self.doubled: list[str] = []
        self.wrong: list[str] = []

    @property
    def clean(self) -> bool:
        return not (self.lost or self.doubled or self.wrong)


async def reckon(client: Client, traffic: Traffic) -> Found:
    """Wait until everything that follows has happened, then count."""
    found = Found()
    found.doubled += traffic.strange
    # The commands that the bus alone acknowledged are behind; what follows from a vote crosses three subsystems.
    await _each(traffic.disputes, lambda dispute: _dispute(client, dispute, found))
    await _chain(client, traffic, found)
    found.messages = await _transactions(client, traffic, found)
    await _elections(client, traffic, found)
    return found


async def _each(items: Sequence[_T], look: Callable[[_T], Awaitable[None]]) -> None:
    left = list(reversed(items))

    async def some() -> None:
        while left:
            await look(left.pop())

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(some)


async def _becomes(client: Client, query: Message, holds: Callable[[Message | Refused], bool]) -> Message | Refused:
    """The answer, once it holds; else the last one."""
    answer: Message | Refused | None = None
    with anyio.move_on_after(SETTLE_S):
        while True:
            try:
                answer = await answered(client, query)
            except Refused as refused:
                answer = refused
            if holds(answer):
                return answer
            await anyio.sleep(0.05)
    assert answer is not None
    return answer


async def _dispute(client: Client, dispute: Dispute, found: Found) -> None:
    """Every vote is there, once, as it was signed; the dispute ended as it had to, and so did the process behind it."""
    expected = dispute.votes()
    wanted = DisputeStatus.CONCLUDED_FOR if dispute.valid else DisputeStatus.CONCLUDED_AGAINST
    query = QueryVotes(session=SESSION, candidate=dispute.candidate)
    votes = await _becomes(client, query, lambda a: isinstance(a, VotesSnapshot) and a.status is wanted and len(a.votes) == len(expected))
    if not isinstance(votes, VotesSnapshot):
        found.lost.append(f"dispute {dispute.number}: {votes}")
        return
    stored = sorted((vote.validator, vote.kind, vote.signature) for vote in votes.votes)
    found.votes_stored += len(stored)
    found.lost += [f"dispute {dispute.number}: vote {vote[:2]}" for vote in expected if vote not in stored]
    found.wrong += [f"dispute {dispute.number}: nobody sent {vote[:2]}" for vote in stored if vote not in expected]
    if votes.status is not wanted:
        found.wrong.append(f"dispute {dispute.number} is {votes.status}, not {wanted}")
    state = ConclusionState.VALID if dispute.valid else ConclusionState.BLACKLISTED
    asked = GetConclusion(session=SESSION, candidate=dispute.candidate)
    conclusion = await _becomes(client, asked, lambda a: isinstance(a, Conclusion) and a.state is state)
    if not isinstance(conclusion, Conclusion) or conclusion.state is not state:
        found.wrong.append(f"the conclusion of dispute {dispute.number} is {conclusion}, not {state}"[:400])


async def _chain(client: Client, traffic: Traffic, found: Found) -> None:
    """Every acknowledged block is known; exactly the convicted ones are on the blacklist."""
    convicted = {dispute.number // PER_BLOCK for dispute in traffic.disputes if not dispute.valid}

    async def look(block: tuple[bytes, bool]) -> None:
        header = await _becomes(client, GetHeader(hash=block[0]), lambda a: isinstance(a, Header))
        if not isinstance(header, Header):
            found.lost.append(f"block {block[0].hex()[:8]}: {header}")
        as_expected = partial(_is, block[1])
        status = await _becomes(client, IsBlacklisted(hash=block[0]), as_expected)
        if not as_expected(status):
            found.wrong.append(f"block {block[0].hex()[:8]} should {'' if block[1] else 'not '}be blacklisted: {status}")

    expected = {block.hash: False for block in traffic.main} | {b.hash: height in convicted for height, b in enumerate(traffic.beside)}
    await _each(list(expected.items()), look)
    report = await answered(client, GovernanceStatus())
    assert isinstance(report, GovernanceReport)
    found.blacklisted = report.blacklisted
    if report.blacklisted != sum(expected.values()):
        found.wrong.append(f"{report.blacklisted} blocks are blacklisted, not {sum(expected.values())}")
    if report.entry:
        found.wrong.append("governance mode was entered: no final block was convicted")
    best = await answered(client, Best())
    if not isinstance(best, Header) or best.hash != traffic.main[-1].hash:
        found.wrong.append(f"the best block is {best}, not {traffic.main[-1].number}")


def _is(blacklisted: bool, answer: Message | Refused) -> bool:
    return isinstance(answer, BlacklistStatus) and answer.blacklisted is blacklisted


async def _pool(client: Client) -> list[bytes]:
    ids: list[bytes] = []
    after: bytes | None = None
    while True:
        page = await answered(client, PendingTransactions(after=after, limit=500))
        assert isinstance(page, TransactionPool)
        ids += [row.id for row in page.transactions]
        after = page.next
        if after is None:
            return ids


async def _elections(client: Client, traffic: Traffic, found: Found) -> None:
    """Every event of every election is what was acknowledged, every ballot counts once, and the course of each was told once.

    The queue as well; what became of it is compared with its model when the node has ended (`Report.course`).
    """
    count = Counted()
    await _each(traffic.polls.elections, lambda election: counted(partial(answered, client), election, count))
    found.ballots = count.ballots
    found.lost += count.lost
    found.doubled += count.doubled
    found.wrong += count.wrong + told_problems(found.messages, traffic.polls.elections)
    queue = found.queue = await shown(partial(answered, client), traffic.queue)
    found.lost += queue.lost
    found.doubled += queue.doubled
    found.wrong += queue.wrong


async def _transactions(client: Client, traffic: Traffic, found: Found) -> list[Stored]:
    """Every vote is paid once: submitted once, queued once, and now either in the pool or executed in one block.

    Returns the whole of the stream.
    """
    expected = Counter(id for dispute in traffic.disputes for id in dispute.transactions())
    assert set(expected.values()) <= {1}
    last = -1
    with anyio.move_on_after(SETTLE_S):
        # What was submitted is on its way into the pool: until nothing comes any more and all is there.
        while True:
            messages = await history(client)
            if len(messages) == last:
                break
            last = len(messages)
            await anyio.sleep(1)
    try:
        said_once(messages)
    except AssertionError as error:
        found.doubled.append(str(error)[:400])
    told = Told(messages)
    pooled = Counter(await _pool(client))
    executed = Counter({id: told.included[id] - told.returned[id] for id in told.included})
    found.transactions = sum((told.submitted & expected).values())
    held = Counter({id: pooled[id] + executed[id] for id in {*pooled, *executed}})
    for what, count in (("submitted", told.submitted), ("queued", told.queued), ("in the pool or executed", held)):
        found.lost += [f"transaction {id.hex()[:8]} was not {what}" for id in expected if not count[id]]
        found.doubled += [f"transaction {id.hex()[:8]} was {what} {n} times" for id, n in count.items() if n > 1]
        found.wrong += [f"transaction {id.hex()[:8]} was {what}, which nobody earned" for id in +count if id not in expected]
    found.wrong += [f"{message.subject} at {message.sequence}" for message in messages if message.subject.endswith(".rejected")]
    return messages


class Told:
    """What the stream says about transactions, by identity."""

    def __init__(self, messages: Sequence[Stored]) -> None:
        self.submitted: Counter[bytes] = Counter()
        self.queued: Counter[bytes] = Counter()
        self.included: Counter[bytes] = Counter()
        self.returned: Counter[bytes] = Counter()
        facts = {
            "evt.transaction_queued": (TransactionQueued, self.queued),
            "evt.transaction_included": (TransactionIncluded, self.included),
            "evt.transaction_returned": (TransactionReturned, self.returned),
        }
        for message in messages:
            _, _, sender, what = message.subject.split(".", 3)
            if sender == "votes_db" and what == "cmd.chain_api.submit_transaction":
                submitted = decode(SubmitTransaction.spec, message.body)
                assert isinstance(submitted, SubmitTransaction)
                self.submitted.update(map(transaction_id, submitted.transactions))
            elif sender == "chain_api" and what in facts:
                kind, counter = facts[what]
                fact = decode(kind.spec, message.body)
                assert isinstance(fact, kind)
                counter[fact.id] += 1
