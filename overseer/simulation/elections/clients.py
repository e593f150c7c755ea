"""Clients of replicated elections: they ask at any site, again under the same id, and write down all that they see."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import msgspec
from blake3 import blake3

from messages.ballots import BallotElection, GetBallotElection
from messages.codec import decode_value, encode
from messages.election_pairs import NotOwnedYet, Record
from messages.elections import ElectionReport, GetElection, OfElection, Recorded
from messages.message import Rejection
from overseer.simulation.ballot_model import Shown
from overseer.simulation.elections.disk import RowsDisk
from overseer.simulation.elections.traffic import Input
from overseer.simulation.linearizability import Asked, Read, Told
from overseer.sites.deciding import Asked as DecidedOn
from subsystems.elections.runtime import steps

if TYPE_CHECKING:
    from overseer.simulation.elections.sites import ElectionSites

__all__ = ["Clients"]

# An answer that does not come by then is not waited for: the client asks again, anywhere.
_PATIENCE_MS = 600
_PAUSE_MS = 50
_STALE_AFTER_MS = 500


class Clients:
    """Each does one thing after the other. `asked`, `told` and `reads` are the history as it was seen."""

    def __init__(self, world: "ElectionSites", inputs: Sequence[Input]) -> None:
        self.asked: list[Asked] = []
        self.told: list[Told] = []
        self.reads: list[Read] = []
        # What nobody was told yet, by id.
        self.open: dict[str, Input] = {}
        self.asked_again = 0
        self._world = world
        self._attempts = 0
        # The attempt that is waited for, by id: of two that went out together the last.
        self._attempts_of: dict[str, int] = {}
        # (client, election) -> the last event that it was told of.
        self._heard: dict[tuple[int, str], int] = {}
        for client in sorted({each.client for each in inputs}):
            self._next([each for each in inputs if each.client == client])

    def _next(self, rest: list[Input]) -> None:
        if rest:
            self._world.at(rest[0].at_ms - self._world.now, lambda: self._begin(rest[0], rest[1:]))

    def _begin(self, given: Input, rest: list[Input]) -> None:
        if given.command is None:
            self._read(given)
            self._next(rest)
            return
        self.open[given.id] = given
        self._ask(given, rest)

    # -------------------------------------------------------------------------------------------- commands

    def _ask(self, given: Input, rest: list[Input]) -> None:
        """At one site, or at two at once by somebody who is impatient."""
        if given.id not in self.open:
            return
        world = self._world
        count = world.random.choice((1, 1, 1, 2)) if given.insists else 1
        assert given.command is not None
        attempts = [self._send(given, given.command, rest, site) for site in world.random.sample(sorted(world.sites), count)]
        world.at(_PATIENCE_MS, lambda: self._impatient(given, rest, attempts[-1]))

    def _impatient(self, given: Input, rest: list[Input], attempt: int) -> None:
        if not given.insists:
            if self.open.pop(given.id, None) is not None:
                self._next(rest)
        elif self._attempts_of.get(given.id) == attempt:
            self.asked_again += 1
            self._ask(given, rest)

    def _send(self, given: Input, command: OfElection, rest: list[Input], site: str) -> int:
        world = self._world
        self._attempts += 1
        attempt = self._attempts
        self._attempts_of[given.id] = attempt
        digest = blake3(command.spec.key.encode() + encode(command)).digest()
        fields = msgspec.to_builtins(command, builtin_types=(bytes,))
        self.asked.append(Asked(world.now, given.election, given.id, attempt, digest, command.spec.name, fields))
        asked = steps.Command(given.id, digest, DecidedOn(command, f"op_client{given.client}", ""))
        world.mail.command(site, given.election, asked, f"{attempt}", lambda outcome: self._hear(given, rest, attempt, outcome))
        return attempt

    def _hear(self, given: Input, rest: list[Input], attempt: int, outcome: Record | Rejection) -> None:
        world = self._world
        if isinstance(outcome, Record):
            self.told.append(Told(world.now, given.election, given.id, attempt, True, outcome.code, outcome.outcome))
            world.trace.note(f"client {given.client}", f"{given.id} {outcome.code or 'accepted'}")
            if not outcome.code:
                sequence = decode_value(Recorded, outcome.outcome).sequence
                heard = self._heard.get((given.client, given.election), 0)
                self._heard[given.client, given.election] = max(heard, sequence)
            self._conclude(given, rest)
            return
        reason = outcome.reason.value if isinstance(outcome, NotOwnedYet) else ""
        self.told.append(Told(world.now, given.election, given.id, attempt, False, outcome.code, encode(outcome), reason))
        world.trace.note(f"client {given.client}", f"{given.id} {outcome.code} {reason}")
        if given.insists and outcome.retriable:
            if self._attempts_of.get(given.id) == attempt:
                self._attempts_of[given.id] = -1
                world.at(_PAUSE_MS, lambda: self._ask(given, rest))
        else:
            self._conclude(given, rest)

    def _conclude(self, given: Input, rest: list[Input]) -> None:
        if self.open.pop(given.id, None) is None:
            return
        self._attempts_of[given.id] = -1
        if given.again_ms:
            self._world.at(given.again_ms, lambda: self._once_more(given))
        self._next(rest)

    def _once_more(self, given: Input) -> None:
        """Under an id that has its outcome: the same again, or an error for another body."""
        world = self._world
        if world.ceased:
            return
        self.asked_again += 1
        command = given.command
        assert command is not None
        if given.forged:
            command = msgspec.structs.replace(command, **_forgery(command))
        self._send(given, command, [], world.random.choice(sorted(world.sites)))

    # -------------------------------------------------------------------------------------------- readers

    def _read(self, given: Input) -> None:
        """At a site that holds the election, from its rows."""
        world = self._world
        site = world.sites[world.random.choice(world.holders(given.election))]
        if not world.awake(site) or given.election not in site.members:
            return
        member = site.members[given.election]
        required = self._heard.get((given.client, given.election), 0) if given.minded else 0
        refused = member.readable(required)
        if refused is not None:
            self.reads.append(Read(world.now, given.election, site.name, required, refused.applied))
            return
        fresh = member.freshness(caught_up_ms=site.caught_up_ms, now_ms=world.now, stale_after_ms=_STALE_AFTER_MS)
        shown = read_rows(cast(RowsDisk, site.disk), given.election)
        self.reads.append(
            Read(world.now, given.election, site.name, required, fresh.applied, fresh.committed, fresh.age_ms, fresh.stale, shown)
        )


def read_rows(disk: RowsDisk, election: str) -> Shown:
    """What the site's rows show of an election."""
    report, ballots = disk.ask(GetElection(election=election)), disk.ask(GetBallotElection(election=election))
    if not isinstance(report, ElectionReport) or not isinstance(ballots, BallotElection):
        return 0, "idle", 0, 0, 0, 0
    last = ballots.rounds[-1]
    return report.summary.sequence, ballots.phase.value, last.round, last.cast, last.valid, last.invalid


def _forgery(command: OfElection) -> dict[str, str]:
    """Some change of the body."""
    for field, value in (("choice", "somebody else"), ("title", "another"), ("reason", "another")):
        if field in command.__struct_fields__:
            return {field: value}
    return {"election": command.election}
