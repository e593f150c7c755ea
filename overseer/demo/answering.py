"""The demo's last look: why one block is blacklisted, one item was back in its queue, one group was revoked; by the journals alone."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from messages.chain_api import ImportBlock
from overseer.demo.queues import QUEUE, REQUESTS
from overseer.feeds.story import Send, Story
from overseer.history.causes import NoHistory, opened
from overseer.history.explaining.blocks import explain_blocks
from overseer.history.explaining.groups import explain_group
from overseer.history.explaining.ids import Unknown
from overseer.history.explaining.items import explain_item
from overseer.history.explaining.trail import Teller
from overseer.history.reasons import Explanation, every
from overseer.ports.store import StoreError
from overseer.runner.errors import JournalBroken

__all__ = ["Answered", "Question", "answer", "fallen_block"]


class Question(msgspec.Struct, kw_only=True):
    """What can be typed afterwards: `overseer explain KIND ID --data-dir FOLDER`; and how many signed votes its answer comes down to."""

    kind: str
    id: str
    folder: str
    votes: int = 0
    verified: int = 0

    @property
    def command(self) -> str:
        return f"overseer explain {self.kind} {self.id} --data-dir {self.folder}"


class Answered(msgspec.Struct, kw_only=True):
    """The three questions."""

    questions: list[Question] = []

    def differences(self) -> Iterator[str]:
        """An answer without signed votes is none."""
        for question in self.questions:
            if not question.votes or question.verified != question.votes:
                found = f"{question.verified} of {question.votes} signed votes verify"
                yield f"explain {question.kind} {question.id}: {found}, expected all of some"


def fallen_block(story: Story) -> bytes:
    """The highest block of the story that is blacklisted for one that it descends from; empty bytes without any."""
    bad = story.expected.blacklisted
    imports = (step.message for step in story.steps if isinstance(step, Send) and isinstance(step.message, ImportBlock))
    fallen = [block for block in imports if block.hash in bad and block.parent in bad]
    return max(fallen, key=lambda block: block.number).hash if fallen else b""


def answer(folder: Path, network: Path, block: bytes, group: int) -> Answered:
    """Ask all three, of the node in `folder` and of the network's first one; both may still run."""
    item = f"{QUEUE}/0x{REQUESTS['photo'].hex()}"
    asked: list[tuple[Question, Callable[[Teller, str], list[Explanation]]]] = [
        (Question(kind="block", id=f"0x{block.hex()}", folder=str(folder)), explain_blocks),
        (Question(kind="item", id=item, folder=str(folder)), lambda teller, id: [explain_item(teller, id)]),
        (Question(kind="group", id=str(group), folder=str(network)), lambda teller, id: [explain_group(teller, id)]),
    ]
    for question, explain in asked:
        try:
            with opened([Path(question.folder)]) as history:
                _count(question, explain(Teller(history), question.id))
        except (Unknown, NoHistory, StoreError, JournalBroken):
            # Left without votes, which is told as a difference.
            continue
    return Answered(questions=[question for question, _ in asked])


def _count(question: Question, explanations: Sequence[Explanation]) -> None:
    """Each signed vote once, however often it is a reason."""
    votes = {each.vote.signature: each.vote for explanation in explanations for each in every(explanation.reasons) if each.vote is not None}
    question.votes, question.verified = len(votes), sum(vote.verifies is True for vote in votes.values())
