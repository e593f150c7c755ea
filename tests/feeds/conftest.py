"""What a bundle's votes imply, written once more for the tests."""

from collections.abc import Callable, Iterator

import pytest

from messages.polkadot import Validator, Vote, VoteKind
from messages.statements import vote_payload
from messages.votes_db import AttestationKind, RegisterVote
from overseer.subsystem import Check


def _checks_of(bundle: RegisterVote, validators: list[Validator]) -> Iterator[Check]:
    bits = int.from_bytes(bundle.backing_validators, "little")
    backers = [i for i in range(len(bundle.backing_validators) * 8) if bits >> i & 1]
    assert len(backers) == len(bundle.validity_votes)
    kinds = {AttestationKind.IMPLICIT: VoteKind.BACKING_SECONDED, AttestationKind.EXPLICIT: VoteKind.BACKING_VALID}
    backing = [Vote(i, kinds[a.kind], a.signature) for i, a in zip(backers, bundle.validity_votes, strict=True)]
    for vote in [*backing, *bundle.explicit_votes]:
        key = validators[vote.validator]
        payload = vote_payload(
            vote.kind,
            candidate=bundle.candidate_hash,
            session=bundle.session_index,
            relay_parent=bundle.candidate.descriptor.relay_parent,
            candidates=vote.candidates,
        )
        yield Check(key.scheme.value, key.key, payload, vote.signature)


@pytest.fixture
def checks_of() -> Callable[[RegisterVote, list[Validator]], Iterator[Check]]:
    """All signature checks of a bundle whose session has these validators."""
    return _checks_of
