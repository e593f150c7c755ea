"""How far an attempt is: what the network's stream tells of it, the same at every node, and what this node has of it.

Both are rows that events are applied to; applying one computes nothing and fails never. The deals themselves are kept beside
(`deals`: dealer -> deal), as they are large.
"""

from collections.abc import Mapping
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from messages.consensus_journal import (
    AnswerTaken,
    AttemptEvent,
    AttemptFailed,
    ClosingHeard,
    ComplaintTaken,
    ConfirmTaken,
    DealerConvicted,
    DealTaken,
    Fault,
    GroupCompleted,
    KeyFormed,
    ShareChecked,
    ShareHeld,
    Spoken,
)
from messages.consensus_manager import Approval, Deal, Phase
from messages.message import Row

__all__ = ["OWN_EVENTS", "Answer", "ComplaintNote", "ConfirmNote", "DealNote", "Deals", "KeyNote", "Mine", "Progress", "heard", "own"]

# The deals of an attempt by dealer: sound or not, one each.
Deals = Mapping[int, Deal]


class DealNote(Row, frozen=True):
    dealer: int
    digest: bytes
    fault: Fault | None


class Answer(Row, frozen=True):
    share: bytes
    holds: bool


class ComplaintNote(Row, frozen=True):
    dealer: int
    complainer: int
    answer: Answer | None = None


class KeyNote(Row, frozen=True):
    """The outcome of the DKG: `commitments` are summed over the qualified dealers; the first is the group's key."""

    qualified: bytes
    commitments: tuple[bytes, ...]
    transcript: bytes
    absent: tuple[int, ...]

    @property
    def key(self) -> bytes:
        return self.commitments[0]


class ConfirmNote(Row, frozen=True):
    member: int
    approval: bytes
    partial: bytes


class Progress(Struct, frozen=True, kw_only=True):
    """What the stream tells of an attempt. All is in the order of the stream.

    `closers` and `stalled` are those heard in the present phase. `given_up`: the validators gave up this round (`stalled` shows it).
    """

    session: bytes
    phase: Phase = Phase.DEAL
    deals: tuple[DealNote, ...] = ()
    convicted: tuple[int, ...] = ()
    complaints: tuple[ComplaintNote, ...] = ()
    closers: tuple[int, ...] = ()
    stalled: tuple[Approval, ...] = ()
    given_up: bool = False
    # Where in the stream the first phase closed: behind it no deal counts.
    dealt_by: int | None = None
    key: KeyNote | None = None
    failed: bool = False
    confirms: tuple[ConfirmNote, ...] = ()
    transaction: bytes | None = None

    def deal_of(self, dealer: int) -> DealNote | None:
        return next((note for note in self.deals if note.dealer == dealer), None)

    def complaint(self, dealer: int, complainer: int) -> ComplaintNote | None:
        return next((note for note in self.complaints if (note.dealer, note.complainer) == (dealer, complainer)), None)


class Mine(Struct, frozen=True, kw_only=True):
    """What a member has of an attempt: what it said, how the boxes for it are, and (sealed) its seed and its share of the key."""

    place: int
    said: tuple[str, ...] = ()
    good: tuple[int, ...] = ()
    bad: tuple[ShareChecked, ...] = ()
    seed: bytes | None = None
    share: bytes | None = None

    def has_said(self, name: str, about: str = "") -> bool:
        return _words(name, about) in self.said


# Applied to `Mine`, all others to `Progress`.
OWN_EVENTS = (ShareChecked, ShareHeld, Spoken)

_NEXT = {Phase.DEAL: Phase.COMPLAIN, Phase.COMPLAIN: Phase.JUSTIFY, Phase.JUSTIFY: Phase.CONFIRM, Phase.CONFIRM: Phase.CONFIRM}


def heard(progress: Progress, event: AttemptEvent) -> Progress:
    """The progress after an event that is not this node's own."""
    match event:
        case DealTaken():
            return replace(progress, deals=(*progress.deals, DealNote(event.deal.sender, event.digest, event.fault)))
        case DealerConvicted():
            return replace(progress, convicted=(*progress.convicted, event.dealer))
        case ComplaintTaken():
            return replace(progress, complaints=(*progress.complaints, ComplaintNote(event.dealer, event.complainer)))
        case AnswerTaken():
            return replace(progress, complaints=tuple(_answered(note, event) for note in progress.complaints))
        case ClosingHeard():
            return _closing(progress, event)
        case KeyFormed():
            return replace(progress, key=KeyNote(event.qualified, tuple(event.commitments), event.transcript, tuple(event.absent)))
        case AttemptFailed():
            return replace(progress, failed=True)
        case ConfirmTaken():
            return replace(progress, confirms=(*progress.confirms, ConfirmNote(event.sender, event.approval, event.partial)))
        case GroupCompleted():
            return replace(progress, transaction=event.transaction)
        case _:
            raise TypeError(f"{event.spec.key} is no event of an attempt's progress")


def _answered(note: ComplaintNote, event: AnswerTaken) -> ComplaintNote:
    if (note.dealer, note.complainer) != (event.dealer, event.complainer):
        return note
    return ComplaintNote(note.dealer, note.complainer, Answer(event.share, event.holds))


def _closing(progress: Progress, event: ClosingHeard) -> Progress:
    if event.stalled is None:
        progress = replace(progress, closers=(*progress.closers, event.sender))
    else:
        progress = replace(progress, stalled=(*progress.stalled, Approval(event.sender, event.stalled)))
    if not event.closes:
        return progress
    if event.phase is Phase.CONFIRM:
        return replace(progress, given_up=True)
    dealt_by = event.position if event.phase is Phase.DEAL else progress.dealt_by
    return replace(progress, phase=_NEXT[event.phase], closers=(), stalled=(), dealt_by=dealt_by)


def own(mine: Mine, event: ShareChecked | ShareHeld | Spoken) -> Mine:
    """What a member has after an event of its own."""
    match event:
        case ShareChecked(reason=None):
            return replace(mine, good=(*mine.good, event.dealer))
        case ShareChecked():
            return replace(mine, bad=(*mine.bad, event))
        case ShareHeld():
            return replace(mine, share=event.sealed)
        case Spoken():
            said = (*mine.said, _words(event.name, event.about))
            return replace(mine, said=said, seed=mine.seed if event.sealed is None else event.sealed)
        case _:
            assert_never(event)


def _words(name: str, about: str) -> str:
    return f"{name} {about}"
