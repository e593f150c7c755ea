"""The elections' scenario: replicated elections on five or eight sites, everything that can go wrong with those, and its judges.

`scenario` draws all kinds of faults; `elections:<variant>` draws some kinds more often (see plan.VARIANTS).
"""

import time
from collections.abc import Mapping
from random import Random

from messages.election_pairs import TopologyRecord
from overseer.simulation.elections.clients import Clients
from overseer.simulation.elections.faults import SiteFaults
from overseer.simulation.elections.plan import VARIANTS, SiteFault, draw_site_faults
from overseer.simulation.elections.sites import ElectionSites
from overseer.simulation.elections.traffic import Input, draw_inputs
from overseer.simulation.elections.world import eight, five
from overseer.simulation.linearizability import History, judge
from overseer.simulation.loop import uncollected
from overseer.simulation.plan import Case
from overseer.simulation.run import Outcome, Played
from overseer.simulation.scenario import Violation
from subsystems.elections.runtime import steps

__all__ = ["ElectionsScenario", "scenario", "scenarios"]

# After the last fault everything outstanding concludes within this virtual time.
SETTLE_MS = 60_000
_LOOK_MS = 200


class ElectionsScenario:
    """Plays a case on a machinery of its own: sites instead of nodes, actions instead of tasks (overseer.simulation.run.OwnMachinery)."""

    sizes = (5, 8)
    hours = 0.003
    faults = 20

    def __init__(self, variant: str = "") -> None:
        self.name = f"elections:{variant}" if variant else "elections"
        self._variant = variant

    def nodes_of(self, seed: int) -> int:
        """How many sites the network of this seed has."""
        return 5 if Random(f"{seed} sites").random() < 0.5 else 8

    def drawn(self, case: Case) -> Played[SiteFault, Input]:
        span_ms = int(case.hours * 3_600_000)
        names = [row.name for row in _topology(case.nodes).sites]
        faults = draw_site_faults(Random(f"{case.seed} faults"), variant=self._variant, sites=names, span_ms=span_ms, faults=case.faults)
        _, inputs = draw_inputs(Random(f"{case.seed} traffic"), span_ms)
        return Played(
            faults if case.keep_faults is None else [faults[place] for place in case.keep_faults if place < len(faults)],
            inputs if case.keep_inputs is None else [inputs[place] for place in case.keep_inputs if place < len(inputs)],
            False,
        )

    def play(self, case: Case, *, keep_lines: int | None = 200) -> Outcome:
        began, computed = time.perf_counter(), time.process_time()
        with uncollected():
            outcome = _play(case, self.drawn(case), keep_lines, forgetful=0.3 if self._variant == "passivated" else 0.0)
        outcome.real_s, outcome.computed_s = time.perf_counter() - began, time.process_time() - computed
        return outcome


def _topology(sites: int) -> TopologyRecord:
    return five() if sites < 8 else eight()


def _play(case: Case, played: Played[SiteFault, Input], keep_lines: int | None, *, forgetful: float) -> Outcome:
    span_ms = int(case.hours * 3_600_000)
    keys, _ = draw_inputs(Random(f"{case.seed} traffic"), span_ms)
    world = ElectionSites(case.seed, _topology(case.nodes), keys, keep_lines=keep_lines)
    world.forgetful = forgetful
    clients, faults = Clients(world, played.traffic), SiteFaults(world, played.faults)
    violation: Violation | None = None
    try:
        world.run(span_ms)
        faults.cease()
        _settle(world, clients)
        order = world.order()
        judge(History(clients.asked, clients.told, clients.reads, order, log_lost=world.log.losses > 0))
        world.compare_copies()
    except Violation as broken:
        violation = broken
    except Exception as error:
        violation = Violation("machinery", repr(error))
    return Outcome(
        case=case,
        violation=None if violation is None else str(violation),
        checker="" if violation is None else violation.checker,
        trace_hash=world.trace.hash(),
        trace=list(world.trace.lines),
        faults=dict(sorted({**faults.done, "asked_again": clients.asked_again}.items())),
        inputs=len(played.traffic),
        records=len({(each.election, each.id) for each in clients.told if each.recorded}),
        virtual_s=world.now_s,
    )


def _settle(world: ElectionSites, clients: Clients) -> None:
    """Everything concludes. Raises Violation."""
    until = world.now + SETTLE_MS
    world.run(1_000)
    for site in list(world.sites.values()):
        for key in world.keys:
            world.give(site, key, steps.Start())
    while clients.open or world.unsettled():
        world.run(_LOOK_MS)
        if world.now >= until:
            open_ = [f"{id} has no outcome" for id in sorted(clients.open)]
            raise Violation("liveness", "; ".join([*open_, *world.unsettled()][:6]))


scenario = ElectionsScenario()


def scenarios() -> Mapping[str, ElectionsScenario]:
    """By name: the scenario, and each variant."""
    return {made.name: made for made in (scenario, *(ElectionsScenario(name) for name in VARIANTS))}


def __getattr__(name: str) -> ElectionsScenario:
    """`elections:<variant>` is found here under the variant's name."""
    if name not in VARIANTS:
        raise AttributeError(name)
    return ElectionsScenario(name)
