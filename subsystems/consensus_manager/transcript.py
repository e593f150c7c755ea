"""The public rules of an attempt: which message counts, and what follows from it.

Everybody applies them to the same messages in the same order (the network's stream), members or not, whenever blocks come to them: so
everybody finds the same qualified dealers, key and transaction. Nothing here looks at a head, a clock or a secret.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from blake3 import blake3

from messages.codec import encode
from messages.consensus_journal import (
    AnswerTaken,
    AttemptEvent,
    ClosingHeard,
    ComplaintTaken,
    ConfirmTaken,
    DealerConvicted,
    DealTaken,
    Fault,
    GroupCompleted,
)
from messages.consensus_manager import (
    Complaint,
    Confirm,
    Deal,
    Equivocation,
    Justify,
    NotTaken,
    NotTakenReason,
    OfAttempt,
    Opened,
    Phase,
    PhaseClosed,
    Stalled,
)
from messages.consensus_signing import signed_bytes, statement_payload
from overseer.subsystem import Check, Verify
from subsystems.consensus_manager.crypto.curve import MalformedPoint
from subsystems.consensus_manager.crypto.dealing import decode_commitments, is_sound, shown_share_holds
from subsystems.consensus_manager.crypto.threshold import hash_message, partial_holds, public_share
from subsystems.consensus_manager.outcome import close, group_transaction, statement
from subsystems.consensus_manager.progress import Deals, Progress, heard
from subsystems.consensus_manager.terms import Terms

__all__ = ["Absent", "checks_of", "is_share_signature", "take"]

# Who dealt nothing in the earlier attempts at this election, as the stream tells so far: validators by index.
Absent = Callable[[], Sequence[int]]

Events = list[AttemptEvent]

_PHASES = tuple(Phase)


def checks_of(terms: Terms, message: OfAttempt) -> Iterator[Check]:
    """The signatures under a message of this attempt. None for a sender that is nobody."""
    key = _key_of(terms, message)
    if key is not None:
        yield Check("ed25519", key, signed_bytes(message), message.signature)
    if isinstance(message, Equivocation):
        for deal in (message.first, message.second):
            yield from checks_of(terms, deal)


def take(
    terms: Terms, progress: Progress, deals: Deals, message: OfAttempt, verify: Verify, *, position: int, absent: Absent = tuple[int]
) -> Events | NotTaken:
    """What follows from a message at its place in the stream: events, none for one that is merely told, or why it has no effect.

    `position`: that place.
    """
    if message.session == terms.session and isinstance(message, PhaseClosed | Stalled) and _is_over(progress, message.phase):
        # Most say so of a phase that is closed already: their signatures need not be looked at.
        return []
    payload = signed_bytes(message)
    reason = _stranger(terms, message, payload, verify)
    if reason is not None:
        return _not_taken(message, reason)
    match message:
        case Opened():
            return []
        case Deal():
            taken = _deal(terms, progress, message, blake3(payload).digest())
        case Equivocation():
            taken = _equivocation(terms, progress, message, verify)
        case Complaint():
            taken = _complaint(terms, progress, message)
        case Justify():
            taken = _justify(progress, deals, message)
        case PhaseClosed():
            taken = _phase_closed(terms, progress, message, position)
        case Stalled():
            taken = _stalled(terms, progress, message, position)
        case Confirm():
            taken = _confirm(terms, progress, message, verify)
        case _:
            raise TypeError(f"{message.spec.key} is no message of an attempt")
    if isinstance(taken, NotTakenReason):
        return _not_taken(message, taken)
    return _concluded(terms, progress, deals, taken, absent)


def _not_taken(message: OfAttempt, reason: NotTakenReason) -> NotTaken:
    return NotTaken(session=message.session, sender=message.sender, reason=reason)


def _stranger(terms: Terms, message: OfAttempt, payload: bytes, verify: Verify) -> NotTakenReason | None:
    """Whether it is not of this attempt, or not by one who may speak in it (E21)."""
    if message.session != terms.session:
        return NotTakenReason.FOREIGN_SESSION
    key = _key_of(terms, message)
    if key is None:
        return NotTakenReason.NO_MEMBER
    return None if verify(Check("ed25519", key, payload, message.signature)) else NotTakenReason.BAD_SIGNATURE


def _key_of(terms: Terms, message: OfAttempt) -> bytes | None:
    """The key that the message is to be signed with; None: its sender is nobody."""
    if isinstance(message, Stalled):
        return terms.validators[message.sender] if message.sender < len(terms.validators) else None
    return terms.members[message.sender].identity.signing if message.sender < terms.size else None


def _concluded(terms: Terms, progress: Progress, deals: Deals, taken: Events, absent: Absent) -> Events:
    """With what the events bring about: the key once the last phase closes, the transaction with the last confirmation."""
    if not taken:
        return []
    for event in taken:
        progress = heard(progress, event)
    last = taken[-1]
    if isinstance(last, ClosingHeard) and last.closes and last.phase is Phase.JUSTIFY:
        return [*taken, close(terms, progress, deals, absent())]
    if isinstance(last, ConfirmTaken) and progress.key is not None and len(progress.confirms) == terms.min_confirmations:
        transaction = encode(group_transaction(terms, progress, progress.key))
        return [*taken, GroupCompleted(session=terms.session, transaction=transaction)]
    return taken


def _deal(terms: Terms, progress: Progress, message: Deal, digest: bytes) -> Events | NotTakenReason:
    before = progress.deal_of(message.sender)
    if before is not None and before.digest == digest:
        return NotTakenReason.REPEATED
    if progress.phase is Phase.CONFIRM or (before is None and progress.phase is not Phase.DEAL):
        return NotTakenReason.OUT_OF_PHASE
    if message.sender in progress.convicted:
        return NotTakenReason.REPEATED
    if before is not None:
        return [DealerConvicted(session=terms.session, dealer=message.sender)]
    sound = (
        len(message.commitments) == terms.degree + 1
        and len(message.boxes) == terms.size
        and is_sound(terms.session, message.sender, tuple(message.commitments), message.proof)
    )
    return [DealTaken(session=terms.session, deal=message, digest=digest, fault=None if sound else Fault.MALFORMED)]


def _equivocation(terms: Terms, progress: Progress, message: Equivocation, verify: Verify) -> Events | NotTakenReason:
    first, second = message.first, message.second
    dealer = first.sender
    if progress.phase is Phase.CONFIRM:
        return NotTakenReason.OUT_OF_PHASE
    payloads = signed_bytes(first), signed_bytes(second)
    if second.sender != dealer or payloads[0] == payloads[1]:
        return NotTakenReason.GROUNDLESS
    if any(_stranger(terms, deal, payload, verify) is not None for deal, payload in zip((first, second), payloads, strict=True)):
        return NotTakenReason.GROUNDLESS
    if dealer in progress.convicted:
        return NotTakenReason.REPEATED
    return [DealerConvicted(session=terms.session, dealer=dealer)]


def _complaint(terms: Terms, progress: Progress, message: Complaint) -> Events | NotTakenReason:
    if progress.phase not in (Phase.DEAL, Phase.COMPLAIN):
        return NotTakenReason.OUT_OF_PHASE
    deal = progress.deal_of(message.dealer)
    if deal is None or deal.fault is not None or message.dealer == message.sender:
        return NotTakenReason.GROUNDLESS
    if progress.complaint(message.dealer, message.sender) is not None:
        return NotTakenReason.REPEATED
    return [ComplaintTaken(session=terms.session, dealer=message.dealer, complainer=message.sender)]


def _justify(progress: Progress, deals: Deals, message: Justify) -> Events | NotTakenReason:
    if progress.phase is Phase.CONFIRM:
        return NotTakenReason.OUT_OF_PHASE
    complaint = progress.complaint(message.sender, message.complainer)
    if complaint is None:
        return NotTakenReason.GROUNDLESS
    if complaint.answer is not None:
        return NotTakenReason.REPEATED
    holds = shown_share_holds(message.share, tuple(deals[message.sender].commitments), message.complainer)
    answer = AnswerTaken(session=progress.session, dealer=message.sender, complainer=message.complainer, share=message.share, holds=holds)
    return [answer]


def _is_over(progress: Progress, phase: Phase) -> bool:
    return _PHASES.index(phase) < _PHASES.index(progress.phase)


def _phase_closed(terms: Terms, progress: Progress, message: PhaseClosed, position: int) -> Events | NotTakenReason:
    """The (f + 1)-th member's closes it: one of them is not faulty, and its head is there."""
    if message.phase is not progress.phase or message.phase is Phase.CONFIRM:
        return NotTakenReason.OUT_OF_PHASE
    if message.sender in progress.closers:
        return NotTakenReason.REPEATED
    closes = len(progress.closers) == terms.faulty_most
    return [_closing(message, position, None, closes)]


def _stalled(terms: Terms, progress: Progress, message: Stalled, position: int) -> Events | NotTakenReason:
    if message.attempt != terms.attempt:
        return NotTakenReason.GROUNDLESS
    if progress.given_up:
        return []
    if message.phase is not progress.phase:
        return NotTakenReason.OUT_OF_PHASE
    if any(approval.signer == message.sender for approval in progress.stalled):
        return NotTakenReason.REPEATED
    closes = len(progress.stalled) == terms.stalled_needed - 1
    return [_closing(message, position, message.signature, closes)]


def _closing(message: PhaseClosed | Stalled, position: int, stalled: bytes | None, closes: bool) -> ClosingHeard:
    return ClosingHeard(
        session=message.session, position=position, phase=message.phase, sender=message.sender, stalled=stalled, closes=closes
    )


def _confirm(terms: Terms, progress: Progress, message: Confirm, verify: Verify) -> Events | NotTakenReason:
    key = progress.key
    if key is None:
        return NotTakenReason.DIVERGENT
    if progress.transaction is not None:
        return []
    if any(note.member == message.sender for note in progress.confirms):
        return NotTakenReason.REPEATED
    if (message.qualified, message.key, message.transcript) != (key.qualified, key.key, key.transcript):
        return NotTakenReason.DIVERGENT
    payload = statement_payload(statement(terms, key))
    if not verify(Check("ed25519", terms.members[message.sender].identity.signing, payload, message.approval)):
        return NotTakenReason.BAD_SIGNATURE
    if not is_share_signature(tuple(key.commitments), message.sender, payload, message.partial):
        return NotTakenReason.BAD_SIGNATURE
    return [ConfirmTaken(session=terms.session, sender=message.sender, approval=message.approval, partial=message.partial)]


@lru_cache(maxsize=1024)
def is_share_signature(commitments: tuple[bytes, ...], member: int, payload: bytes, partial: bytes) -> bool:
    """Whether a partial signature is by the member's share of the key with these commitments (about 2 ms)."""
    try:
        public = public_share(decode_commitments(commitments), member)
    except MalformedPoint:
        return False
    return partial_holds(public, hash_message(commitments[0], payload), partial)
