"""The demo's act of the sites: an election on several of them, one of which is killed while ballots are cast, and an exact count."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing
from typing import NamedTuple

import anyio
import msgspec

from messages.ballots import (
    BallotCast,
    BallotElection,
    BallotPhase,
    CastBallot,
    CloseElection,
    GetBallotElection,
    InvalidateBallot,
    OpenElection,
    ValidateBallot,
    ValidateElection,
)
from messages.codec import decode
from messages.election_pairs import CopyReport, GetCopy
from messages.elections import OfElection, ProjectionPage, QueryProjection, Recorded
from overseer.demo.playing import LOOK_AGAIN_S, PATIENCE_S, Unexpected, history_of
from overseer.feeds.keyring import derive
from overseer.node.client import Refused
from overseer.ports.bus import BusError
from overseer.sites.client import SitesClient

__all__ = ["EVENTS", "KEY", "Ballot", "Polled", "Polls", "ballots_of"]

KEY = "mayor-2026"
CHOICES = ("Ada", "Grace", "Mary")
BALLOTS = 240
# Of them, by voters whom nobody knows: judged invalid.
STRANGERS = 5
# It is opened; each ballot is cast, and judged; it is closed, and validated.
EVENTS = 3 + 2 * BALLOTS
CLIENTS = 8
# So many ballots are recorded when the site is killed.
KILL_AFTER = 80
# Verdicts on their way at a time.
JUDGES = 32
# Ballots that are sent once more, and voters who try to vote once more.
AGAIN = 8
# Between two looks at the copies.
_LOOK_S = 0.05
# The reason of a verdict.
_NOT_ON_THE_ROLL = "not on the roll"


class Ballot(NamedTuple):
    number: int
    voter: bytes
    choice: str
    known: bool

    @property
    def cast(self) -> CastBallot:
        return CastBallot(election=KEY, voter=self.voter, choice=self.choice)

    @property
    def verdict(self) -> OfElection:
        if self.known:
            return ValidateBallot(election=KEY, voter=self.voter)
        return InvalidateBallot(election=KEY, voter=self.voter, reason=_NOT_ON_THE_ROLL)


class Polled(msgspec.Struct, kw_only=True):
    """What came of it. `pause_ms`: from the kill to the first ballot recorded of those that were cast after it.

    `once`: ballots that the history holds exactly once, at the number that was acknowledged. `tally`: of ballots cast.
    """

    sites: int = 0
    clients: int = 0
    ballots: int = 0
    killed: str = ""
    killed_after: int = 0
    pause_ms: int = 0
    acknowledged: int = 0
    cast: int = 0
    once: int = 0
    valid: int = 0
    invalid: int = 0
    tally: dict[str, int] = {}
    phase: str = BallotPhase.IDLE.value
    copies_equal: int = 0


def ballots_of(seed: str) -> list[Ballot]:
    """The same seed casts the same votes. The last ones are of strangers."""
    shares = [CHOICES[0]] * 5 + [CHOICES[1]] * 4 + [CHOICES[2]] * 2
    made: list[Ballot] = []
    for number in range(BALLOTS):
        known = number < BALLOTS - STRANGERS
        voter = f"{'voter' if known else 'stranger'} {number}".encode()
        made.append(Ballot(number, voter, shares[derive(seed, "ballot", number)[0] % len(shares)], known))
    return made


class Polls:
    """One election. `client` makes those who vote, by number; `kill` ends the process of a site; `told` hears of each scene."""

    def __init__(
        self, client: Callable[[int], SitesClient], seed: str, *, kill: Callable[[str], None], told: Callable[[str], None]
    ) -> None:
        self._client = client
        self._person = client(0)
        self._ballots = ballots_of(seed)
        self._kill = kill
        self._told = told
        # The numbers of the events, by ballot.
        self._recorded: dict[int, int] = {}
        self._enough = anyio.Event()
        self._killed_at: float | None = None
        self._polled = Polled(sites=len(self._person.sites), clients=CLIENTS, ballots=len(self._ballots))

    async def play(self) -> tuple[Polled, list[str]]:
        """What came of it, and every difference from what it must come to."""
        try:
            await self._scenes()
        except (Unexpected, Refused, BusError) as error:
            return self._polled, [f"election: {error}"]
        return self._polled, list(self._differences())

    async def _scenes(self) -> None:
        await self._do(OpenElection(election=KEY, title="Mayor", choices=list(CHOICES)), "open")
        copy = await self._copy()
        self._told(f"An election opens: {len(copy.sites)} copies, one at each site. {copy.writer} writes, the others follow.")
        await self._vote()
        self._told("All are recorded. Some are sent again and change nothing; some voters try to vote twice, and are refused.")
        await _by_several(AGAIN, self._ballots[:AGAIN], self._once_more)
        await self._do(CloseElection(election=KEY), "close")
        self._told(f"The polls close, and each ballot is judged: {STRANGERS} are of strangers, and invalid.")
        await _by_several(JUDGES, self._ballots, lambda ballot: self._do(ballot.verdict, f"verdict-{ballot.number}"))
        await self._do(ValidateElection(election=KEY), "validate")
        self._told(f"The result stands. {self._polled.killed} catches up; the copies are compared, and counted.")
        await self._count()

    # -------------------------------------------------------------------------------------------- casting

    async def _vote(self) -> None:
        self._told(f"{CLIENTS} clients cast {len(self._ballots)} ballots, at whichever site is nearest to them.")
        left = iter(self._ballots)
        clients = [self._client(number) for number in range(CLIENTS)]
        await _together([lambda client=client: self._cast(client, left) for client in clients] + [self._kill_writer])

    async def _kill_writer(self) -> None:
        """When enough is recorded, in the midst of it."""
        await self._enough.wait()
        writer = (await self._copy()).writer
        self._kill(writer)
        self._killed_at = anyio.current_time()
        self._polled.killed, self._polled.killed_after = writer, len(self._recorded)
        self._told(f"{writer} is killed, with {len(self._recorded)} ballots recorded. Nobody stops casting.")

    async def _cast(self, client: SitesClient, ballots: Iterator[Ballot]) -> None:
        for ballot in ballots:
            began = anyio.current_time()
            self._recorded[ballot.number] = await self._do(ballot.cast, f"ballot-{ballot.number}", client)
            if len(self._recorded) >= KILL_AFTER:
                self._enough.set()
            killed_at = self._killed_at
            if killed_at is not None and began > killed_at and not self._polled.pause_ms:
                self._polled.pause_ms = max(1, round(1000 * (anyio.current_time() - killed_at)))
                self._told(f"Ballots are recorded again, {self._polled.pause_ms / 1000:.1f} s after the kill.")

    async def _once_more(self, ballot: Ballot) -> None:
        """The same id has the same outcome; a new one is another ballot, which is one too many."""
        again = await self._do(ballot.cast, f"ballot-{ballot.number}")
        if again != self._recorded[ballot.number]:
            raise Unexpected(f"ballot {ballot.number} sent again is event {again}, it was {self._recorded[ballot.number]}")
        try:
            await self._do(ballot.cast, f"second-{ballot.number}")
        except Refused as refused:
            if refused.code == "already_cast":
                return
            raise Unexpected(f"a second ballot: {refused}") from refused
        raise Unexpected(f"voter {ballot.number} has voted twice")

    async def _do(self, command: OfElection, name: str, client: SitesClient | None = None) -> int:
        """The number of its event, whatever is killed meanwhile. Raises Refused (refused for good), Unexpected (no outcome)."""
        attempt, failed = 0, ""
        with anyio.move_on_after(PATIENCE_S):
            while True:
                try:
                    outcome = await (client or self._person).request(command, command_id=f"demo-{name}-{attempt}")
                    assert outcome.reply is not None
                    reply = decode(Recorded.spec, outcome.reply)
                    assert isinstance(reply, Recorded)
                    return reply.sequence
                except Refused as refused:
                    if not refused.retriable:
                        raise
                    # Recorded under this id. All others that may pass are no outcome, and the same id learns it.
                    attempt += refused.code == "governance_mode"
                    failed = str(refused)
                except BusError as error:
                    failed = str(error)
                await anyio.sleep(LOOK_AGAIN_S)
        raise Unexpected(f"no outcome of {command.spec.name}: {failed or 'no answer'}")

    # -------------------------------------------------------------------------------------------- counting

    async def _copy(self) -> CopyReport:
        """Of the site that answers first."""
        report = await self._person.query(GetCopy(election=KEY))
        assert isinstance(report, CopyReport)
        return report

    async def _count(self) -> None:
        """From the history, the counters and the tally: each of another projection."""
        polled = self._polled
        polled.acknowledged = len(self._recorded)
        polled.copies_equal = await self._equal(EVENTS)
        by_number: dict[int, list[BallotCast]] = {}
        async with aclosing(history_of(self._person, KEY)) as rows:
            async for row in rows:
                if row.message == BallotCast.spec.key:
                    event = decode(BallotCast.spec, row.body, version=row.version)
                    assert isinstance(event, BallotCast)
                    by_number.setdefault(row.sequence, []).append(event)
        voters = Counter(event.voter for found in by_number.values() for event in found)
        for ballot in self._ballots:
            found = by_number.get(self._recorded.get(ballot.number, 0), [])
            polled.once += [(e.voter, e.choice) for e in found] == [(ballot.voter, ballot.choice)] and voters[ballot.voter] == 1
        election = await self._person.query(GetBallotElection(election=KEY))
        page = await self._person.query(QueryProjection(election=KEY, projection="tally"))
        assert isinstance(election, BallotElection)
        assert isinstance(page, ProjectionPage)
        present = election.rounds[-1]
        polled.phase, polled.cast, polled.valid, polled.invalid = election.phase.value, present.cast, present.valid, present.invalid
        counts = {row.key: row.count for row in page.counts}
        polled.tally = {choice: counts.get(f"{present.round} cast {choice}", 0) for choice in election.choices}

    async def _equal(self, events: int) -> int:
        """How many copies come to have so many events, at least, and one hash; waits for all of them."""
        alike = 0
        with anyio.move_on_after(PATIENCE_S):
            while alike < self._polled.sites:
                heads = Counter(report.head for report in (await self._person.copies(KEY)).values() if report is not None)
                alike = max((count for head, count in heads.items() if head.sequence >= events), default=0)
                if alike < self._polled.sites:
                    await anyio.sleep(_LOOK_S)
        return alike

    def _differences(self) -> Iterator[str]:
        polled, count = self._polled, len(self._ballots)
        for what, found, wanted in (
            ("ballots acknowledged", polled.acknowledged, count),
            ("ballots in the history, each once", polled.once, count),
            ("ballots counted", polled.cast, count),
            ("tally", polled.tally, {choice: sum(b.choice == choice for b in self._ballots) for choice in CHOICES}),
            ("valid ballots", polled.valid, count - STRANGERS),
            ("invalid ballots", polled.invalid, STRANGERS),
            ("phase", polled.phase, BallotPhase.VALID.value),
            ("equal copies", polled.copies_equal, polled.sites),
        ):
            if found != wanted:
                yield f"election: {what}: {found}, expected {wanted}"
        if not 0 < polled.killed_after < count:
            yield f"election: the site was killed after {polled.killed_after} of {count} ballots"


async def _by_several(number: int, ballots: Iterable[Ballot], work: Callable[[Ballot], Awaitable[object]]) -> None:
    """Something with each ballot, so many at a time."""
    left = iter(ballots)

    async def one() -> None:
        for ballot in left:
            await work(ballot)

    await _together([one] * number)


async def _together(works: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """All of them at a time. Raises what the first of them raised that failed: not a group of it."""
    failed: list[Exception] = []

    async def guarded(work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except (Unexpected, Refused, BusError) as error:
            failed.append(error)
            tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for work in works:
            tasks.start_soon(guarded, work)
    if failed:
        raise failed[0]
