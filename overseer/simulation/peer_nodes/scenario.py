"""The scenario of peer elections: nodes that elect each other as peers under faults, with liars among them."""

from collections.abc import Mapping, Sequence
from random import Random

from overseer.simulation.checks_course import Archive
from overseer.simulation.peer_nodes.author import Onlooker
from overseer.simulation.peer_nodes.cast import play_of
from overseer.simulation.peer_nodes.checks import Forgetful, NodeCourse
from overseer.simulation.peer_nodes.plan import PeersPlan
from overseer.simulation.scenario import Author, Cast, Checker, Network, Outside, Scenario, Submission

__all__ = ["Peers", "scenario"]

_NODES = (4, 4, 4, 5, 5, 6, 7, 8)


class Peers:
    """Some elections of every node under faults, and one of each after them."""

    name = "peers"
    # Its plan and its checkers are made for so many.
    sizes = range(4, 17)
    hours = 0.04
    faults = 60

    def nodes_of(self, seed: int) -> int:
        return Random(f"{seed} nodes").choice(_NODES)

    def casts(self, network: Network) -> Mapping[str, Cast]:
        return play_of(network).casts()

    def traffic(self, network: Network, random: Random) -> Sequence[Submission]:
        return PeersPlan(play_of(network), random).submissions()

    def author(self, outside: Outside) -> Author:
        return Onlooker(outside, play_of(outside.network))

    def checkers(self, network: Network, traffic: Sequence[Submission]) -> Sequence[Checker]:
        play, archive, forgetful = play_of(network), Archive(), Forgetful()
        return [archive, forgetful, *(NodeCourse(play, node, archive, forgetful.nodes) for node in play.honest)]


scenario: Scenario = Peers()
