"""The scenario of gateways: queues on whole nodes, whose chain forks, is judged, and takes back what rested on its blocks.

The chain, its disputes and their subsystems are those of the disputes' scenario; what is asked of the queues is in `gateways_plan`.
"""

from collections.abc import Mapping, Sequence
from random import Random

from overseer.simulation.checks_chain_rest import ChainAtRest
from overseer.simulation.checks_course import Archive, CourseChecker
from overseer.simulation.checks_queues import QueuesAtRest
from overseer.simulation.checks_queues_told import AskedChecker, StandingChecker
from overseer.simulation.disputes_cast import AUTHORITY, GATEWAYS_CAST, GENESIS, ORPHANS_MAX
from overseer.simulation.gateways_plan import LongPlan, plan_queues
from overseer.simulation.scenario import Cast, Checker, Network, Scenario, Submission, alike

__all__ = ["Gateways", "scenario"]


class Gateways:
    """Queues of gateways on a chain with disputes, on every node of a network."""

    name = "gateways"

    def casts(self, network: Network) -> Mapping[str, Cast]:
        return alike(network, GATEWAYS_CAST)

    def traffic(self, network: Network, random: Random) -> Sequence[Submission]:
        plan = LongPlan(network, random)
        plan_queues(plan, Random(f"{network.seed} queues"))
        return plan.submissions()

    def checkers(self, network: Network, traffic: Sequence[Submission]) -> Sequence[Checker]:
        archive = Archive()
        chain = CourseChecker("chain", "chain_api", archive, lambda: ChainAtRest(GENESIS, AUTHORITY.public, ORPHANS_MAX))
        queues = CourseChecker("queues", "elections", archive, QueuesAtRest)
        return [archive, chain, queues, StandingChecker(queues, chain), AskedChecker()]


scenario: Scenario = Gateways()
