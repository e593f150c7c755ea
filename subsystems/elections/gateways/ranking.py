"""Who wins a request: the greatest weight; ties by a hash that nobody knows before the close, never by order of arrival."""

from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter

from blake3 import blake3

from messages.gateways import Standing

__all__ = ["ranked"]

_WEIGHT = attrgetter("weight")


def ranked(standings: Iterable[Standing], *, close: bytes, item: bytes) -> list[Standing]:
    """From the winner down. `close`: hash of the close block."""
    ordered = sorted(standings, key=_WEIGHT, reverse=True)
    ranking: list[Standing] = []
    for _, equal in groupby(ordered, key=_WEIGHT):
        tied = list(equal)
        ranking += sorted(tied, key=lambda each: blake3(close + item + each.gateway).digest()) if len(tied) > 1 else tied
    return ranking
