"""The terms of an attempt as a chain tells them: the same for who elects, who judges and who only follows (E05)."""

from collections.abc import Sequence
from typing import Protocol

from messages.consensus_manager import Approval, Attempt
from messages.consensus_signing import next_seed
from subsystems.consensus_manager.handover import Serving, penalties_of
from subsystems.consensus_manager.parameters import Parameters
from subsystems.consensus_manager.schedule import begins, number_of
from subsystems.consensus_manager.selection import Candidate, select
from subsystems.consensus_manager.terms import Terms, terms_of

__all__ = ["Ledger", "derive"]


class Ledger(Protocol):
    """One chain, from genesis to a block of it."""

    @property
    def genesis(self) -> bytes: ...

    def hash_at(self, number: int) -> bytes | None:
        """The hash of the chain's block of that number; None beyond its end."""
        ...

    def validators_at(self, number: int) -> Sequence[Candidate] | None:
        """The validators of the session in which that block is, by index; None: not known."""
        ...


def derive(ledger: Ledger, now: Serving, parameters: Parameters, attempt: Attempt, *, stalls: Sequence[Approval] = ()) -> Terms | None:
    """The terms of an attempt at replacing the serving group; None while the block that begins it, or its session, is not known.

    None as well when the session has too few validators: then nobody is elected until the next session.
    """
    block, candidates = ledger.hash_at(begins(attempt)), ledger.validators_at(begins(attempt))
    if block is None or candidates is None:
        return None
    members = select(
        candidates,
        seed=next_seed(block, attempt.round),
        size=parameters.group_size,
        failed=number_of(attempt, parameters),
        penalties=penalties_of(now),
    )
    if members is None:
        return None
    return terms_of(
        chain=ledger.genesis,
        epoch=now.epoch + 1,
        attempt=attempt,
        block=block,
        members=members,
        validators=[candidate.identity.signing for candidate in candidates],
        min_confirmations=parameters.confirmations,
        stalls=stalls,
    )
