"""Which answers agree: clusters, the winner of each, and what an election comes to. All exact, for ten answers at most."""

from collections.abc import Sequence

import msgspec

from messages.peers import TokenMapping
from subsystems.elections.peers.ring import distance

__all__ = ["Cluster", "Member", "NoConsensus", "Outcome", "Response", "Single", "SplitBrain", "agreements", "judged", "maximal_cliques"]


class Response(msgspec.Struct, frozen=True, array_like=True):
    """One responder's answer, as it was taken: its mapping of the challenge token and the ten of its proof."""

    peer: int
    answer: TokenMapping
    mappings: tuple[TokenMapping, ...]


class Member(msgspec.Struct, frozen=True, array_like=True):
    """Who is in a cluster, with its proof."""

    peer: int
    mappings: tuple[TokenMapping, ...]


class Cluster(msgspec.Struct, frozen=True, array_like=True):
    """Answers that agree with each other. `winner`: the member nearest to the challenge token."""

    winner: int
    members: tuple[Member, ...]

    @property
    def peers(self) -> list[int]:
        return [member.peer for member in self.members]


class Single(msgspec.Struct, frozen=True, tag="single"):
    """A majority agrees."""

    cluster: Cluster

    @property
    def winner(self) -> int:
        return self.cluster.winner


class SplitBrain(msgspec.Struct, frozen=True, tag="split_brain"):
    """Two clusters, and neither is a majority."""

    first: Cluster
    second: Cluster


class NoConsensus(msgspec.Struct, frozen=True, tag="no_consensus"):
    """One cluster at most, and no majority."""


Outcome = Single | SplitBrain | NoConsensus


def agreements(responses: Sequence[Response], void: frozenset[int] = frozenset()) -> list[list[int]]:
    """How many mappings each two answers share, id and block, in any order; those to a block in `void` do not count."""
    counted = [{mapping for mapping in each.mappings if mapping.block not in void} for each in responses]
    shared = [[0] * len(counted) for _ in counted]
    for a, one in enumerate(counted):
        for b in range(a + 1):
            shared[a][b] = shared[b][a] = len(one & counted[b])
    return shared


def judged(
    responses: list[Response], token: int, *, threshold: int, size_min: int, majority_percent: int, void: frozenset[int] = frozenset()
) -> Outcome:
    """What the answers, in order of arrival and one of each responder, come to (P11 to P14).

    The order in which they are given decides nothing but ties.
    """
    shared = agreements(responses, void)
    agrees = [sum((shared[a][b] >= threshold) << b for b in range(len(responses)) if b != a) for a in range(len(responses))]
    cliques = [clique for clique in maximal_cliques(agrees) if len(clique) >= size_min]
    cliques.sort(key=lambda clique: _rank(clique, shared, responses))
    clusters = [_cluster(clique, responses, token) for clique in cliques[:2]]
    if not clusters:
        return NoConsensus()
    if len(clusters[0].members) * 100 >= majority_percent * len(responses):
        return Single(clusters[0])
    return NoConsensus() if len(clusters) == 1 else SplitBrain(clusters[0], clusters[1])


def maximal_cliques(agrees: list[int]) -> list[list[int]]:
    """The maximal cliques of a graph, as sorted indices (Bron and Kerbosch, with pivots). `agrees[n]`: the neighbours of n, a bit mask."""
    found: list[list[int]] = []

    def extend(clique: list[int], candidates: int, excluded: int) -> None:
        if not candidates | excluded:
            found.append(sorted(clique))
            return
        pivot = max(_bits(candidates | excluded), key=lambda n: (candidates & agrees[n]).bit_count())
        for n in _bits(candidates & ~agrees[pivot]):
            extend([*clique, n], candidates & agrees[n], excluded & agrees[n])
            candidates &= ~(1 << n)
            excluded |= 1 << n

    if agrees:
        extend([], (1 << len(agrees)) - 1, 0)
    return found


def _bits(mask: int) -> list[int]:
    return [n for n in range(mask.bit_length()) if mask >> n & 1]


def _rank(clique: list[int], shared: list[list[int]], responses: list[Response]) -> tuple[int, int, list[int], list[int]]:
    """The largest first, then the one that agrees most, then the earliest, then by ids.

    Of equal size the sums order as the means do.
    """
    total = sum(shared[a][b] for a in clique for b in clique if a < b)
    return -len(clique), -total, clique, sorted(responses[n].peer for n in clique)


def _cluster(clique: list[int], responses: list[Response], token: int) -> Cluster:
    members = [responses[n] for n in clique]
    winner = min((member.peer for member in members), key=lambda peer: (distance(peer, token), peer))
    return Cluster(winner, tuple(Member(member.peer, member.mappings) for member in members))
