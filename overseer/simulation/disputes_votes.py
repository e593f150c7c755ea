"""Validators, candidates and signed votes of the disputes' simulation.

All seeds share one family of keys and candidates: what was signed (and verified) for one seed is not signed again for the next.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec

from messages.polkadot import CandidateCommitments, CandidateDescriptor, CandidateReceipt, Validator, Vote, VoteKind
from messages.scale import candidate_hash, commitments_hash
from messages.votes_db import Attestation, AttestationKind, RegisterVote
from overseer.feeds.keyring import Keyring, derive
from overseer.feeds.make import make_vote
from overseer.simulation.disputes_cast import SEED

__all__ = ["KEYS", "VALID_KINDS", "Ballot", "Candidate", "ballots_by", "bundle", "candidate", "signed", "validators", "with_votes"]

# (validator index, kind of vote)
Ballot = tuple[int, VoteKind]

# Keys of all validators there ever are; sessions choose. Every second is Ed25519: signing those costs nothing.
KEYS = Keyring.from_seed(SEED, 32, ed25519_every=2)
VALID_KINDS = (
    VoteKind.EXPLICIT_VALID,
    VoteKind.APPROVAL,
    VoteKind.APPROVAL_MULTIPLE,
    VoteKind.BACKING_SECONDED,
    VoteKind.BACKING_VALID,
)
_ATTESTATIONS = {VoteKind.BACKING_SECONDED: AttestationKind.IMPLICIT, VoteKind.BACKING_VALID: AttestationKind.EXPLICIT}


class Candidate(NamedTuple):
    """A candidate of the family, by its number."""

    number: int
    receipt: CandidateReceipt
    hash: bytes

    @property
    def relay_parent(self) -> bytes:
        return self.receipt.descriptor.relay_parent


@lru_cache(maxsize=1024)
def candidate(number: int) -> Candidate:
    """Every third is plain: it travels with the hash of its commitments alone."""

    def part(what: str) -> bytes:
        return derive(SEED, what, number)

    descriptor = CandidateDescriptor(
        para_id=2000 + number,
        relay_parent=part("relay parent"),
        collator=part("collator"),
        persisted_validation_data_hash=part("validation data"),
        pov_hash=part("pov"),
        erasure_root=part("erasure root"),
        # Nobody checks what the collator signed.
        signature=part("signature") * 2,
        para_head=part("head"),
        validation_code_hash=part("code"),
    )
    commitments = CandidateCommitments(
        upward_messages=[],
        horizontal_messages=[],
        new_validation_code=None,
        head_data=part("head"),
        processed_downward_messages=0,
        hrmp_watermark=number,
    )
    receipt = CandidateReceipt(descriptor=descriptor, commitments=commitments)
    if number % 3 == 2:
        receipt = CandidateReceipt(descriptor=descriptor, commitments_hash=commitments_hash(commitments))
    return Candidate(number, receipt, candidate_hash(receipt))


def validators(keys: Sequence[int]) -> list[Validator]:
    """A session's validator set: the keys of the family at these places."""
    return [KEYS[key].validator for key in keys]


@lru_cache(maxsize=65_536)
def signed(key: int, validator: int, kind: VoteKind, number: int, session: int) -> Vote:
    """The vote of the key `key`, as the validator of that index, on the candidate `number`."""
    voted = candidate(number)
    several = [voted.hash, candidate(number + 1).hash] if kind is VoteKind.APPROVAL_MULTIPLE else []
    return make_vote(KEYS[key], validator, kind, candidate=voted.hash, session=session, relay_parent=voted.relay_parent, candidates=several)


def bundle(
    voted: Candidate, session: int, keys: Sequence[int], ballots: Iterable[Ballot], *, block_number: int = 0, pov: bool = False
) -> RegisterVote:
    """A dispute's gossip. Backing votes travel as attestations, but for a validator's second one."""
    backing: dict[int, Vote] = {}
    others: list[Vote] = []
    for validator, kind in ballots:
        vote = signed(keys[validator], validator, kind, voted.number, session)
        if kind in _ATTESTATIONS and validator not in backing:
            backing[validator] = vote
        else:
            others.append(vote)
    bits = sum(1 << validator for validator in backing)
    return RegisterVote(
        candidate=voted.receipt,
        candidate_hash=voted.hash,
        block_number=block_number,
        session_index=session,
        validity_votes=[Attestation(_ATTESTATIONS[backing[v].kind], backing[v].signature) for v in sorted(backing)],
        backing_validators=bits.to_bytes((len(keys) + 7) // 8, "little") if backing else b"",
        explicit_votes=others,
        pov=voted.receipt.descriptor.pov_hash if pov else None,
    )


def ballots_by(voters: Iterable[int], kinds: Sequence[VoteKind]) -> list[Ballot]:
    """A vote of each, the kinds in turn."""
    return [(voter, kinds[place % len(kinds)]) for place, voter in enumerate(voters)]


def with_votes(message: RegisterVote, votes: Sequence[Vote]) -> RegisterVote:
    """The same dispute with these votes instead."""
    return msgspec.structs.replace(message, validity_votes=[], backing_validators=b"", explicit_votes=list(votes))
