"""Who wins a request: the greatest weight; ties by a hash that nobody knows before the close, never by order of arrival."""

from collections.abc import Iterable

from blake3 import blake3

from messages.gateways import Standing

__all__ = ["ranked"]


def ranked(standings: Iterable[Standing], *, close: bytes, item: bytes) -> list[Standing]:
    """From the winner down. `close`: hash of the close block."""
    ordered = sorted(standings, key=lambda each: -each.weight)
    weights = [each.weight for each in ordered]
    if len(set(weights)) == len(weights):
        return ordered
    return sorted(ordered, key=lambda each: (-each.weight, blake3(close + item + each.gateway).digest()))
