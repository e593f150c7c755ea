"""Who votes how in a development chain's dispute: at most f lie, some are absent, the honest are a supermajority."""

from collections.abc import Sequence

import msgspec

from messages.polkadot import VoteKind
from overseer.feeds.make import Ballot
from overseer.feeds.shape import Shape

__all__ = ["Camps", "against", "approving", "backing", "camps_of", "condemning", "confirming"]

_APPROVING = (VoteKind.EXPLICIT_VALID, VoteKind.APPROVAL, VoteKind.APPROVAL_MULTIPLE)


class Camps(msgspec.Struct, frozen=True):
    """Validator indices of a dispute, by what they do."""

    honest: list[int]
    liars: list[int]
    absent: list[int]


def camps_of(order: Sequence[int], shape: Shape) -> Camps:
    """The camps when validators are drawn in `order`."""
    lying = max(1, shape.faulty_max // 2)
    away = min(shape.validators // 10, shape.faulty_max - lying)
    return Camps(list(order[lying + away :]), list(order[:lying]), list(order[lying : lying + away]))


def backing(validators: Sequence[int]) -> list[Ballot]:
    """Two at most: the first seconded, the second found valid."""
    return list(zip(validators, (VoteKind.BACKING_SECONDED, VoteKind.BACKING_VALID), strict=False))


def approving(validators: Sequence[int]) -> list[Ballot]:
    """All the kinds of valid votes but backing, in turn."""
    return [(v, _APPROVING[i % len(_APPROVING)]) for i, v in enumerate(validators)]


def against(validators: Sequence[int]) -> list[Ballot]:
    return [(v, VoteKind.EXPLICIT_INVALID) for v in validators]


def confirming(camps: Camps) -> tuple[list[Ballot], list[Ballot]]:
    """The bundle that opens a dispute which is decided for the candidate, and the rest of the votes."""
    opening = [*backing(camps.honest[:2]), *against(camps.liars[:1])]
    return opening, [*against(camps.liars[1:]), *approving(camps.honest[2:])]


def condemning(camps: Camps) -> tuple[list[Ballot], list[Ballot]]:
    """The same for a dispute that is decided against: liars had backed the candidate."""
    opening = [*backing(camps.liars[:2]), *against(camps.honest[:1])]
    return opening, [*approving(camps.liars[2:]), *against(camps.honest[1:])]
