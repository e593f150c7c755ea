"""Why a consensus group serves, or does not: its attempts, who dealt and confirmed, the accepting blocks, handover and revocation."""

from collections.abc import Callable, Iterator, Sequence

from messages.consensus_journal import (
    AnswerTaken,
    AttemptFailed,
    AttemptOpened,
    ClosingHeard,
    ComplaintTaken,
    ConfirmTaken,
    DealerConvicted,
    DealTaken,
    GroupAccepted,
    GroupCompleted,
    HeadMoved,
    KeyFormed,
    ShareChecked,
)
from messages.message import Message
from overseer.history.explaining.blocks import left_the_best_chain
from overseer.history.explaining.ids import Unknown
from overseer.history.explaining.sentences import counted
from overseer.history.explaining.trail import Teller
from overseer.history.reasons import Explanation, Reason, hexed, short
from overseer.history.trails import Found

__all__ = ["explain_group"]

_OWNER = "consensus_manager"
_COURSE: tuple[type[Message], ...] = (
    DealTaken,
    ShareChecked,
    ComplaintTaken,
    AnswerTaken,
    DealerConvicted,
    ClosingHeard,
    KeyFormed,
    AttemptFailed,
    ConfirmTaken,
    GroupCompleted,
)


def explain_group(teller: Teller, text: str) -> Explanation:
    """`text`: the group's epoch. Raises Unknown."""
    if not text.isdecimal():
        raise Unknown(f"{text!r} is no epoch", "Groups are numbered from 1: `overseer explain group 2`.")
    epoch = int(text)
    opened, accepted, next_ones = _of_epoch(teller, epoch)
    if not opened and not accepted:
        raise Unknown(f"group {epoch} is not in this node's journals", _near(teller))
    reasons = [_attempt(teller, found, found.event) for found in opened if isinstance(found.event, AttemptOpened)]
    for found in accepted:
        if isinstance(found.event, GroupAccepted):
            reasons += _accepted(teller, found, found.event, next_ones)
    reasons.sort(key=lambda reason: reason.at_ms)
    missing = teller.node.shortened(_OWNER, "chain_api")
    return Explanation(kind="group", id=text, node=teller.node.name, reasons=reasons, missing=missing)


def _of_epoch(teller: Teller, epoch: int) -> tuple[list[Found], list[Found], list[Found]]:
    """Its attempts, its acceptances, and those of the group that follows it."""
    opened, accepted, next_ones = list[Found](), list[Found](), list[Found]()
    for found in teller.node.find(_OWNER, [AttemptOpened, GroupAccepted]):
        match found.event:
            case AttemptOpened(epoch=number) if number == epoch:
                opened.append(found)
            case GroupAccepted(epoch=number) if number == epoch:
                accepted.append(found)
            case GroupAccepted(epoch=number) if number == epoch + 1:
                next_ones.append(found)
            case _:
                pass
    return opened, accepted, next_ones


def _near(teller: Teller) -> str:
    epochs = sorted({e.epoch for found in teller.node.find(_OWNER, [GroupAccepted]) if isinstance(e := found.event, GroupAccepted)})
    known = f"there are {epochs[0]} to {epochs[-1]}" if epochs else teller.node.cut_short(_OWNER) or "no group was elected yet"
    return f"Accepted groups: {known}."


# ------------------------------------------------------------------------------------------------ the election


def _attempt(teller: Teller, opened: Found, event: AttemptOpened) -> Reason:
    course = [f for f in teller.node.find(_OWNER, _COURSE, event.session) if getattr(f.event, "session", None) == event.session]
    told: list[Reason] = []

    def group(kind: type[Message], what: Callable[[Sequence[Found]], str], line: Callable[[Message], str]) -> None:
        found = [each for each in course if isinstance(each.event, kind)]
        if found:
            told.append(Reason(what=what(found), because=[_said(teller, each, line(each.event)) for each in found]))

    group(DealTaken, lambda found: f"{len(found)} of {len(event.members)} members dealt", _deal)
    group(ComplaintTaken, lambda found: counted(len(found), "complaint"), _complaint)
    group(AnswerTaken, lambda found: f"{counted(len(found), 'answer')} to complaints", _answer)
    for found in course:
        match found.event:
            case ShareChecked(dealer=dealer, reason=reason) if reason is not None:
                told.append(teller.told(found, f"this node's share of dealer {dealer}: {reason.value.replace('_', ' ')}"))
            case DealerConvicted(dealer=dealer):
                told.append(teller.traced(found, f"dealer {dealer} dealt twice, and is out"))
            case ClosingHeard(phase=phase, closes=True, sender=sender):
                told.append(_said(teller, found, f"the phase {phase.value} is over: member {sender} was the last one needed to say so"))
            case KeyFormed(commitments=commitments, qualified=qualified):
                who = ", ".join(map(str, _places(qualified)))
                told.append(
                    teller.told(found, f"the key is formed of the deals of {who}: {short(commitments[0])}", key=hexed(commitments[0]))
                )
            case AttemptFailed(qualified=qualified):
                told.append(teller.told(found, f"it failed: {len(_places(qualified))} dealers qualified, which is too few"))
            case GroupCompleted():
                told.append(teller.told(found, "enough members confirmed: the group transaction is complete"))
            case _:
                pass
    group(ConfirmTaken, lambda found: f"{len(found)} of {len(event.members)} members confirmed", _confirm)
    begins = teller.back(opened.place, opened.record)
    members = " ".join(f"{place}=validator {member.validator}" for place, member in enumerate(event.members))
    about = {"session": hexed(event.session), "members": members, "seed": hexed(event.begins_with)}
    return teller.told(opened, because=[*told, Reason(what="what began it", because=begins)] if begins else told, **about)


def _said(teller: Teller, found: Found, what: str) -> Reason:
    """A member's word, and who said it: another node, where the message came over the network."""
    origin = teller.history.origin(found.place, found.record)
    said = f" ({origin.node})" if origin.node else ""
    return teller.told(found, what + said)


def _deal(event: Message) -> str:
    assert isinstance(event, DealTaken)
    return f"member {event.deal.sender} dealt" + (f": {event.fault.value}" if event.fault is not None else "")


def _complaint(event: Message) -> str:
    assert isinstance(event, ComplaintTaken)
    return f"member {event.complainer} complains of dealer {event.dealer}"


def _answer(event: Message) -> str:
    assert isinstance(event, AnswerTaken)
    return f"dealer {event.dealer} shows the share of member {event.complainer}, which {'fits' if event.holds else 'does not fit'}"


def _confirm(event: Message) -> str:
    assert isinstance(event, ConfirmTaken)
    return f"member {event.sender} confirmed"


def _places(bitmap: bytes) -> list[int]:
    return [8 * byte + bit for byte, value in enumerate(bitmap) for bit in range(8) if value >> bit & 1]


# ------------------------------------------------------------------------------------------------ its service


def _accepted(teller: Teller, found: Found, event: GroupAccepted, next_ones: Sequence[Found]) -> Iterator[Reason]:
    members = ", ".join(str(member.validator) for member in event.members)
    what = f"block {event.number} {short(event.block)} accepted it: epoch {event.epoch} begins, with validators {members}"
    about = {"block": hexed(event.block), "key": hexed(event.key), "session": hexed(event.session)}
    yield teller.traced(found, what, **about)
    revoked = _revocations(teller, event)
    for each in next_ones:
        # On the same chain: a block of another one accepted its successor there.
        if isinstance(each.event, GroupAccepted) and each.event.number > event.number and not revoked:
            yield teller.told(
                each, f"handed over to group {each.event.epoch}, accepted by block {each.event.number}", block=hexed(each.event.block)
            )
            break
    for left in revoked:
        origin = teller.history.origin(left.place, left.record)
        at = None if origin.step is None else origin.step.place
        because = [left_the_best_chain(teller, event.block, event.number, at=at)]
        what = (
            f"revoked: block {event.number} {short(event.block)}, which had accepted it, left the best chain; the group before serves again"
        )
        yield teller.told(left, what, because=because, block=hexed(event.block))


def _revocations(teller: Teller, event: GroupAccepted) -> list[Found]:
    """When its accepting block left the best chain."""
    return [
        found
        for found in teller.node.find(_OWNER, [HeadMoved], event.block)
        if isinstance(found.event, HeadMoved) and any(each.hash == event.block for each in found.event.reverted)
    ]
