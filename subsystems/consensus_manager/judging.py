"""Whether a block accepts a group: the rules that every node applies to the group transactions of every block (E09 to E15).

A verdict is a function of the transaction, its block and what is before it on the block's own chain. Nothing of the DKG's messages is
needed, so a node that was away judges as those who took part.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import cast

from msgspec import Struct

from messages.codec import CodecError, decode
from messages.consensus_manager import (
    Approval,
    Attempt,
    DuplicateGroup,
    ElectionTooEarly,
    GroupMismatch,
    GroupTransaction,
    GroupVerificationFailed,
    Phase,
    Stalled,
    TxnTooOld,
)
from messages.consensus_signing import signed_bytes, statement_payload, transaction_name
from messages.message import Rejection
from overseer.subsystem import Check, Verify
from subsystems.consensus_manager.crypto.threshold import group_signature_holds
from subsystems.consensus_manager.outcome import places, statement_of
from subsystems.consensus_manager.parameters import Parameters
from subsystems.consensus_manager.schedule import acceptable_until, begins, due_height
from subsystems.consensus_manager.terms import Terms

__all__ = ["Ground", "Verdict", "judge", "judge_block", "signed_transaction"]


class Ground(Struct, frozen=True, kw_only=True):
    """What a transaction is judged on: the number of its block, and the epoch that serves before it.

    `derive` gives an attempt's terms as the block's own ancestors tell; None: its session is not known, or it has too few validators.
    """

    number: int
    epoch_start: int
    parameters: Parameters
    derive: Callable[[Attempt], Terms | None]


class Verdict(Struct, frozen=True, kw_only=True):
    """`name` is the transaction's identity. Accepted unless there is an `error`; then its terms are there."""

    name: bytes
    transaction: GroupTransaction | None = None
    terms: Terms | None = None
    error: Rejection | None = None


def judge_block(bodies: Sequence[bytes], ground: Ground, verify: Verify) -> list[Verdict]:
    """The verdicts on a block's group transactions, in order: one is accepted at most, and those behind it are not looked at (E15)."""
    verdicts: list[Verdict] = []
    for body in bodies:
        done = any(verdict.error is None for verdict in verdicts)
        verdicts.append(_second(body, ground) if done else judge(body, ground, verify))
    return verdicts


def _second(body: bytes, ground: Ground) -> Verdict:
    due = due_height(ground.epoch_start, ground.parameters)
    return Verdict(name=transaction_name(body), error=DuplicateGroup(due=due, expected=ground.number + ground.parameters.interval))


def judge(body: bytes, ground: Ground, verify: Verify) -> Verdict:
    """The verdict on one group transaction. What is cheap is asked first; at most two pairings are computed."""
    name = transaction_name(body)
    transaction = _decoded(body)
    if transaction is None:
        return Verdict(name=name, error=GroupVerificationFailed(detail="encoding"))
    error = _untimely(transaction.attempt, ground)
    if error is not None:
        return Verdict(name=name, transaction=transaction, error=error)
    terms = ground.derive(transaction.attempt)
    if terms is None:
        return Verdict(name=name, transaction=transaction, error=GroupMismatch(detail="members"))
    error = _mismatch(transaction, terms, ground, verify) or _unproven(transaction, terms, verify)
    return Verdict(name=name, transaction=transaction, terms=terms, error=error)


def _decoded(body: bytes) -> GroupTransaction | None:
    try:
        return cast(GroupTransaction, decode(GroupTransaction.spec, body))
    except CodecError:
        return None


def signed_transaction(bodies: Sequence[bytes], terms: Terms, key: bytes) -> GroupTransaction | None:
    """The one of a block's transactions that says of an attempt what the group with this key signed."""
    found = [transaction for body in bodies if (transaction := _decoded(body)) is not None]
    of_group = (each for each in found if (each.attempt, each.key) == (terms.attempt, key))
    return next((each for each in of_group if _is_signed(each, _payload(each, terms))), None)


def _untimely(attempt: Attempt, ground: Ground) -> Rejection | None:
    """Exactly the election that is due, and an attempt that has begun and is not superseded."""
    expected = due_height(ground.epoch_start, ground.parameters)
    if attempt.epoch_start != ground.epoch_start or attempt.due != expected:
        return DuplicateGroup(due=attempt.due, expected=expected)
    if attempt.delay % ground.parameters.election_timeout:
        return GroupMismatch(detail="delay")
    # The seed is the hash of an ancestor.
    if ground.number <= begins(attempt):
        return ElectionTooEarly(number=ground.number, begins=begins(attempt))
    last = acceptable_until(attempt, ground.parameters)
    return TxnTooOld(number=ground.number, last=last) if ground.number > last else None


def _mismatch(transaction: GroupTransaction, terms: Terms, ground: Ground, verify: Verify) -> Rejection | None:
    if transaction.members != [member.validator for member in terms.members]:
        return GroupMismatch(detail="members")
    absent = transaction.absent
    if absent != sorted(set(absent)) or any(validator >= len(terms.validators) for validator in absent):
        return GroupMismatch(detail="absent")
    if not _is_given_up(transaction, ground, verify):
        return GroupMismatch(detail="stalls")
    return None


def _is_given_up(transaction: GroupTransaction, ground: Ground, verify: Verify) -> bool:
    """A later round needs 2f + 1 validators who gave up the one before: else one could try rounds until the draw suits."""
    attempt = transaction.attempt
    if attempt.round == 0:
        return not transaction.stalls
    before = ground.derive(Attempt(attempt.epoch_start, attempt.due, attempt.delay, attempt.round - 1))
    return (
        before is not None
        and _are_ascending(transaction.stalls, below=len(before.validators))
        and len(transaction.stalls) >= before.stalled_needed
        and all(verify(check) for check in _stall_checks(transaction.stalls, before))
    )


def _stall_checks(stalls: Sequence[Approval], before: Terms) -> Iterator[Check]:
    for stall in stalls:
        message = Stalled(
            session=before.session, sender=stall.signer, signature=stall.signature, attempt=before.attempt, phase=Phase.CONFIRM
        )
        yield Check("ed25519", before.validators[stall.signer], signed_bytes(message), stall.signature)


def _unproven(transaction: GroupTransaction, terms: Terms, verify: Verify) -> Rejection | None:
    """Enough distinct members approve the whole statement, and the group signs it with its key (E09, E14)."""
    qualified = places(transaction.qualified, terms.size)
    if qualified is None or len(qualified) < terms.size - terms.faulty_most:
        return GroupVerificationFailed(detail="qualified")
    approvals = transaction.approvals
    if not _are_ascending(approvals, below=terms.size) or len(approvals) < terms.min_confirmations:
        return GroupVerificationFailed(detail="signers")
    payload = _payload(transaction, terms)
    for approval in approvals:
        if not verify(Check("ed25519", terms.members[approval.signer].identity.signing, payload, approval.signature)):
            return GroupVerificationFailed(detail="approvals")
    if not _is_signed(transaction, payload):
        return GroupVerificationFailed(detail="signature")
    return None


def _payload(transaction: GroupTransaction, terms: Terms) -> bytes:
    """What the members approve and the group signs."""
    return statement_payload(
        statement_of(chain=terms.chain, epoch=terms.epoch, session=terms.session, members=terms.members, transaction=transaction)
    )


def _is_signed(transaction: GroupTransaction, payload: bytes) -> bool:
    return group_signature_holds(transaction.key, payload, transaction.signature)


def _are_ascending(approvals: Sequence[Approval], *, below: int) -> bool:
    """Distinct, in order, and all of somebody."""
    signers = [approval.signer for approval in approvals]
    return signers == sorted(set(signers)) and all(signer < below for signer in signers)
