"""Identities, terms and honest members for tests of the DKG, all derived from a number."""

from collections.abc import Sequence
from functools import cache
from hashlib import blake2b

from messages.consensus_manager import Attempt, Identity, Member
from overseer.verification import verify_check
from subsystems.consensus_manager.crypto.secret import Secret
from subsystems.consensus_manager.terms import Terms, terms_of
from subsystems.consensus_manager.wallet import Wallet

__all__ = ["ATTEMPT", "CHAIN", "drawn", "identity", "members_of", "terms_for", "verify_check", "wallet"]


def drawn(*parts: object) -> bytes:
    """32 bytes that depend on nothing but the parts."""
    return blake2b(repr(parts).encode(), digest_size=32).digest()


CHAIN = drawn("chain")
ATTEMPT = Attempt(100, 130, 0, 0)


@cache
def wallet(number: int) -> Wallet:
    """The secrets of validator `number`."""
    return Wallet(signing=Secret(drawn("signing", number)), box=Secret(drawn("box", number)), sealing=Secret(drawn("sealing", number)))


@cache
def identity(number: int) -> Identity:
    return wallet(number).identity


def members_of(numbers: Sequence[int]) -> list[Member]:
    return [Member(number, identity(number)) for number in numbers]


def terms_for(
    size: int = 4,
    *,
    validators: int | None = None,
    attempt: Attempt = ATTEMPT,
    min_confirmations: int | None = None,
    block: object = "block",
) -> Terms:
    """An attempt of the first `size` of so many validators."""
    count = size if validators is None else validators
    return terms_of(
        chain=CHAIN,
        epoch=1,
        attempt=attempt,
        block=drawn(block),
        members=members_of(range(size)),
        validators=[identity(number).signing for number in range(count)],
        min_confirmations=min_confirmations,
    )
