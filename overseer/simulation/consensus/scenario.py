"""The scenario of consensus groups: nodes that elect groups under faults, with liars among them, on a chain that goes on meanwhile."""

from collections.abc import Mapping, Sequence
from random import Random

from overseer.simulation.checks_course import Archive
from overseer.simulation.consensus.cast import play_of
from overseer.simulation.consensus.chain import author_of
from overseer.simulation.consensus.checks import DkgChecker, GroupsChecker, SigningChecker
from overseer.simulation.scenario import Author, Cast, Checker, Network, Outside, Scenario, Submission

__all__ = ["Consensus", "scenario"]

_NODES = (4,) * 14 + (5, 5, 7, 7, 10, 16)


class Consensus:
    """Two or three elections under faults, and one after them."""

    name = "consensus"
    # Fewer than a group has members elect none.
    sizes = range(4, 17)
    hours = 0.04
    faults = 60

    def nodes_of(self, seed: int) -> int:
        return Random(f"{seed} nodes").choice(_NODES)

    def casts(self, network: Network) -> Mapping[str, Cast]:
        return play_of(network).casts()

    def traffic(self, network: Network, random: Random) -> Sequence[Submission]:
        """None: what is asked for depends on what happens."""
        return ()

    def author(self, outside: Outside) -> Author:
        return author_of(outside, play_of(outside.network))

    def checkers(self, network: Network, traffic: Sequence[Submission]) -> Sequence[Checker]:
        play, archive = play_of(network), Archive()
        return [archive, DkgChecker(play, archive), GroupsChecker(play), SigningChecker(play, archive)]


scenario: Scenario = Consensus()
