"""The recommended vote of a gateway: the off-chain client's part of gateway elections (docs/gateways.md)."""

from collections.abc import Iterable
from typing import NamedTuple

from messages.gateway_queries import QueuedRequest

__all__ = ["Recommendation", "recommend"]


class Recommendation(NamedTuple):
    """A weight for one request of the ballot."""

    request: bytes
    amount: int


def recommend(requests: Iterable[QueuedRequest], *, capacity_bytes: int, stake: int) -> list[Recommendation]:
    """How to spread `stake` over the requests of a ballot.

    Those that fit the free capacity, the greatest reserved balance first (of equal ones the older); weights proportional to the balances,
    in whole units by largest remainder (equal ones in that order). The weights sum up to `stake`, each of them within one unit of its exact
    share; requests without a weight are left out. Balances of 0 share like equal ones only if all are 0.
    """
    chosen: list[QueuedRequest] = []
    free = capacity_bytes
    for each in sorted(requests, key=lambda each: (-each.balance, each.arrival)):
        if each.size <= free:
            free -= each.size
            chosen.append(each)
    shares = [each.balance for each in chosen]
    if not any(shares):
        shares = [1] * len(chosen)
    total = sum(shares)
    if not total:
        return []
    amounts = [stake * share // total for share in shares]
    remainders = sorted(range(len(shares)), key=lambda at: -(stake * shares[at] % total))
    for at in remainders[: stake - sum(amounts)]:
        amounts[at] += 1
    return [Recommendation(each.request, amount) for each, amount in zip(chosen, amounts, strict=True) if amount]
