"""What the tests of `votes_db` need: validators with real keys, candidates, signed votes, bundles."""

from collections.abc import Iterable, Sequence
from functools import cache
from hashlib import blake2b

import sr25519
from nacl.signing import SigningKey

from messages.chain_api import SubmitTransaction
from messages.polkadot import CandidateCommitments, CandidateDescriptor, CandidateReceipt, Scheme, Transaction, Validator, Vote, VoteKind
from messages.scale import candidate_hash
from messages.signals import SessionChange
from messages.statements import vote_payload
from messages.votes_db import Attestation, AttestationKind, Outcome, QueryVotes, RegisterVote, VotesRegistered, VotesSnapshot
from overseer.testing.given import Given, Then
from subsystems.votes_db.declaration import VotesDbConfig
from subsystems.votes_db.subsystem import VotesDb

VALID, INVALID = VoteKind.EXPLICIT_VALID, VoteKind.EXPLICIT_INVALID
SECONDED, BACKED, APPROVED, APPROVED_SEVERAL = (
    VoteKind.BACKING_SECONDED,
    VoteKind.BACKING_VALID,
    VoteKind.APPROVAL,
    VoteKind.APPROVAL_MULTIPLE,
)


def digest(*parts: object) -> bytes:
    return blake2b(repr(parts).encode(), digest_size=32).digest()


class Signer:
    """A validator's key pair."""

    def __init__(self, scheme: Scheme, seed: bytes) -> None:
        self.scheme = scheme
        self._secret = SigningKey(seed)
        self._pair = sr25519.pair_from_seed(seed)

    @property
    def validator(self) -> Validator:
        return Validator(self._pair[0] if self.scheme is Scheme.SR25519 else bytes(self._secret.verify_key), self.scheme)

    def sign(self, data: bytes) -> bytes:
        return sr25519.sign(self._pair, data) if self.scheme is Scheme.SR25519 else self._secret.sign(data).signature


@cache
def signer(index: int, scheme: Scheme = Scheme.SR25519) -> Signer:
    return Signer(scheme, digest("validator", index))


def signers(count: int, *, ed25519_every: int = 0) -> list[Signer]:
    """`count` keys; every `ed25519_every`-th is Ed25519."""
    return [signer(i, Scheme.ED25519 if ed25519_every and i % ed25519_every == 0 else Scheme.SR25519) for i in range(count)]


@cache
def receipt(number: int = 0, *, plain: bool = False) -> CandidateReceipt:
    """A candidate of its own for each number."""
    descriptor = CandidateDescriptor(
        para_id=1000 + number,
        relay_parent=digest("parent", number),
        collator=digest("collator"),
        persisted_validation_data_hash=digest("data", number),
        pov_hash=digest("pov", number),
        erasure_root=digest("root", number),
        signature=bytes(64),
        para_head=digest("head", number),
        validation_code_hash=digest("code"),
    )
    if plain:
        return CandidateReceipt(descriptor=descriptor, commitments_hash=digest("commitments", number))
    commitments = CandidateCommitments(
        upward_messages=[],
        horizontal_messages=[],
        new_validation_code=None,
        head_data=b"head",
        processed_downward_messages=0,
        hrmp_watermark=number,
    )
    return CandidateReceipt(descriptor=descriptor, commitments=commitments)


@cache
def candidate(number: int = 0) -> bytes:
    return candidate_hash(receipt(number))


def vote(index: int, kind: VoteKind, of: int = 0, *, session: int = 1, key: Signer | None = None, several: Sequence[bytes] = ()) -> Vote:
    """Validator `index`'s signed vote on candidate `of`."""
    parent = receipt(of).descriptor.relay_parent
    payload = vote_payload(kind, candidate=candidate(of), session=session, relay_parent=parent, candidates=several)
    return Vote(index, kind, (key or signer(index)).sign(payload), list(several))


def votes(indices: Iterable[int], kind: VoteKind, of: int = 0, *, session: int = 1) -> list[Vote]:
    return [vote(i, kind, of, session=session) for i in indices]


def bundle(
    explicit: Sequence[Vote] = (),
    of: int = 0,
    *,
    session: int = 1,
    backing: dict[int, VoteKind] | None = None,
    validators: int = 10,
    pov: bytes | None = None,
) -> RegisterVote:
    """The gossip of these votes; `backing` as attestations with their bitfield."""
    attestations: list[Attestation] = []
    mask = 0
    for index in sorted(backing or {}):
        kind = (backing or {})[index]
        attested = AttestationKind.IMPLICIT if kind is SECONDED else AttestationKind.EXPLICIT
        attestations.append(Attestation(attested, vote(index, kind, of, session=session).signature))
        mask |= 1 << index
    return RegisterVote(
        candidate=receipt(of),
        candidate_hash=candidate(of),
        block_number=7,
        session_index=session,
        validity_votes=attestations,
        backing_validators=mask.to_bytes((validators + 7) // 8, "little") if attestations else b"",
        explicit_votes=list(explicit),
        pov=pov,
    )


def votes_db(validators: int = 10, *, sessions: Iterable[int] = (1,), config: VotesDbConfig | None = None, verify: object = None) -> Given:
    """A votes database in which these sessions have started, each with the same validators."""
    given = Given(VotesDb(config)) if verify is None else Given(VotesDb(config), verify=verify)  # type: ignore[arg-type]
    members = [s.validator for s in signers(validators)]
    for session in sessions:
        given.when(SessionChange(index=session, validators=members), sender="chain_api")
    return given


def outcomes(then: Then) -> list[Outcome]:
    assert isinstance(then.reply, VotesRegistered), then.rejection
    return [o.outcome for o in then.reply.outcomes]


def snapshot(given: Given, of: int = 0, *, session: int = 1) -> VotesSnapshot:
    answer = given.ask(QueryVotes(session=session, candidate=candidate(of)))
    assert isinstance(answer, VotesSnapshot), answer
    return answer


def transactions(then: Then) -> list[Transaction]:
    return [t for m in then.sent_of(SubmitTransaction) for t in m.transactions]  # type: ignore[attr-defined]


def due(then: Then) -> set[tuple[str, int, str]]:
    """(reward or slash, validator, verdict) of the transactions sent."""
    found = [(t.kind.value, t.validator, t.verdict.value) for t in transactions(then)]
    assert len(found) == len(set(found))
    return set(found)
