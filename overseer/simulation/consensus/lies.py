"""What faulty members say: each lie changes what an honest one is about to say, and signs it.

A lie is a function of the message alone, so what a liar told follows from its journal too.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce

from msgspec.structs import replace

from messages.consensus_manager import (
    BlockPartial,
    Complaint,
    ComplaintReason,
    Confirm,
    Deal,
    GroupTransaction,
    Justify,
    OfAttempt,
    Opened,
    Phase,
    PhaseClosed,
)
from messages.message import Message
from subsystems.consensus_manager.config import ConsensusConfig, Vault
from subsystems.consensus_manager.subsystem import ConsensusManager

__all__ = ["LIES", "LyingManager"]

# Signs a message of an attempt.
Sign = Callable[[OfAttempt], OfAttempt]
Lie = Callable[[Message, Sign], Iterator[Message]]
_PLACES = 4


def silent(message: Message, sign: Sign) -> Iterator[Message]:
    """Says nothing in any attempt. Of blocks it says its part, as it has said nothing wrong so far."""
    if not isinstance(message, OfAttempt):
        yield message


def says_no_end(message: Message, sign: Sign) -> Iterator[Message]:
    """Closes no phase and confirms nothing."""
    if not isinstance(message, PhaseClosed | Confirm):
        yield message


def bad_boxes(message: Message, sign: Sign) -> Iterator[Message]:
    """The boxes of every other member do not open; nobody is answered."""
    if isinstance(message, Deal):
        boxes = [bytes(len(box)) if place % 2 else box for place, box in enumerate(message.boxes)]
        message = sign(replace(message, boxes=boxes))
    if not isinstance(message, Justify):
        yield message


def answers_wrongly(message: Message, sign: Sign) -> Iterator[Message]:
    """One box does not open, and the share that is shown instead does not fit."""
    match message:
        case Deal():
            yield sign(replace(message, boxes=[bytes(len(message.boxes[0])), *message.boxes[1:]]))
        case Justify():
            yield sign(replace(message, share=bytes(31) + b"\x05"))
        case _:
            yield message


def equivocates(message: Message, sign: Sign) -> Iterator[Message]:
    """Two deals; some may hear the second one first."""
    yield message
    if isinstance(message, Deal):
        yield sign(replace(message, boxes=message.boxes[::-1]))


def malformed_deal(message: Message, sign: Sign) -> Iterator[Message]:
    """A commitment that is the identity."""
    if isinstance(message, Deal):
        message = sign(replace(message, commitments=[b"\xc0" + bytes(47), *message.commitments[1:]]))
    yield message


def complains_falsely(message: Message, sign: Sign) -> Iterator[Message]:
    """About everybody."""
    yield message
    if isinstance(message, Opened):
        for dealer in range(_PLACES):
            if dealer != message.sender:
                yield sign(_complaint(message, dealer))


def _complaint(of: OfAttempt, dealer: int) -> Complaint:
    return Complaint(session=of.session, sender=of.sender, signature=bytes(64), dealer=dealer, reason=ComplaintReason.UNREADABLE)


def hurries(message: Message, sign: Sign) -> Iterator[Message]:
    """Closes all phases as soon as it is there."""
    yield message
    if isinstance(message, Opened):
        for phase in Phase:
            yield sign(PhaseClosed(session=message.session, sender=message.sender, signature=bytes(64), phase=phase))


def confirms_wrongly(message: Message, sign: Sign) -> Iterator[Message]:
    """Another transcript, a partial signature that is none, an approval that is none; never what it should."""
    if isinstance(message, Confirm):
        yield sign(replace(message, transcript=bytes(32)))
        yield sign(replace(message, partial=b"\xc0" + bytes(95)))
        yield sign(replace(message, approval=bytes(64)))
    else:
        yield message


def replays(message: Message, sign: Sign) -> Iterator[Message]:
    """Says everything twice, and once more as if it were somebody else, and in another session."""
    yield message
    if isinstance(message, OfAttempt):
        yield message
        yield replace(message, sender=(message.sender + 1) % _PLACES)
        yield sign(replace(message, session=message.session[::-1]))


def forges_groups(message: Message, sign: Sign) -> Iterator[Message]:
    """Hands in groups of its own beside the right one: another key, later attempts, other members, other signers."""
    yield message
    if isinstance(message, GroupTransaction):
        attempt = message.attempt
        yield replace(message, attempt=replace(attempt, due=attempt.due + 1))
        yield replace(message, attempt=replace(attempt, round=attempt.round + 1))
        yield replace(message, members=message.members[::-1])
        yield replace(message, approvals=[message.approvals[0], *message.approvals[:-1]])
        yield replace(message, transcript=message.transcript[::-1])


def signs_wrongly(message: Message, sign: Sign) -> Iterator[Message]:
    """Its part of a block's signature is that of another block, and it says it for others as well."""
    if isinstance(message, BlockPartial):
        yield replace(message, block=message.block[::-1])
        yield replace(message, partial=b"\xc0" + bytes(95))
        yield replace(message, sender=(message.sender + 1) % _PLACES)
    else:
        yield message


LIES: dict[str, Lie] = {
    lie.__name__: lie
    for lie in (
        silent,
        says_no_end,
        bad_boxes,
        answers_wrongly,
        equivocates,
        malformed_deal,
        complains_falsely,
        hurries,
        confirms_wrongly,
        replays,
        forges_groups,
        signs_wrongly,
    )
}


class LyingManager(ConsensusManager):
    """Decides as an honest one, and says something else."""

    def __init__(self, config: ConsensusConfig, vault: Vault, lies: Sequence[str]) -> None:
        super().__init__(config, vault)
        self._lies = [LIES[name] for name in lies]

    def react(self, event: Message) -> Iterable[Message]:
        return reduce(self._changed, self._lies, list(super().react(event)))

    def _changed(self, messages: Sequence[Message], lie: Lie) -> list[Message]:
        return [told for message in messages for told in lie(message, self._sign)]

    def _sign(self, message: OfAttempt) -> OfAttempt:
        return replace(message, signature=self.vault.wallet(message.session).signature(message))
