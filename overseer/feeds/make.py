"""Makers of valid, signed input, behind `overseer make`: pure functions from keys and facts to messages that verify.

keys = Keyring.from_seed("demo", 10)
receipt = make_receipt("demo", para_id=1000, relay_parent=parent)
bundle = make_bundle(keys, receipt, [(0, VoteKind.BACKING_SECONDED), (3, VoteKind.EXPLICIT_INVALID)], session=1, block_number=4)
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b

from messages.chain_api import ImportBlock, Resume, ResumeMode
from messages.codec import encode_value
from messages.governance import resume_payload
from messages.polkadot import CandidateCommitments, CandidateDescriptor, CandidateReceipt, Scheme, Validator, Vote, VoteKind
from messages.scale import blake2b_256, candidate_hash, commitments_hash
from messages.statements import vote_payload
from messages.votes_db import Attestation, AttestationKind, RegisterVote
from overseer.feeds.keyring import Key, Keyring, derive

__all__ = ["Ballot", "make_authority", "make_block", "make_bundle", "make_receipt", "make_resume", "make_validators", "make_vote"]

# (validator index, kind of vote)
Ballot = tuple[int, VoteKind]

_ATTESTATIONS = {VoteKind.BACKING_SECONDED: AttestationKind.IMPLICIT, VoteKind.BACKING_VALID: AttestationKind.EXPLICIT}


def make_validators(seed: str, count: int, *, ed25519_every: int = 0) -> Keyring:
    """Keys of `count` validators; every `ed25519_every`-th is Ed25519 (0: none)."""
    return Keyring.from_seed(seed, count, ed25519_every=ed25519_every)


def make_authority(seed: str) -> Key:
    """The development governance authority (Ed25519) of `seed`."""
    return Key(Scheme.ED25519, derive(seed, "governance authority"))


def make_receipt(
    seed: str | bytes, *, para_id: int, relay_parent: bytes, height: int = 0, pov: bytes | None = None, plain: bool = False
) -> CandidateReceipt:
    """A receipt with a real collator signature; `seed` tells candidates of one parachain and parent apart.

    `pov` is the proof of validity whose hash the descriptor carries (default: a short one from the seed); `plain` leaves the
    commitments out for their hash, as large candidates travel.
    """
    collator = Key(Scheme.SR25519, derive(seed, "collator", para_id))
    validation_data, code = derive(seed, "validation data", para_id), derive(seed, "code", para_id)
    pov_hash = blake2b_256(derive(seed, "pov", para_id) if pov is None else pov)
    signed = relay_parent + para_id.to_bytes(4, "little") + validation_data + pov_hash + code
    descriptor = CandidateDescriptor(
        para_id=para_id,
        relay_parent=relay_parent,
        collator=collator.public,
        persisted_validation_data_hash=validation_data,
        pov_hash=pov_hash,
        erasure_root=derive(seed, "erasure root", para_id),
        signature=collator.sign(signed),
        para_head=derive(seed, "head", para_id),
        validation_code_hash=code,
    )
    commitments = CandidateCommitments(
        upward_messages=[],
        horizontal_messages=[],
        new_validation_code=None,
        head_data=derive(seed, "head", para_id),
        processed_downward_messages=0,
        hrmp_watermark=height,
    )
    if plain:
        return CandidateReceipt(descriptor=descriptor, commitments_hash=commitments_hash(commitments))
    return CandidateReceipt(descriptor=descriptor, commitments=commitments)


def make_vote(
    key: Key,
    validator: int,
    kind: VoteKind,
    *,
    candidate: bytes,
    session: int,
    relay_parent: bytes = bytes(32),
    candidates: Sequence[bytes] = (),
) -> Vote:
    """A signed vote of any kind. `relay_parent` counts for backing votes; `candidates` are those of an approval of several.

    Raises messages.statements.StatementError when the kind and `candidates` do not go together.
    """
    payload = vote_payload(kind, candidate=candidate, session=session, relay_parent=relay_parent, candidates=candidates)
    return Vote(validator, kind, key.sign(payload), list(candidates))


def make_bundle(
    keys: Keyring,
    receipt: CandidateReceipt,
    ballots: Iterable[Ballot],
    *,
    session: int,
    block_number: int,
    approved_with: Sequence[bytes] = (),
    pov: bytes | None = None,
) -> RegisterVote:
    """A dispute's gossip: `keys` are the session's validators by index; backing votes become attestations with their bits.

    `approved_with` are the other candidates that its approvals of several name, behind the disputed one. Raises ValueError when
    a validator backs twice, or an index is beyond the set.
    """
    candidate = candidate_hash(receipt)
    votes: list[Vote] = []
    for validator, kind in ballots:
        if not 0 <= validator < len(keys):
            raise ValueError(f"validator {validator} is not in a set of {len(keys)}")
        several = [candidate, *approved_with] if kind is VoteKind.APPROVAL_MULTIPLE else []
        parent = receipt.descriptor.relay_parent
        votes.append(
            make_vote(keys[validator], validator, kind, candidate=candidate, session=session, relay_parent=parent, candidates=several)
        )
    backing = sorted((v for v in votes if v.kind in _ATTESTATIONS), key=lambda v: v.validator)
    bits = 0
    for vote in backing:
        if bits >> vote.validator & 1:
            raise ValueError(f"validator {vote.validator} backs twice in one bundle")
        bits |= 1 << vote.validator
    return RegisterVote(
        candidate=receipt,
        candidate_hash=candidate,
        block_number=block_number,
        session_index=session,
        validity_votes=[Attestation(_ATTESTATIONS[v.kind], v.signature) for v in backing],
        backing_validators=bits.to_bytes((len(keys) + 7) // 8, "little") if backing else b"",
        explicit_votes=[v for v in votes if v.kind not in _ATTESTATIONS],
        pov=None if pov is None else blake2b_256(pov),
    )


def make_block(
    parent: bytes,
    number: int,
    *,
    session: int,
    epoch_start: int = 0,
    session_start: list[Validator] | None = None,
    backed: Sequence[bytes] = (),
    included: Sequence[bytes] = (),
    transactions: Sequence[bytes] = (),
    salt: bytes = b"",
) -> ImportBlock:
    """A block on `parent`; its hash is that of its content and of `salt`, which tells equal siblings apart.

    The session is the consensus epoch as well; `epoch_start` is the number of the block that began it.
    """
    content = (parent, number, session, epoch_start, session_start, list(backed), list(included), list(transactions), salt)
    return ImportBlock(
        hash=blake2b(encode_value(content), digest_size=32, person=b"overseer block").digest(),
        parent=parent,
        number=number,
        session=session,
        backed=list(backed),
        included=list(included),
        session_start=session_start,
        epoch=session,
        epoch_start=epoch_start,
        round=number - epoch_start,
        transactions=list(transactions),
    )


def make_resume(authority: Key, mode: ResumeMode, *, chain: bytes, entry: int, frozen_at: int, roots: Sequence[bytes]) -> Resume:
    """The signed end of governance mode; the facts are those of `governance_status`."""
    payload = resume_payload(mode, chain=chain, entry=entry, frozen_at=frozen_at, roots=roots)
    return Resume(mode=mode, chain=chain, entry=entry, frozen_at=frozen_at, roots=list(roots), signature=authority.sign(payload))
