"""The router of the kit: one order for all, nobody's message overtakes what its sender had seen."""

from collections.abc import Iterable

import pytest

from messages.chain_api import Descendants as Ask
from messages.chain_api import FinalizeBlock, Finalized, Header, OrphanDropped, UnknownBlock
from messages.dispute_conclusion import DescendantsAnswer as Answer
from messages.message import Message, Rejection
from messages.signals import BlockFinalized
from messages.votes_db import MalformedBundle
from overseer.feeds.devchain import DevChain, Shape
from overseer.feeds.story import Await, Expected, Scene, Send, Step, Story
from overseer.subsystem import Check, Context, Decision, Declaration
from overseer.tables import HASH, U8, Table, Tables, View
from overseer.testing.wired import Wired

FINAL = Table("final", key=(U8,), value=bytes)
SEEN = Table("seen", key=(HASH,), value=bytes)
STORY = DevChain("wired", Shape(validators=4, sessions=1)).story()


class Chain:
    """Finalizes what it is told, unless the hash begins with 0xff; answers what is asked by the other."""

    declaration = Declaration(
        name="chain_api",
        description="toy",
        consumes=(FinalizeBlock, Ask),
        sends=(BlockFinalized, Answer),
        answers=(Finalized,),
        restricted={Ask: ("dispute_conclusion",)},
        events=(BlockFinalized, Answer),
        rejections=(UnknownBlock, MalformedBundle),
        tables=(FINAL,),
    )

    def decide(self, view: View, message: Message, context: Context) -> Decision | Rejection:
        if isinstance(message, FinalizeBlock):
            if message.hash[0] == 0xFF:
                return UnknownBlock(hash=message.hash)
            return Decision(events=[BlockFinalized(hash=message.hash, number=1)])
        assert isinstance(message, Ask)
        return Decision(events=[Answer(block=message.block, hashes=[], page=0, last=True)])

    def evolve(self, tables: Tables, event: Message) -> None:
        if isinstance(event, BlockFinalized):
            tables.put(FINAL, (0,), event.hash)

    def react(self, event: Message) -> Iterable[Message]:
        return [event]

    def answer(self, view: View, query: Message, context: Context) -> Message | Rejection:
        final = view.get(FINAL, (0,))
        return UnknownBlock(hash=bytes(32)) if final is None else Header(hash=final, parent=bytes(32), number=1, session=0)

    def checks(self, view: View, message: Message) -> Iterable[Check]:
        return []


class Follower:
    """Asks for the descendants of every finalized block and keeps what is answered."""

    declaration = Declaration(
        name="dispute_conclusion",
        description="toy",
        consumes=(BlockFinalized, Answer),
        sends=(Ask,),
        answers=(),
        events=(Ask, Answer),
        tables=(SEEN,),
    )

    def decide(self, view: View, message: Message, context: Context) -> Decision | Rejection:
        return Decision(events=[Ask(block=message.hash) if isinstance(message, BlockFinalized) else message])

    def evolve(self, tables: Tables, event: Message) -> None:
        if isinstance(event, Answer):
            tables.put(SEEN, (event.block,), b"1")

    def react(self, event: Message) -> Iterable[Message]:
        return [event] if isinstance(event, Ask) else []

    def answer(self, view: View, query: Message, context: Context) -> Message | Rejection:
        raise NotImplementedError

    def checks(self, view: View, message: Message) -> Iterable[Check]:
        return []


def block(number: int) -> bytes:
    return bytes([number]) * 32


def story_of(*steps: Step) -> Story:
    expected: Expected = STORY.expected
    return Story(genesis=STORY.genesis, authority=STORY.authority, steps=list(steps), expected=expected, questions=[])


@pytest.mark.parametrize("seed", [None, 1, 2, 3, 4])
def test_C16_all_that_follows_a_command_is_in_one_log_behind_its_cause(seed: int | None) -> None:
    node = Wired([Chain(), Follower()], seed=seed)
    for number in (1, 2, 3):
        node.send(FinalizeBlock(hash=block(number)), settle=False)
    node.settle()
    for kind, field in ((FinalizeBlock, "hash"), (BlockFinalized, "hash"), (Ask, "block"), (Answer, "block")):
        assert [getattr(m, field) for m in node.sent(kind)] == [block(1), block(2), block(3)]
    assert len(list(node.given["dispute_conclusion"].view.scan(SEEN))) == 3


def test_under_a_seed_the_subsystems_take_other_turns_the_same_every_time() -> None:
    def order(seed: int | None) -> list[str]:
        node = Wired([Chain(), Follower()], seed=seed)
        for number in range(1, 9):
            node.send(FinalizeBlock(hash=block(number)), settle=False)
        node.settle()
        return [entry.message.spec.key for entry in node.log]

    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in (None, 1, 2, 3, 4)}) > 1


def test_a_restricted_command_of_another_sender_is_a_defect_of_the_wiring() -> None:
    node = Wired([Chain(), Follower()])
    with pytest.raises(AssertionError, match="op_test may not send"):
        node.send(Ask(block=block(1)))


def test_a_command_that_nobody_takes_is_named() -> None:
    with pytest.raises(AssertionError, match="no receiver"):
        Wired([Follower()]).send(FinalizeBlock(hash=block(1)))


def test_a_story_is_played_step_by_step() -> None:
    final = Await("two is final", Finalized(), lambda a: isinstance(a, Header) and a.hash == block(2))
    node = Wired([Chain(), Follower()], seed=1)
    refused = Send(FinalizeBlock(hash=block(255)), "unknown_block")
    node.play(story_of(Scene("a scene"), Send(FinalizeBlock(hash=block(2))), refused, final))
    assert node.ask(Finalized()) == Header(hash=block(2), parent=bytes(32), number=1, session=0)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (Await("three is final", Finalized(), lambda a: False), "step 0: never reached: three is final"),
        (Send(FinalizeBlock(hash=block(255))), "step 0: chain_api.cmd.finalize_block was refused"),
        (Send(FinalizeBlock(hash=block(1)), "unknown_block"), "step 0: chain_api.cmd.finalize_block was accepted"),
        (Send(FinalizeBlock(hash=block(1)), votes=()), "step 0: None"),
    ],
)
def test_a_step_that_goes_otherwise_is_named(step: Step, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        Wired([Chain(), Follower()]).play(story_of(step))


def test_what_is_not_consumed_passes_by() -> None:
    node = Wired([Chain(), Follower()])
    node.append(OrphanDropped(hash=block(1), number=1), sender="chain_api")
    node.settle()
    assert len(node.log) == 1
