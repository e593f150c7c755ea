"""The oracle of elections bites: what was acknowledged and is not shown, or is shown and was not acknowledged, is found."""

from random import Random

import pytest

from messages.codec import encode
from messages.elections import OfElection
from messages.message import Message, Rejection
from messages.overseer import CommandOutcome, OutcomeStatus
from overseer.memory.rows import MemoryRows
from overseer.subsystem import Context, Decision
from overseer.tables import Overlay, Tables
from subsystems.elections.subsystem import Elections
from tests.crash.polls import Acknowledged, Election, Polls
from tests.crash.polls_reckoning import Counted, counted

pytestmark = pytest.mark.anyio


class Held:
    """Elections decided and applied at once, in memory."""

    def __init__(self) -> None:
        self._rules = Elections()
        self._tables = Tables(Overlay(MemoryRows([table.name for table in self._rules.declaration.tables])))
        self._context = Context(now_ms=1, sender="op_test", verify=lambda _: True)

    async def ask(self, command: OfElection, command_id: str) -> CommandOutcome:
        decision = self._rules.decide(self._tables, command, self._context)
        assert isinstance(decision, Decision), (command_id, decision)
        for event in decision.events:
            self._rules.evolve(self._tables, event)
        assert decision.reply is not None
        return CommandOutcome(status=OutcomeStatus.ACCEPTED, sequence=0, reply=encode(decision.reply))

    async def query(self, query: Message) -> Message:
        answer = self._rules.answer(self._tables, query, self._context)
        assert not isinstance(answer, Rejection)
        return answer


async def held(count: int) -> tuple[Held, list[Election]]:
    there, polls = Held(), Polls("poll", Random(0), lanes=1, pause_s=0)

    async def ask(command: OfElection, command_id: str) -> CommandOutcome:
        if len(polls.elections) == count:
            polls.end()
        return await there.ask(command, command_id)

    await polls.run([ask])
    return there, polls.elections


async def found(there: Held, elections: list[Election]) -> Counted:
    count = Counted()
    for election in elections:
        await counted(there.query, election, count)
    return count


async def test_elections_of_one_round_and_of_two_are_as_they_were_acknowledged() -> None:
    there, elections = await held(8)
    count = await found(there, elections)
    assert count.problems == []
    assert count.ballots == sum(election.ballots for election in elections) == 6 * 10
    assert [election.rounds for election in elections] == [1, 1, 1, 2] * 2


async def test_what_was_acknowledged_and_is_not_there_is_lost_and_what_nobody_was_told_is_doubled() -> None:
    there, elections = await held(1)
    heard = elections[0].heard
    elections[0].heard = [*heard, Acknowledged(len(heard) + 1, "ballot_cast", b"one more", "Ada")]
    assert len((await found(there, elections)).lost) == 1
    elections[0].heard = heard[:-1]
    assert len((await found(there, elections)).doubled) == 1


async def test_a_ballot_under_anothers_number_or_with_another_choice_is_wrong() -> None:
    there, elections = await held(1)
    heard = elections[0].heard
    first, second = (number for number, each in enumerate(heard) if each.event == "ballot_cast" and each.sequence in (2, 3))
    swapped = list(heard)
    swapped[first], swapped[second] = heard[first]._replace(sequence=3), heard[second]._replace(sequence=2)
    elections[0].heard = swapped
    assert len((await found(there, elections)).wrong) == 2
    elections[0].heard = [each._replace(choice="Mary") if each.sequence == 2 else each for each in heard]
    assert (await found(there, elections)).wrong
