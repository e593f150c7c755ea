"""What the closing of the last phase decides: who is qualified, the group's key, the transcript. A function of the stream alone (E23)."""

from collections.abc import Iterable, Sequence

from blake3 import blake3

from messages.codec import encode_value
from messages.consensus_journal import AttemptFailed, Fault, KeyFormed
from messages.consensus_manager import Approval, GroupTransaction, Member
from messages.consensus_signing import Statement
from subsystems.consensus_manager.crypto.curve import sum_points
from subsystems.consensus_manager.crypto.dealing import decode_commitments
from subsystems.consensus_manager.crypto.threshold import combine
from subsystems.consensus_manager.progress import Deals, KeyNote, Progress
from subsystems.consensus_manager.terms import Terms

__all__ = ["absent_among", "bitmap", "close", "faults", "group_transaction", "places", "statement", "statement_of", "transcript_of"]

_TRANSCRIPT = "overseer consensus v1 transcript"


def bitmap(members: Sequence[int], size: int) -> bytes:
    """A set of members as bits, lowest first."""
    return sum(1 << member for member in set(members)).to_bytes((size + 7) // 8, "little")


def places(bits: bytes, size: int) -> list[int] | None:
    """The members of a bitmap; None when it is not as `bitmap` makes them."""
    number = int.from_bytes(bits, "little")
    if len(bits) != (size + 7) // 8 or number >> size:
        return None
    return [member for member in range(size) if number >> member & 1]


def faults(terms: Terms, progress: Progress) -> dict[int, Fault]:
    """Why each dealer that is not qualified is not: deals in time, no equivocation, every complaint answered rightly, at most f of them."""
    found = dict.fromkeys(range(terms.size), Fault.SILENT)
    for note in progress.deals:
        if note.fault is None:
            del found[note.dealer]
        else:
            found[note.dealer] = note.fault
    complained: dict[int, int] = {}
    for note in progress.complaints:
        complained[note.dealer] = complained.get(note.dealer, 0) + 1
        if note.answer is None:
            found.setdefault(note.dealer, Fault.UNANSWERED)
        elif not note.answer.holds:
            found.setdefault(note.dealer, Fault.WRONG_ANSWER)
    for dealer, count in complained.items():
        if count > terms.faulty_most:
            found[dealer] = Fault.TOO_MANY_COMPLAINTS
    return found | dict.fromkeys(progress.convicted, Fault.EQUIVOCATED)


def absent_among(earlier: Iterable[tuple[Terms, Progress]], terms: Terms, position: int) -> list[int]:
    """The validators who dealt nothing in earlier attempts at the same election, as the stream tells up to that place.

    By their index in these terms' session; those who left it are passed over. Only attempts whose first phase was over by then
    tell anything: a node may be further in those than in this one, if it came to know this one late.
    """
    found: set[bytes] = set()
    for other, progress in earlier:
        if progress.dealt_by is not None and progress.dealt_by < position:
            dealt = {note.dealer for note in progress.deals}
            found |= {member.identity.signing for place, member in enumerate(other.members) if place not in dealt}
    return [index for index, signing in enumerate(terms.validators) if signing in found]


def transcript_of(progress: Progress) -> bytes:
    """A hash of all that counted up to the last closing. The order among messages that counted alike does not."""
    told = (
        progress.session,
        sorted(progress.deals, key=lambda note: note.dealer),
        sorted(progress.complaints, key=lambda note: (note.dealer, note.complainer)),
        sorted(progress.convicted),
    )
    return blake3(encode_value(told), derive_key_context=_TRANSCRIPT).digest()


def close(terms: Terms, progress: Progress, deals: Deals, absent: Sequence[int]) -> KeyFormed | AttemptFailed:
    """The outcome: a key when N - f dealers are qualified."""
    out = faults(terms, progress)
    qualified = [place for place in range(terms.size) if place not in out]
    bits = bitmap(qualified, terms.size)
    if len(qualified) < terms.size - terms.faulty_most:
        return AttemptFailed(session=terms.session, qualified=bits)
    points = [decode_commitments(tuple(deals[dealer].commitments)) for dealer in qualified]
    sums = [sum_points([of[k] for of in points]).to_compressed_bytes() for k in range(terms.degree + 1)]
    return KeyFormed(
        session=terms.session, qualified=bits, commitments=sums, transcript=transcript_of(progress), absent=sorted(set(absent))
    )


def statement_of(*, chain: bytes, epoch: int, session: bytes, members: Sequence[Member], transaction: GroupTransaction) -> Statement:
    """What the approvals and the signature of a group transaction are over."""
    return Statement(
        chain,
        epoch,
        session,
        transaction.attempt,
        list(members),
        transaction.key,
        transaction.transcript,
        transaction.qualified,
        transaction.absent,
    )


def statement(terms: Terms, key: KeyNote) -> Statement:
    """The same before there is a transaction: what a member confirms."""
    return Statement(
        terms.chain,
        terms.epoch,
        terms.session,
        terms.attempt,
        list(terms.members),
        key.key,
        key.transcript,
        key.qualified,
        list(key.absent),
    )


def group_transaction(terms: Terms, progress: Progress, key: KeyNote) -> GroupTransaction:
    """The transaction of an attempt that enough members confirmed: of the first `min_confirmations` confirmations."""
    confirms = progress.confirms[: terms.min_confirmations]
    return GroupTransaction(
        attempt=terms.attempt,
        members=[member.validator for member in terms.members],
        key=key.key,
        transcript=key.transcript,
        qualified=key.qualified,
        absent=list(key.absent),
        approvals=sorted((Approval(note.member, note.approval) for note in confirms), key=lambda approval: approval.signer),
        signature=combine({note.member: note.partial for note in confirms}, terms.degree),
        stalls=sorted(terms.stalls, key=lambda approval: approval.signer),
    )
