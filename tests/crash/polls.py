"""A bounded stream of elections into processes that are being killed, and what was acknowledged of them.

Each election goes its whole way: opened, ballots cast by several at once, closed, every ballot judged, validated; one in four is declared
invalid first and has a second round. So all seven commands and every fact come again and again, and what must be there in the end
follows from the election's number and from what was acknowledged.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from random import Random
from typing import NamedTuple

import anyio

from messages.ballots import (
    CastBallot,
    CloseElection,
    InvalidateBallot,
    InvalidateElection,
    OpenElection,
    ValidateBallot,
    ValidateElection,
)
from messages.elections import OfElection
from messages.overseer import CommandOutcome
from tests.node.asking import recorded_of

__all__ = ["Ask", "Election", "Polls"]

CHOICES = ("Ada", "Grace", "Mary")
# Ballots of a round, all at once.
VOTERS = 6
# Every so many elections one has two rounds.
TWO_ROUNDS_EVERY = 4

# Asked until it is acknowledged, under this id; the outcome.
Ask = Callable[[OfElection, str], Awaitable[CommandOutcome]]

EVENTS: dict[type[OfElection], str] = {
    OpenElection: "election_opened",
    CastBallot: "ballot_cast",
    CloseElection: "election_closed",
    ValidateBallot: "ballot_validated",
    InvalidateBallot: "ballot_invalidated",
    ValidateElection: "election_validated",
    InvalidateElection: "election_invalidated",
}
FACTS = ("election_opened", "election_closed", "election_validated", "election_invalidated")


class Acknowledged(NamedTuple):
    """What a command came to: its event's number, and what that event must be."""

    sequence: int
    event: str
    voter: bytes
    choice: str


class Election:
    """One election and what was acknowledged of it, in the order in which it was heard."""

    def __init__(self, key: str, number: int) -> None:
        self.key = key
        self.number = number
        self.heard: list[Acknowledged] = []

    @property
    def rounds(self) -> int:
        return 2 if self.number % TWO_ROUNDS_EVERY == TWO_ROUNDS_EVERY - 1 else 1

    @property
    def ballots(self) -> int:
        return sum(each.event == "ballot_cast" for each in self.heard)

    @property
    def facts(self) -> Counter[str]:
        """What the world must have been told of it."""
        return Counter(each.event for each in self.heard if each.event in FACTS)

    def rejected(self, voter: int) -> bool:
        """Whether the ballot is judged invalid."""
        return (self.number + voter) % 5 == 0

    def stages(self) -> list[list[OfElection]]:
        """All commands, one stage after the other, those of a stage at once."""
        key, stages = self.key, list[list[OfElection]]()
        for round in range(1, self.rounds + 1):
            voters = {n: f"{key} voter {n}".encode() for n in range(VOTERS)}
            stages.append([OpenElection(election=key, title=key, choices=list(CHOICES))])
            stages.append([CastBallot(election=key, voter=voter, choice=self.choice(n)) for n, voter in voters.items()])
            stages.append([CloseElection(election=key)])
            if round < self.rounds:
                stages.append([InvalidateElection(election=key, reason="once more")])
                continue
            judged = [(InvalidateBallot if self.rejected(n) else ValidateBallot)(election=key, voter=v) for n, v in voters.items()]
            stages += [list[OfElection](judged), [ValidateElection(election=key)]]
        return stages

    def choice(self, voter: int) -> str:
        return CHOICES[(self.number + voter) % len(CHOICES)]

    def problems(self) -> list[str]:
        """What the acknowledgements alone show to be wrong: each command has an event of its own, and none is missing."""
        expected = sum(map(len, self.stages()))
        numbers = sorted(each.sequence for each in self.heard)
        if numbers != list(range(1, expected + 1)):
            return [f"{self.key}: the {expected} commands were acknowledged with the events {numbers}"]
        return []


class Polls:
    """Holds elections until `end` is called, then completes those that it has begun."""

    def __init__(self, name: str, rng: Random, *, lanes: int = 2, pause_s: float = 0.1) -> None:
        """`name` is the beginning of the keys; `pause_s`: between the stages, on average."""
        self.elections: list[Election] = []
        # All commands, and ballots among them.
        self.acknowledged = 0
        self.ballots = 0
        self._name = name
        self._rng = rng
        self._lanes = lanes
        self._pause_s = pause_s
        self._ended = False

    def end(self) -> None:
        """Begin nothing more."""
        self._ended = True

    async def run(self, asks: Sequence[Ask]) -> None:
        """Returns when everything begun is acknowledged. `asks`: of the lanes in turn."""
        async with anyio.create_task_group() as tasks:
            for lane in range(self._lanes):
                tasks.start_soon(self._lane, asks[lane % len(asks)])

    async def _lane(self, ask: Ask) -> None:
        while not self._ended:
            number = len(self.elections)
            election = Election(f"{self._name}-{number}", number)
            self.elections.append(election)
            for stage, commands in enumerate(election.stages()):
                await anyio.sleep(self._rng.uniform(0, 2 * self._pause_s))
                async with anyio.create_task_group() as tasks:
                    for place, command in enumerate(commands):
                        tasks.start_soon(partial(self._send, election, ask, command, f"{election.key}.{stage}.{place}"))

    async def _send(self, election: Election, ask: Ask, command: OfElection, command_id: str) -> None:
        found = recorded_of(await ask(command, command_id))
        voter = getattr(command, "voter", b"")
        choice = command.choice if isinstance(command, CastBallot) else ""
        election.heard.append(Acknowledged(found.sequence, EVENTS[type(command)], voter, choice))
        self.acknowledged += 1
        self.ballots += isinstance(command, CastBallot)
