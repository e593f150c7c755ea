"""Plays one case from beginning to end, and says what became of it.

    from overseer.simulation.plan import Case
    from overseer.simulation.run import play

    outcome = play(Case(seed=7, scenario="disputes", nodes=1, hours=0.1, faults=160))
    outcome.violation                 # None, or the first broken promise as text
    outcome.faults                    # Counter of the faults that had an effect, by kind
    outcome.trace_hash                # the same for the same case, whatever the process
    outcome.trace                     # the last lines of what happened

`play(case, scenario)` takes a `Scenario` object in place of the registered name. A scenario's checkers are told (see
`overseer/simulation/scenario.py`):

- `submitted` once for each submission, when its time has come;
- `answered` for **every** outcome that a client hears: also for a retriable refusal under an earlier id, and again when a
  client asks again under the same id after it was told (one in five does); once with code "" when its patience ended;
- `stored` for every message that a stream takes, at once; `lost` right after a fault took some;
- `recorded` for every journal record at the moment it is durable on the (simulated) disk; `set_back` right after a store was
  deleted, restored or lost commits, before its process starts again;
- `at_rest` once at the end, unless a promise was broken before. `rest.outstanding` is what did not settle within `SETTLE_S` of
  virtual time after the last fault: `promises.Liveness` makes a violation of it.

A checker may besides have `acknowledged` and `trimmed` (`overseer.simulation.watch.InnerChecker`). After the first violation
nobody is told anything more.

In a trial of a mutant patch the code under test and call `play` for one seed after another: it holds no state of its own.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Generic, Protocol, TypeVar, runtime_checkable

import anyio
import msgspec

from overseer.checks import InlineVerifier
from overseer.graph import networked
from overseer.simulation.clients import Clients
from overseer.simulation.faults import Faults
from overseer.simulation.loop import VirtualLoop, run_virtually, uncollected
from overseer.simulation.network import Rest, SimulatedNetwork
from overseer.simulation.plan import Case, Fault, FaultKind, draw_faults
from overseer.simulation.promises import promises
from overseer.simulation.registry import find_scenario
from overseer.simulation.scenario import Author, Authored, Scenario, Sized, Submission, Violation
from overseer.simulation.trace import Trace
from overseer.simulation.watch import Watch

__all__ = ["SETTLE_S", "Outcome", "OwnMachinery", "Played", "drawn", "play"]

# After the last fault everything outstanding concludes within this virtual time. Clocks may be ten minutes off until then, and
# a subsystem's time never goes back: what it set a timer for is waited for as long.
SETTLE_S = 3_600.0
_LOOK_S = 0.5
# The network must be found at rest so often, one look after the other.
_LOOKS = 3

# Facts about signatures outlast a run: they depend on nothing else.
_VERIFIER = InlineVerifier(remember=200_000)


class Timed(Protocol):
    """A fault or an input: it has its moment."""

    @property
    def at_ms(self) -> int: ...


FaultT = TypeVar("FaultT", bound=Timed, covariant=True)
InputT = TypeVar("InputT", bound=Timed, covariant=True)


class Played(msgspec.Struct, Generic[FaultT, InputT], frozen=True):
    """What a case stands for: everything that was drawn for it, and what of it is kept."""

    faults: Sequence[FaultT]
    traffic: Sequence[InputT]
    # Whether a stream is to lose something, in what was drawn: checkpoints then leave what restores it.
    streams_lose: bool


class Outcome(msgspec.Struct, kw_only=True):
    """What became of one case. `virtual_s`, `real_s`, `computed_s`: how long it took, simulated, on this machine, of its processor."""

    case: Case
    violation: str | None = None
    checker: str = ""
    trace_hash: str = ""
    trace: list[str] = []
    faults: dict[str, int] = {}
    inputs: int = 0
    records: int = 0
    virtual_s: float = 0.0
    real_s: float = 0.0
    computed_s: float = 0.0


@runtime_checkable
class OwnMachinery(Sized, Protocol):
    """A scenario that is not played by nodes and their runners, but in a way of its own (replicated elections)."""

    name: str

    def drawn(self, case: Case) -> Played[Timed, Timed]: ...

    def play(self, case: Case, *, keep_lines: int | None = 200) -> Outcome: ...


def drawn(case: Case, scenario: Scenario | OwnMachinery) -> Played[Timed, Timed]:
    """The faults and inputs of a case, all that were drawn but for those that it does not keep."""
    return scenario.drawn(case) if isinstance(scenario, OwnMachinery) else _drawn(case, scenario)


def _drawn(case: Case, scenario: Scenario) -> Played[Fault, Submission]:
    cast = scenario.casts(case.network)[case.network.nodes[0]]
    joined = any(networked(make().declaration) for make in cast.values())
    faults = draw_faults(case, list(cast), networked=joined)
    traffic = list(scenario.traffic(case.network, Random(f"{case.seed} traffic")))
    return Played(
        faults if case.keep_faults is None else [faults[place] for place in case.keep_faults if place < len(faults)],
        traffic if case.keep_inputs is None else [traffic[place] for place in case.keep_inputs if place < len(traffic)],
        any(fault.kind in (FaultKind.STREAM_TRUNCATED, FaultKind.STREAM_REPLACED) for fault in faults),
    )


def play(case: Case, scenario: Scenario | OwnMachinery | None = None, *, keep_lines: int | None = 200) -> Outcome:
    """Play it. Raises only what is wrong with the machinery itself."""
    scenario = scenario or find_scenario(case.scenario)
    if isinstance(scenario, OwnMachinery):
        return scenario.play(case, keep_lines=keep_lines)
    began, computed = time.perf_counter(), time.process_time()
    with uncollected():
        outcome = run_virtually(_Run(case, scenario, _drawn(case, scenario), keep_lines).play())
    outcome.real_s, outcome.computed_s = time.perf_counter() - began, time.process_time() - computed
    return outcome


class _Run:
    def __init__(self, case: Case, scenario: Scenario, played: Played[Fault, Submission], keep_lines: int | None) -> None:
        self._case = case
        self._scenario = scenario
        self._played = played
        self._keep_lines = keep_lines

    async def play(self) -> Outcome:
        loop = _running_loop()
        trace = Trace(loop, keep=self._keep_lines)
        network, traffic = self._case.network, self._played.traffic
        casts = self._scenario.casts(network)
        watch = Watch([*promises(casts), *self._scenario.checkers(network, traffic)], trace)
        simulated = SimulatedNetwork(network, casts, loop, watch, trace, _VERIFIER, pruning=not self._played.streams_lose)
        faults = Faults(simulated, self._played.faults)
        clients = Clients(simulated, watch, traffic)
        author = self._scenario.author(clients) if isinstance(self._scenario, Authored) else None
        outstanding: list[str] = []
        async with simulated, anyio.create_task_group() as tasks:
            tasks.start_soon(_until_broken, watch, tasks.cancel_scope)
            for process in simulated.processes:
                tasks.start_soon(process.run)
            tasks.start_soon(clients.submit_all)
            tasks.start_soon(faults.inject)
            if author is not None:
                tasks.start_soon(author.run)
            await anyio.sleep(self._span_s())
            faults.cease()
            if author is not None:
                author.cease()
            outstanding = await _settle(lambda: _outstanding(simulated, clients, author), loop)
            for process in simulated.processes:
                process.kill()
            tasks.cancel_scope.cancel()
        for failure in loop.failures:
            watch.violated(Violation("machinery", repr(failure)))
        if watch.violation is None:
            watch.at_rest(Rest(simulated, outstanding))
        violation = watch.violation
        return Outcome(
            case=self._case,
            violation=None if violation is None else str(violation),
            checker="" if violation is None else violation.checker,
            trace_hash=trace.hash(),
            trace=list(trace.lines),
            faults=dict(sorted({**faults.done, "asked_again": clients.asked_again}.items())),
            inputs=clients.submitted,
            records=watch.records,
            virtual_s=loop.time(),
        )

    def _span_s(self) -> float:
        """How long things go wrong; of a case that keeps only parts, until the last of them is over."""
        if self._case.keep_faults is None and self._case.keep_inputs is None:
            return self._case.hours * 3600
        ends_ms = [fault.at_ms + fault.for_ms for fault in self._played.faults]
        ends_ms += [submission.at_ms for submission in self._played.traffic]
        return min(self._case.hours * 3600, max(ends_ms, default=0) / 1000 + 1)


async def _until_broken(watch: Watch, scope: anyio.CancelScope) -> None:
    await watch.broken.wait()
    scope.cancel()


async def _settle(outstanding: Callable[[], list[str]], loop: VirtualLoop) -> list[str]:
    """Wait until nothing moves any more; what did not come to rest in time, and why."""
    until_s = loop.time() + SETTLE_S
    still = 0
    while still < _LOOKS:
        await anyio.sleep(_LOOK_S)
        left = outstanding()
        still = 0 if left else still + 1
        if left and loop.time() >= until_s:
            return left
    return []


def _outstanding(simulated: SimulatedNetwork, clients: Clients, author: Author | None) -> list[str]:
    of_author = [author.outstanding] if author is not None and author.outstanding else []
    return [*clients.open.values(), *simulated.unsettled(), *of_author]


def _running_loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop
