"""Signed votes as the journals have them: each with its validator's key, checked again."""

from collections.abc import Iterator

import msgspec

from messages.chain_api import SessionStarted
from messages.polkadot import Scheme, Validator, VoteKind
from messages.statements import StatementError, vote_payload
from messages.votes_db_journal import CandidateOpened, PackedVotes, SessionOpened, VotesImported
from overseer.history.causes import NodeHistory
from overseer.history.reasons import Reason, SignedVote, hexed
from overseer.history.trails import Found
from overseer.verification import verify_signature

__all__ = ["Cast", "Sessions", "cast_in", "unpacked", "vote_reason"]

# The letters of `PackedVotes`.
_KINDS = {
    "V": VoteKind.EXPLICIT_VALID,
    "I": VoteKind.EXPLICIT_INVALID,
    "S": VoteKind.BACKING_SECONDED,
    "B": VoteKind.BACKING_VALID,
    "A": VoteKind.APPROVAL,
    "M": VoteKind.APPROVAL_MULTIPLE,
}
_SIGNATURE = 64
# Scheme (00 or 01) and key, in `SessionOpened`.
_VALIDATOR = 33
_SCHEMES = (Scheme.SR25519, Scheme.ED25519)


class Cast(msgspec.Struct, frozen=True):
    """A vote, and the record that took it."""

    validator: int
    kind: VoteKind
    signature: bytes
    several: list[bytes]
    found: Found


def unpacked(votes: PackedVotes, found: Found) -> Iterator[Cast]:
    """The votes of a packed list, in order."""
    several = iter(votes.several)
    for place, (validator, letter) in enumerate(zip(votes.validators, votes.kinds, strict=True)):
        kind = _KINDS[letter]
        hashes = next(several) if kind is VoteKind.APPROVAL_MULTIPLE else []
        yield Cast(validator, kind, votes.signatures[place * _SIGNATURE : (place + 1) * _SIGNATURE], hashes, found)


def cast_in(node: NodeHistory, session: int, candidate: bytes) -> list[Cast]:
    """All votes in a dispute, in the order in which they were taken."""
    return [
        cast
        for found in node.find("votes_db", [VotesImported], candidate)
        if isinstance(found.event, VotesImported) and (found.event.session, found.event.candidate) == (session, candidate)
        for cast in unpacked(found.event.votes, found)
    ]


class Sessions:
    """The validator sets of a node, and what backing votes sign: looked up once each."""

    def __init__(self, node: NodeHistory) -> None:
        self._node = node
        self._parents: dict[tuple[int, bytes], bytes | None] = {}
        self.sets: dict[int, list[Validator]] = {}
        for found in node.find("chain_api", [SessionStarted]):
            if isinstance(found.event, SessionStarted):
                self.sets[found.event.index] = found.event.validators
        for found in node.find("votes_db", [SessionOpened]):
            if isinstance(found.event, SessionOpened):
                packed = found.event.validators
                rows = [packed[at : at + _VALIDATOR] for at in range(0, len(packed), _VALIDATOR)]
                self.sets[found.event.session] = [Validator(row[1:], _SCHEMES[row[0]]) for row in rows]

    def validator(self, session: int, index: int) -> Validator | None:
        validators = self.sets.get(session, [])
        return validators[index] if index < len(validators) else None

    def relay_parent(self, session: int, candidate: bytes) -> bytes | None:
        """Of the candidate; None when its receipt is not in the journal any more."""
        if (session, candidate) not in self._parents:
            opened = (found.event for found in self._node.find("votes_db", [CandidateOpened], candidate))
            receipts = (e.receipt for e in opened if isinstance(e, CandidateOpened) and (e.session, e.candidate) == (session, candidate))
            receipt = next(receipts, None)
            self._parents[session, candidate] = None if receipt is None else receipt.descriptor.relay_parent
        return self._parents[session, candidate]

    def signed(self, cast: Cast, session: int, candidate: bytes) -> SignedVote:
        """The vote, checked again."""
        vote = SignedVote(
            validator=cast.validator, kind=cast.kind.value, session=session, candidate=hexed(candidate), signature=hexed(cast.signature)
        )
        validator = self.validator(session, cast.validator)
        if validator is not None:
            vote = msgspec.structs.replace(vote, key=hexed(validator.key), scheme=validator.scheme.value)
        backing = cast.kind in (VoteKind.BACKING_SECONDED, VoteKind.BACKING_VALID)
        parent = self.relay_parent(session, candidate) if backing else bytes(32)
        if parent is None:
            return vote
        try:
            payload = vote_payload(cast.kind, candidate=candidate, session=session, relay_parent=parent, candidates=cast.several)
        except StatementError:
            return msgspec.structs.replace(vote, verifies=False)
        verifies = None if validator is None else verify_signature(validator.scheme.value, validator.key, payload, cast.signature)
        return msgspec.structs.replace(vote, payload=hexed(payload), verifies=verifies)


def vote_reason(vote: SignedVote) -> Reason:
    """One signed vote in a line."""
    checked = {True: "its signature verifies", False: "its signature does NOT verify", None: "its key is not known here"}[vote.verifies]
    who = f" {vote.key[:12]}" if vote.key else ""
    what = f"validator {vote.validator}{who}: {vote.kind.replace('_', ' ')}, signed {vote.signature[:12]}; {checked}"
    return Reason(what=what, vote=vote)
