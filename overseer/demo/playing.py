"""Plays a story against a running node, and finds out what it came to."""

from collections.abc import AsyncGenerator, Callable
from typing import Protocol, TypeVar

import anyio
import msgspec

from messages.chain_api import GovernanceReport, GovernanceStatus
from messages.codec import decode
from messages.elections import ElectionHistory, HistoryRow, OfElection, QueryHistory
from messages.message import Message
from messages.overseer import CommandOutcome
from messages.signals import GovernanceState
from messages.votes_db import DisputeStatus, DisputeSummaries, QueryVotes, RecentDisputes, VotesRegistered, VotesSnapshot
from overseer.feeds.story import ACCEPTED, Await, Scene, Send, Story
from overseer.node.client import Client, Refused
from overseer.ports.bus import BusError
from overseer.sites.client import NO_OUTCOME, SitesClient

__all__ = [
    "LOOK_AGAIN_S",
    "PATIENCE_S",
    "Asked",
    "Outcome",
    "Played",
    "Sited",
    "Unexpected",
    "asked",
    "find_out",
    "history_of",
    "play",
]

# How long anything may take before the story is given up, and how often it is looked at again.
PATIENCE_S = 30.0
LOOK_AGAIN_S = 0.01
# A subsystem that was killed answers nobody: its successor is asked after this long.
ANSWER_MS = 4_000

_M = TypeVar("_M", bound=Message)


class Unexpected(Exception):
    """The node did something else than the story says."""


class Asked(Protocol):
    """Whoever takes commands and queries: a `Client`."""

    async def query(self, query: Message) -> Message: ...
    async def request(self, command: Message, *, command_id: str = ..., timeout_ms: int = ...) -> CommandOutcome: ...


class Sited:
    """A client of a node whose elections are on several sites: those are asked about them."""

    def __init__(self, client: Client, sites: SitesClient) -> None:
        self._client = client
        self._sites = sites

    async def query(self, query: Message) -> Message:
        """The reply. Raises Refused, BusError."""
        return await (self._sites if isinstance(query, OfElection) else self._client).query(query)

    async def request(self, command: Message, *, command_id: str = "", timeout_ms: int = ANSWER_MS) -> CommandOutcome:
        """The outcome; elections are waited for as long as their client does. Raises Refused, BusError."""
        if isinstance(command, OfElection):
            return await self._sites.request(command, command_id=command_id)
        return await self._client.request(command, command_id=command_id, timeout_ms=timeout_ms)


class Played(msgspec.Struct):
    """What playing counted."""

    sent: int = 0
    votes_sent: int = 0
    votes_stored: int = 0


class Outcome(msgspec.Struct, kw_only=True):
    """What the node says at the end, and every difference from what the story comes to."""

    votes_stored: int
    disputes: int
    concluded_for: int
    concluded_against: int
    blacklisted: int
    governance_entered: bool
    governance_left: bool
    differences: list[str]


async def play(client: Asked, story: Story, told: Callable[[int, Scene | Send | Await], None]) -> Played:
    """All steps in order; `told` hears of each before it is done. Raises Unexpected."""
    played = Played()
    for number, step in enumerate(story.steps):
        told(number, step)
        match step:
            case Scene():
                pass
            case Send():
                await _send(client, number, step, played)
            case Await():
                await _await(client, step)
    return played


async def _send(client: Asked, number: int, step: Send, played: Played) -> None:
    spec = step.message.spec
    code, reply, attempt = "", None, 0
    with anyio.move_on_after(PATIENCE_S):
        while True:
            try:
                outcome = await client.request(step.message, command_id=f"demo-{number}-{attempt}", timeout_ms=ANSWER_MS)
                code, reply = ACCEPTED, outcome.reply
                break
            except Refused as refused:
                code = refused.code
                if code == step.outcome or not refused.retriable:
                    break
                # A refusal is what came of this id, for good; where none came in time, the same id learns it.
                attempt += code not in NO_OUTCOME
            except BusError as error:
                # Asked again under the same id, it has one effect however often it arrived.
                code = str(error)
            await anyio.sleep(LOOK_AGAIN_S)
    if code != step.outcome:
        raise Unexpected(f"step {number}: {spec.name} ended as {code or 'nothing at all'}, expected {step.outcome}")
    played.sent += 1
    if reply is not None and spec.reply is not None:
        answer = decode(spec.reply.spec, reply)
        if isinstance(answer, VotesRegistered):
            found = tuple(vote.outcome for vote in answer.outcomes)
            played.votes_sent += len(found)
            played.votes_stored += sum(outcome in ("stored", "double_vote") for outcome in found)
            if step.votes is not None and found != step.votes:
                raise Unexpected(f"step {number}: votes ended as {[v.value for v in found]}, expected {[v.value for v in step.votes]}")


async def _await(client: Asked, step: Await) -> None:
    answer: Message | None = None
    with anyio.move_on_after(PATIENCE_S):
        while True:
            answer = await asked(client, step.query)
            if step.holds(answer):
                return
            await anyio.sleep(LOOK_AGAIN_S)
    raise Unexpected(f"never came true: {step.what}; the answer is {answer}")


async def asked(client: Asked, query: Message) -> Message:
    """The reply, or the typed rejection it was refused with. A subsystem that restarts is waited for."""
    for _ in range(int(PATIENCE_S / LOOK_AGAIN_S)):
        try:
            return await client.query(query)
        except Refused as refused:
            if isinstance(refused.detail, Message):
                return refused.detail
            if not refused.retriable:
                raise
        except BusError:
            pass
        await anyio.sleep(LOOK_AGAIN_S)
    raise Unexpected(f"{query.spec.owner} does not answer {query.spec.name}")


async def history_of(client: Asked | SitesClient, election: str) -> AsyncGenerator[HistoryRow, None]:
    """All events of an election, page by page. Raises Refused, BusError."""
    start, more = 1, True
    while more:
        page = await client.query(QueryHistory(election=election, start=start))
        assert isinstance(page, ElectionHistory)
        for row in page.events:
            yield row
            start = row.sequence + 1
        more = page.more


async def find_out(client: Asked, story: Story) -> Outcome:
    """Ask all that can be asked, and compare."""
    expected = story.expected
    differences: list[str] = []
    for question in story.questions:
        answer = await asked(client, question.query)
        if not question.holds(answer):
            differences.append(f"{question.what}: {answer}"[:500])
    votes = 0
    for session, candidate in expected.votes:
        snapshot = await _get(client, QueryVotes(session=session, candidate=candidate), VotesSnapshot)
        votes += len(snapshot.votes)
    summaries = await _get(client, RecentDisputes(), DisputeSummaries)
    statuses = [summary.status for summary in summaries.disputes if summary.status is not DisputeStatus.NONE]
    report = await _get(client, GovernanceStatus(), GovernanceReport)
    outcome = Outcome(
        votes_stored=votes,
        disputes=len(statuses),
        concluded_for=statuses.count(DisputeStatus.CONCLUDED_FOR),
        concluded_against=statuses.count(DisputeStatus.CONCLUDED_AGAINST),
        blacklisted=report.blacklisted,
        governance_entered=report.entry > 0,
        governance_left=report.entry > 0 and report.state is GovernanceState.LEFT,
        differences=differences,
    )
    for what, found, wanted in (
        ("votes stored", outcome.votes_stored, expected.votes_stored),
        ("disputes", outcome.disputes, len(expected.disputes)),
        ("concluded for", outcome.concluded_for, len(expected.concluded_for)),
        ("concluded against", outcome.concluded_against, len(expected.concluded_against)),
        ("blacklisted blocks", outcome.blacklisted, len(expected.blacklisted)),
        ("entries into governance mode", report.entry, expected.governance_entries),
    ):
        if found != wanted:
            differences.append(f"{what}: {found}, expected {wanted}")
    return outcome


async def _get(client: Asked, query: Message, kind: type[_M]) -> _M:
    answer = await asked(client, query)
    if not isinstance(answer, kind):
        raise Unexpected(f"{query.spec.name} was answered by {answer}")
    return answer
