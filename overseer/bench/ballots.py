"""Signed votes in bulk: validators with sr25519 keys, and bundles that verify. Signed by the native library: it is fast."""

from collections.abc import Iterable, Sequence

import sr25519  # pyright: ignore[reportMissingTypeStubs]

from messages.polkadot import Validator, Vote, VoteKind
from messages.scale import candidate_hash
from messages.signals import SessionChange
from messages.statements import vote_payload
from messages.votes_db import RegisterVote
from overseer.feeds.keyring import derive
from overseer.feeds.make import make_receipt
from overseer.feeds.schnorrkel import pair_from_seed
from overseer.subsystem import Check

__all__ = ["SESSION", "Ballots"]

SESSION = 1
_BLOCK_NUMBER = 7
_UNSIGNED = bytes(64)


class Ballots:
    """One session's validators, and what they sign."""

    def __init__(self, validators: int) -> None:
        self._pairs = [pair_from_seed(derive("bench", "validator", i)) for i in range(validators)]

    def __len__(self) -> int:
        return len(self._pairs)

    @property
    def session(self) -> SessionChange:
        return SessionChange(index=SESSION, validators=[Validator(public) for public, _ in self._pairs])

    def bundle(self, number: int, voters: Iterable[int], *, against: Sequence[int] = (), signed: bool = True) -> RegisterVote:
        """Votes on candidate `number`: valid ones of `voters`, and invalid ones of those `against`. Signing takes most of the time."""
        receipt = make_receipt(f"bench {number}", para_id=1_000, relay_parent=derive("bench", "parent", number), height=number)
        candidate = candidate_hash(receipt)
        votes: list[Vote] = []
        for kind, indices in ((VoteKind.EXPLICIT_INVALID, against), (VoteKind.EXPLICIT_VALID, voters)):
            payload = vote_payload(kind, candidate=candidate, session=SESSION, relay_parent=receipt.descriptor.relay_parent)
            votes += [Vote(i, kind, self._signature(i, payload) if signed else _UNSIGNED) for i in indices]
        return RegisterVote(
            candidate=receipt, candidate_hash=candidate, block_number=_BLOCK_NUMBER, session_index=SESSION, explicit_votes=votes
        )

    def checks(self, count: int) -> list[Check]:
        """Some checks that hold."""
        message = b"ready?"
        return [Check("sr25519", public, message, self._signature(i, message)) for i, (public, _) in enumerate(self._pairs[:count])]

    def _signature(self, validator: int, payload: bytes) -> bytes:
        return bytes(sr25519.sign(self._pairs[validator], payload))  # pyright: ignore
