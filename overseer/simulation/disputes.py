"""The disputes' scenario: what a simulated network plays, and what judges it (docs/testing.md).

`scenario` draws some byzantine variants for each seed; `scenarios()` has one more of each variant alone, `disputes:<variant>`.
"""

from collections.abc import Mapping, Sequence
from random import Random

from overseer.simulation import byzantine_chain, byzantine_votes, byzantine_wire
from overseer.simulation.byzantine import VARIANTS, mischief
from overseer.simulation.checks_byzantine import MischiefChecker
from overseer.simulation.checks_chain_rest import ChainAtRest
from overseer.simulation.checks_conclusion import CascadeChecker, ConclusionModel
from overseer.simulation.checks_course import Archive, CourseChecker
from overseer.simulation.checks_told import ToldChecker
from overseer.simulation.checks_votes_rest import VotesAtRest
from overseer.simulation.disputes_cast import AUTHORITY, CAST, GENESIS, HELD_MAX, INCLUSION_SESSIONS, ORPHANS_MAX, SPAM_SLOTS, WINDOW
from overseer.simulation.disputes_plan import Plan
from overseer.simulation.scenario import Cast, Checker, Network, Scenario, Submission, alike

__all__ = ["Disputes", "scenario", "scenarios"]

# Where the variants are: importing them registers them.
VARIANT_MODULES = (byzantine_chain, byzantine_votes, byzantine_wire)


class Disputes:
    """Chains with disputes over their candidates, for and against, on every node of a network."""

    def __init__(self, variant: str = "") -> None:
        self.name = f"disputes:{variant}" if variant else "disputes"
        self._variant = variant

    def casts(self, network: Network) -> Mapping[str, Cast]:
        return alike(network, CAST)

    def traffic(self, network: Network, random: Random) -> Sequence[Submission]:
        plan = Plan(network, random)
        # Of random numbers of their own: the honest say the same with or without the others.
        own = Random(f"{network.seed} variants")
        names = [self._variant] if self._variant else own.sample(sorted(VARIANTS), own.choice((0, 1, 2, 3, 4)))
        told = [*plan.submissions(), *mischief(plan, names, f"{network.seed} byzantine")]
        return sorted(told, key=lambda submission: submission.at_ms)

    def checkers(self, network: Network, traffic: Sequence[Submission]) -> Sequence[Checker]:
        archive = Archive()
        votes = CourseChecker("votes", "votes_db", archive, lambda: VotesAtRest(WINDOW, SPAM_SLOTS, HELD_MAX))
        chain = CourseChecker("chain", "chain_api", archive, lambda: ChainAtRest(GENESIS, AUTHORITY.public, ORPHANS_MAX))
        conclusions = CourseChecker("conclusion", "dispute_conclusion", archive, lambda: ConclusionModel(INCLUSION_SESSIONS))
        told = ToldChecker(archive, votes, chain, GENESIS)
        cascade = CascadeChecker(votes, conclusions, chain)
        return [archive, MischiefChecker(archive), votes, chain, conclusions, cascade, told]


scenario: Scenario = Disputes()


def scenarios() -> Mapping[str, Scenario]:
    """By name: the scenario, and each byzantine variant alone."""
    return {made.name: made for made in (scenario, *(Disputes(name) for name in sorted(VARIANTS)))}


def __getattr__(name: str) -> Scenario:
    """`disputes:<variant>` is found here under the variant's name."""
    if name not in VARIANTS:
        raise AttributeError(name)
    return Disputes(name)
