"""Many seeds, in as many processes as wanted, and what they add up to."""

import gc
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice

import msgspec

from overseer.simulation.loop import uncollected
from overseer.simulation.plan import Case, draw_network
from overseer.simulation.registry import find_scenario
from overseer.simulation.run import Outcome, play
from overseer.simulation.scenario import Sized
from overseer.simulation.shrink import command, shrink

__all__ = ["FAULTS", "HOURS", "Broken", "Report", "WrongSize", "campaign", "cases"]

# Virtual hours of one seed in which things go wrong, and how many of them: six minutes, a fault every two seconds.
HOURS = 0.1
FAULTS = 160

# Seeds given to a worker at once.
_CHUNK = 5
# Failing cases that are shrunk; more are only listed.
_SHRUNK_MAX = 3
_TRACE_LINES = 40


class WrongSize(ValueError):
    """The scenario has no networks of that size."""


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """A seed that broke a promise. `command` replays it exactly; `shrunk` does so in its smallest form that was found."""

    seed: int
    violation: str
    command: str
    shrunk: str = ""
    trace: list[str] = []


class Report(msgspec.Struct, kw_only=True):
    """What a campaign came to. `speed`: virtual time per second of computing of one process."""

    scenario: str
    first_seed: int
    seeds: int = 0
    virtual_hours: float = 0.0
    real_s: float = 0.0
    computed_s: float = 0.0
    speed: float = 0.0
    inputs: int = 0
    records: int = 0
    faults: dict[str, int] = {}
    faults_total: int = 0
    faults_per_seed_min: int = 0
    violations: list[Broken] = []

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        self.virtual_hours += outcome.virtual_s / 3600
        self.computed_s += outcome.computed_s
        self.inputs += outcome.inputs
        self.records += outcome.records
        done = sum(outcome.faults.values())
        self.faults = dict(sorted(Counter(self.faults).__add__(Counter(outcome.faults)).items()))
        self.faults_total += done
        if outcome.violation is None:
            self.faults_per_seed_min = done if self.seeds == 1 else min(self.faults_per_seed_min, done)
        self.speed = self.virtual_hours * 3600 / self.computed_s if self.computed_s else 0.0


def cases(scenario: str, seeds: Iterable[int], *, nodes: int | None, hours: float | None, faults: int | None) -> Iterator[Case]:
    """`nodes`: of every network (None: drawn from the seed). `hours` and `faults`: None for what the scenario is made for.

    Raises WrongSize.
    """
    found = find_scenario(scenario)
    own = found if isinstance(found, Sized) else None
    if own is not None and nodes is not None and nodes not in own.sizes:
        sizes = f"{own.sizes[0]} to {own.sizes[-1]}" if isinstance(own.sizes, range) else " or ".join(map(str, own.sizes))
        raise WrongSize(f"a network of {scenario} has {sizes} nodes, not {nodes}")
    hours = hours if hours is not None else own.hours if own is not None else HOURS
    faults = faults if faults is not None else own.faults if own is not None else FAULTS
    drawn = draw_network if own is None else own.nodes_of
    return (Case(seed=seed, scenario=scenario, nodes=nodes or drawn(seed), hours=hours, faults=faults) for seed in seeds)


def campaign(
    cases: Iterator[Case],
    report: Report,
    *,
    jobs: int = 1,
    seconds: float | None = None,
    shrink_s: float = 60.0,
    tell: Callable[[Outcome], None] | None = None,
) -> Report:
    """Play them all (as many as begin within `seconds`), and shrink the first that fail. `tell` sees each outcome."""
    began = time.monotonic()
    until = None if seconds is None else began + seconds
    broken: list[Outcome] = []
    for outcome in _played(cases, jobs, until):
        report.add(outcome)
        if tell is not None:
            tell(outcome)
        if outcome.violation is not None:
            broken.append(outcome)
    report.real_s = time.monotonic() - began
    broken.sort(key=lambda outcome: outcome.case.seed)
    report.violations = [_broken(outcome, shrink_s if place < _SHRUNK_MAX else 0) for place, outcome in enumerate(broken)]
    return report


def _broken(outcome: Outcome, shrink_s: float) -> Broken:
    smallest = shrink(outcome, seconds=shrink_s) if shrink_s else outcome
    return Broken(
        seed=outcome.case.seed,
        violation=outcome.violation or "",
        command=command(outcome.case),
        shrunk=command(smallest.case) if smallest is not outcome else "",
        trace=smallest.trace[-_TRACE_LINES:],
    )


def _played(cases: Iterator[Case], jobs: int, until: float | None) -> Iterator[Outcome]:
    if jobs <= 1:
        for case in cases:
            yield from _play_all([case])
            if until is not None and time.monotonic() >= until:
                return
        return
    # A new interpreter for each: nothing of this one's threads and descriptors is copied.
    workers = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_begin_worker)
    with workers:
        running: set[Future[list[Outcome]]] = set()
        while True:
            while len(running) < 2 * jobs and (until is None or time.monotonic() < until):
                chunk = list(islice(cases, _CHUNK))
                if not chunk:
                    break
                running.add(workers.submit(_play_all, chunk))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield from future.result()


def _begin_worker() -> None:
    # The simulation must not take the machine from whoever works on it.
    os.nice(5)


def _play_all(chunk: Sequence[Case]) -> list[Outcome]:
    with uncollected():
        outcomes = [play(case) for case in chunk]
        # What they left in cycles goes between them, and what stays is not looked at again.
        gc.collect()
        gc.freeze()
    for outcome in outcomes:
        if outcome.violation is None:
            outcome.trace = []
    return outcomes
