"""The form of a bundle: what is checked of a whole message before any of its votes is looked at (D13, D14, D15)."""

from collections.abc import Sequence

import msgspec

from messages.polkadot import CandidateReceipt, VoteKind
from messages.scale import ScaleError, candidate_hash
from messages.votes_db import Attestation, AttestationKind, Dispute, MalformedBundle, RegisterVote, SessionOutOfWindow
from overseer.tables import View
from subsystems.votes_db.dispute_row import members
from subsystems.votes_db.tables import SESSIONS, VALIDATOR_BYTES, Key, window

__all__ = ["Bundle", "Statement", "read_bundle"]

# validator, kind, signature, hashes of an approval of several
Statement = tuple[int, VoteKind, bytes, Sequence[bytes]]

_ATTESTED = {AttestationKind.IMPLICIT: VoteKind.BACKING_SECONDED, AttestationKind.EXPLICIT: VoteKind.BACKING_VALID}
_NO_HASHES: tuple[bytes, ...] = ()


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle of good form, from an operator or from the network alike."""

    session: int
    candidate: bytes
    receipt: CandidateReceipt
    block_number: int
    pov: bytes | None
    statements: list[Statement]
    # The session's validator set, packed.
    validators: bytes
    # Told by another node: not to be told again.
    gossiped: bool

    @property
    def key(self) -> Key:
        return self.session, self.candidate

    @property
    def size(self) -> int:
        """Number of validators in the session."""
        return len(self.validators) // VALIDATOR_BYTES


def read_bundle(
    view: View, message: RegisterVote | Dispute, *, receipt_checked: bool = True
) -> Bundle | MalformedBundle | SessionOutOfWindow:
    """The bundle, or why the whole message is refused. Without `receipt_checked` the receipt may be another candidate's."""
    validators = _validators(view, message.session_index)
    if isinstance(validators, SessionOutOfWindow):
        return validators
    malformed = _malformed_receipt(message.candidate, message.candidate_hash) if receipt_checked else None
    if malformed is not None:
        return malformed
    statements: list[Statement] = []
    pov = None
    if isinstance(message, RegisterVote):
        pov = message.pov
        backing = _attested(message.validity_votes, message.backing_validators, len(validators) // VALIDATOR_BYTES)
        if isinstance(backing, MalformedBundle):
            return backing
        statements = backing + [(v.validator, v.kind, v.signature, v.candidates) for v in message.explicit_votes]
    else:
        statements = [(v.validator, v.kind, v.signature, v.candidates) for v in message.votes]
    if not statements:
        return MalformedBundle(reason="no_votes", detail="neither backing attestations nor explicit votes")
    return Bundle(
        session=message.session_index,
        candidate=message.candidate_hash,
        receipt=message.candidate,
        block_number=message.block_number,
        pov=pov,
        statements=statements,
        validators=validators,
        gossiped=isinstance(message, Dispute),
    )


def _validators(view: View, session: int) -> bytes | SessionOutOfWindow:
    kept = window(view)
    if kept is None:
        return SessionOutOfWindow(session=session, reason="unknown", oldest=None, current=None)
    if session < kept.oldest:
        return SessionOutOfWindow(session=session, reason="too_old", oldest=kept.oldest, current=kept.current)
    validators = view.get(SESSIONS, (session,))
    if validators is None:
        return SessionOutOfWindow(session=session, reason="unknown", oldest=kept.oldest, current=kept.current)
    return validators


def _malformed_receipt(receipt: CandidateReceipt, claimed: bytes) -> MalformedBundle | None:
    try:
        actual = candidate_hash(receipt)
    except ScaleError as error:
        return MalformedBundle(reason="receipt_form", detail=str(error)[:300])
    if actual != claimed:
        return MalformedBundle(reason="candidate_hash", detail=f"the receipt hashes to {actual.hex()}, not to {claimed.hex()}")
    return None


def _attested(attestations: Sequence[Attestation], bitfield: bytes, validators: int) -> list[Statement] | MalformedBundle:
    """The backing votes: the i-th attestation belongs to the i-th set bit (Lsb0)."""
    if not attestations and not bitfield:
        return []
    mask = int.from_bytes(bitfield, "little")
    if attestations:
        expected = (validators + 7) // 8
        if len(bitfield) != expected or mask.bit_length() > validators:
            detail = f"{len(bitfield)} bytes, highest bit {mask.bit_length()}; {validators} validators take {expected} bytes"
            return MalformedBundle(reason="bitfield_length", detail=detail)
        if not mask:
            return MalformedBundle(reason="bitfield_zero", detail=f"{len(attestations)} attestations, but no bit is set")
    if mask.bit_count() != len(attestations):
        return MalformedBundle(reason="attestation_count", detail=f"{len(attestations)} attestations for {mask.bit_count()} set bits")
    return [(i, _ATTESTED[a.kind], a.signature, _NO_HASHES) for i, a in zip(members(mask), attestations, strict=True)]
