"""The reckoning of elections: what was acknowledged against what a copy of each election shows, event by event and counted."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from messages.ballots import BallotCast, BallotElection, GetBallotElection
from messages.codec import decode
from messages.elections import ElectionHistory, ProjectionPage, QueryHistory, QueryProjection
from messages.message import CATALOG, Message
from messages.subjects import HEADER_ID
from tests.crash.polls import FACTS, VOTERS, Election
from tests.node.nodes import Stored

__all__ = ["Counted", "counted", "events_by_number", "facts_told", "told_problems"]

Query = Callable[[Message], Awaitable[Message]]

_PREFIX = "evt."


class Reckoned:
    """What is wrong with elections, beside what was acknowledged of them."""

    def __init__(self) -> None:
        self.lost: list[str] = []
        self.doubled: list[str] = []
        self.wrong: list[str] = []

    @property
    def problems(self) -> list[str]:
        return [*self.lost, *self.doubled, *self.wrong]


class Counted(Reckoned):
    """With it, how many ballots are as they were acknowledged."""

    def __init__(self) -> None:
        super().__init__()
        self.ballots = 0


async def counted(query: Query, election: Election, into: Counted) -> None:
    """An election as this query shows it: each event is what was acknowledged under its number, and nothing else is there."""
    into.wrong += election.problems()
    acknowledged = {each.sequence: each for each in election.heard}
    shown = await events_by_number(query, election.key)
    for sequence in sorted(acknowledged.keys() | shown.keys()):
        event, told = shown.get(sequence), acknowledged.get(sequence)
        if event is None:
            into.lost.append(f"{election.key}: event {sequence}, acknowledged as {told}")
            continue
        if told is None:
            into.doubled.append(f"{election.key}: event {sequence} is {event[0]}, which nobody was told")
            continue
        name, body = event
        found = (name, getattr(body, "voter", b""), body.choice if isinstance(body, BallotCast) else "")
        if found != (told.event, told.voter, told.choice):
            into.wrong.append(f"{election.key}: event {sequence} is {found}, acknowledged was {told}")
        else:
            into.ballots += told.event == "ballot_cast"
    found = await query(GetBallotElection(election=election.key))
    assert isinstance(found, BallotElection)
    cast = [row.cast for row in found.rounds]
    judged = [(row.valid, row.invalid) for row in found.rounds][-1]
    rejected = sum(map(election.rejected, range(VOTERS)))
    if cast != [VOTERS] * election.rounds or judged != (VOTERS - rejected, rejected):
        into.wrong.append(f"{election.key}: {cast} ballots were cast, the last ones judged {judged}")
    into.wrong += await _tallied(query, election)


async def events_by_number(query: Query, key: str) -> dict[int, tuple[str, Message]]:
    """All events of an election: name and body, by number."""
    found, start, more = dict[int, tuple[str, Message]](), 1, True
    while more:
        page = await query(QueryHistory(election=key, start=start))
        assert isinstance(page, ElectionHistory)
        for row in page.events:
            spec = CATALOG.by_key(row.message)
            assert spec is not None
            found[row.sequence] = (spec.name, decode(spec, row.body, version=row.version))
            start = row.sequence + 1
        more = page.more
    return found


async def _tallied(query: Query, election: Election) -> list[str]:
    """The projection counts as the acknowledged ballots do, round by round (a round's ballots have the numbers between its ends)."""
    page = await query(QueryProjection(election=election.key, projection="tally"))
    assert isinstance(page, ProjectionPage)
    expected: Counter[str] = Counter()
    round = 0
    for each in sorted(election.heard):
        round += each.event == "election_opened"
        if each.event == "ballot_cast":
            expected[f"{round} cast {each.choice}"] += 1
    found = {row.key: row.count for row in page.counts if " cast " in row.key}
    if page.state.stale or page.more or found != expected:
        return [f"{election.key}: the tally is {found}, by the ballots it is {dict(expected)}"]
    return []


def facts_told(messages: Sequence[Stored]) -> tuple[Counter[str], int]:
    """Facts of elections in the node's stream, by name: each id once; and how many were there more than once."""
    seen: Counter[tuple[str, str]] = Counter()
    for message in messages:
        _, _, sender, what = message.subject.split(".", 3)
        if sender == "elections" and what.removeprefix(_PREFIX) in FACTS:
            seen[what.removeprefix(_PREFIX), message.headers[HEADER_ID]] += 1
    return Counter(name for name, _ in seen), seen.total() - len(seen)


def told_problems(messages: Sequence[Stored], elections: Sequence[Election]) -> list[str]:
    """What the world was not told of these elections, or was told beyond them."""
    expected: Counter[str] = Counter()
    for election in elections:
        expected += election.facts
    found, _ = facts_told(messages)
    return [] if found == expected else [f"facts of elections: {dict(found)} were told, {dict(expected)} must be"]
