"""The oracle of a gateway queue bites: it finds what was acknowledged and is not there, is there twice, or breaks the rules."""

from collections.abc import Sequence
from random import Random

import msgspec
import pytest
from blake3 import blake3

from messages.codec import encode
from messages.elections import OfElection
from messages.gateways import Bond, DeclareGateway, RequestExecuted, RoundClosed, RoundResults, RoundRevoked, StakeBonded, SubmitRequest
from messages.message import Message, Rejection
from messages.overseer import CommandOutcome, OutcomeStatus
from messages.signals import BestChain, BlockRef
from messages.subjects import HEADER_ID, build
from overseer.node.client import Refused
from overseer.ports.bus import StoredMessage
from overseer.runner.intake import identity
from overseer.runner.schema import Cause, Record, Result
from overseer.testing.given import Given
from subsystems.elections.config import ElectionsConfig
from subsystems.elections.subsystem import Elections
from tests.crash.queues import Accepted, Queue
from tests.crash.queues_reckoning import QueueFound, judged, shown
from tests.node.nodes import Stored

pytestmark = pytest.mark.anyio

KEY = "queue"
# Every so many commands there is a block, every so many blocks another one in the place of the last.
COMMANDS_PER_BLOCK = 8
FORK_EVERY = 9


class Held:
    """A queue decided and applied at once, in memory, and its journal; the chain grows with what is asked."""

    def __init__(self, commands: int) -> None:
        self.queue = Queue(KEY, Random(1), pause_s=0)
        self.messages: list[Stored] = []
        self.course: list[tuple[Record, Sequence[Message]]] = []
        self.chain: list[BlockRef] = []
        self._given = Given(Elections(ElectionsConfig(chain_steps_max=100)))
        self._left = commands
        self._blocks = 0

    @property
    def best(self) -> bytes:
        return self.chain[-1].hash

    async def run(self) -> "Held":
        await self.queue.run(self.ask, self.query)
        return self

    async def ask(self, command: OfElection, command_id: str) -> CommandOutcome:
        self._left -= 1
        if self._left <= 0:
            self.queue.end()
        if self._left % COMMANDS_PER_BLOCK == 0:
            self.grow()
        reply = self._take(command, "op_test", f"{command_id}.0")
        return CommandOutcome(status=OutcomeStatus.ACCEPTED, sequence=0, reply=encode(reply))

    async def query(self, query: Message) -> Message:
        return self.answer(query)

    def answer(self, query: Message) -> Message:
        answer = self._given.ask(query)
        assert not isinstance(answer, Rejection)
        return answer

    def grow(self) -> None:
        self._blocks += 1
        reverted = [self.chain.pop()] if self._blocks % FORK_EVERY == 0 else []
        height = len(self.chain) + 1
        self.chain.append(BlockRef(blake3(b"%d" % self._blocks).digest(), height))
        self._take(BestChain(reverted=reverted, applied=[self.chain[-1]]), "chain_api", f"chain {self._blocks}")

    def _take(self, message: Message, sender: str, id: str) -> Message:
        """As the runner records it."""
        self._given.now_ms += 1
        then = self._given.when(message, sender=sender)
        stored = Stored(len(self.messages) + 1, build("node", sender, message.spec), {HEADER_ID: id}, encode(message))
        self.messages.append(stored)
        told = StoredMessage(stored.sequence, 0, stored.subject, stored.headers, stored.body)
        code = "" if then.rejection is None else then.rejection.spec.name
        status = "rejected" if code else "accepted"
        index = len(self.course) + 1
        cause = Cause("stream", stored.sequence, sender, id, identity(told), "", "")
        record = Record(index, bytes(32), self._given.now_ms, cause, message.spec.key, Result(status, code), [], [])
        self.course.append((record, then.events))
        for place, fact in enumerate(then.sent):
            subject = build("node", "elections", fact.spec)
            self.messages.append(Stored(len(self.messages) + 1, subject, {HEADER_ID: f"{index} {place}"}, encode(fact)))
        assert not self._given.timers, "steps are done with their signal here"
        if then.rejection is not None:
            raise Refused(message, code, None, retriable=then.rejection.retriable)
        return then.reply or message

    async def found(self) -> QueueFound:
        return await shown(self.query, self.queue)

    def judged(self) -> list[str]:
        return judged(self.course, self.queue, self.messages, self.best, self.answer)


async def test_a_queue_of_many_rounds_is_as_it_was_acknowledged_and_as_the_rules_say() -> None:
    held = await Held(900).run()
    found = await held.found()
    assert found.problems == []
    assert held.judged() == []
    assert found.commands == len(held.queue.accepted) > 500
    kinds = [type(event) for _, events in held.course for event in events]
    assert min(kinds.count(kind) for kind in (RoundClosed, RoundResults, RoundRevoked, RequestExecuted)) > 5


async def test_a_command_that_was_acknowledged_and_is_not_there_is_lost() -> None:
    held = await Held(100).run()
    last = held.queue.accepted[-1].sequence
    bond = Bond(election=KEY, gateway=bytes(32), amount=1)
    held.queue.accepted.append(Accepted(bond, "one more", last + 1000))
    assert len((await held.found()).lost) == 1
    assert any("one more is in the journal 0 times" in text for text in held.judged())


async def test_an_event_of_which_nobody_was_told_is_doubled() -> None:
    held = await Held(100).run()
    unsaid = next(n for n, each in enumerate(held.queue.accepted) if isinstance(each.command, SubmitRequest))
    del held.queue.accepted[unsaid]
    found = await held.found()
    assert len(found.doubled) == 1
    assert any("is in 1 places, not 0" in text for text in found.wrong)
    assert any("is in the journal 1 times, acknowledged 0" in text for text in held.judged())


async def test_another_amount_than_was_acknowledged_is_found() -> None:
    held = await Held(60).run()
    place, bond = next((n, each) for n, each in enumerate(held.queue.accepted) if isinstance(each.command, Bond))
    held.queue.accepted[place] = bond._replace(command=msgspec.structs.replace(bond.command, amount=7))
    found = await held.found()
    assert found.lost
    assert any("was bonded" in text for text in found.wrong)


async def test_a_record_that_has_the_effect_twice_breaks_the_rules() -> None:
    held = await Held(60).run()
    place = next(n for n, (_, events) in enumerate(held.course) if any(isinstance(event, StakeBonded) for event in events))
    record, events = held.course[place]
    held.course[place] = (record, [*events, *events])
    (broken,) = held.judged()
    assert f"record {record.index}" in broken
    assert "was recorded as ['stake_bonded', 'stake_bonded']" in broken


async def test_a_fact_that_was_not_told_or_was_told_twice_is_found() -> None:
    held = await Held(100).run()
    facts = [message for message in held.messages if message.subject.endswith(".round_cut")]
    held.messages.remove(facts[0])
    assert any("was told 0 times" in text for text in held.judged())
    held.messages += [facts[0], facts[0]]
    assert any("was told 2 times" in text for text in held.judged())


async def test_what_nobody_heard_the_outcome_of_may_be_there_once() -> None:
    held = Held(60)

    async def unheard(command: OfElection, command_id: str) -> CommandOutcome:
        outcome = await held.ask(command, command_id)
        if isinstance(command, DeclareGateway):
            raise ConnectionError
        return outcome

    with pytest.raises(ConnectionError):
        await held.queue.run(unheard, held.query)
    assert (await held.found()).problems == []
    (command,) = held.queue.unheard
    await held.ask(command, "once more")
    assert len((await held.found()).doubled) == 1


async def test_what_was_under_way_when_a_run_was_cut_off_is_asked_again_under_its_id() -> None:
    held = Held(200)
    asked: list[str] = []

    async def cut_off(command: OfElection, command_id: str) -> CommandOutcome:
        asked.append(command_id)
        if len(asked) == 5:
            raise ConnectionError
        return await held.ask(command, command_id)

    with pytest.raises(ConnectionError):
        await held.queue.run(cut_off, held.query)
    await held.queue.run(cut_off, held.query)
    assert asked[4] == asked[5]
    assert held.queue.unheard == []
    assert (await held.found()).problems == []
    assert held.judged() == []
