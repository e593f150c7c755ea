"""The simulation's machinery: it repeats itself exactly, hurts what it runs, and makes small cases of large ones."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from counting import Counter
from mutants import MUTANTS
from tallying import Tallying

from messages.message import Message
from overseer.runner.engine import Batch, Engine
from overseer.runner.intake import Intake
from overseer.simulation.campaign import Report, campaign, cases
from overseer.simulation.clock import NodeClock
from overseer.simulation.loop import StandsStill, VirtualLoop, run_virtually
from overseer.simulation.plan import LOSING, Case, FaultKind, draw_faults
from overseer.simulation.run import play
from overseer.simulation.scenario import Cast, Network
from overseer.simulation.shrink import command, kept, shrink

HERE = Path(__file__).parent
TALLYING = "tallying:scenario"


def case(seed: int, *, nodes: int = 1, faults: int = 160, hours: float = 0.1) -> Case:
    return Case(seed=seed, scenario=TALLYING, nodes=nodes, hours=hours, faults=faults)


# ------------------------------------------------------------------------------------------------ time


def test_a_day_passes_in_no_time_and_in_order() -> None:
    woken: list[int] = []

    async def sleep(hours: int) -> None:
        await anyio.sleep(hours * 3600)
        woken.append(hours)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for hours in (24, 3, 11):
                tasks.start_soon(sleep, hours)

    run_virtually(main())
    assert woken == [3, 11, 24]


def test_a_program_that_waits_for_nothing_is_said_to_stand_still() -> None:
    with pytest.raises(StandsStill, match="no timer"):
        run_virtually(anyio.Event().wait())


def test_a_task_that_spins_does_not_stop_the_clock() -> None:
    async def main() -> float:
        with anyio.move_on_after(0.01):
            while True:
                await anyio.lowlevel.checkpoint()
        return anyio.current_time()

    assert run_virtually(main()) < 0.02


def test_who_waits_by_a_machines_clock_sees_that_it_jumps() -> None:
    ended: dict[str, float] = {}

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        clock = NodeClock(loop)
        until_ms, event = clock.now_ms() + 10_000, anyio.Event()

        async def note(name: str, waited: Awaitable[None]) -> None:
            await waited
            ended[name] = round(anyio.current_time())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(note, "asleep", clock.sleep_until(until_ms))
            tasks.start_soon(note, "in vain", clock.wait(anyio.Event(), until_ms))
            tasks.start_soon(note, "for it", clock.wait(event, until_ms))
            await anyio.sleep(3)
            event.set()
            # Four seconds are left for who waits for the time; then it steps back, and nine are.
            clock.jump(3_000)
            clock.jump(-2_000)

    run_virtually(main())
    assert ended == {"for it": 3, "asleep": 12, "in vain": 12}


# ------------------------------------------------------------------------------------------------ the same again

_TWICE = """
import sys
sys.path[:0] = {paths!r}
from overseer.simulation.plan import Case
from overseer.simulation.run import play
for seed, nodes in ((1, 1), (2, 3)):
    print(play(Case(seed=seed, scenario="tallying:scenario", nodes=nodes, hours=0.1, faults=160)).trace_hash)
"""


def hashes(hash_seed: str) -> str:
    paths = [str(HERE.parent.parent), str(HERE), str(HERE.parent / "runner")]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run([sys.executable, "-c", _TWICE.format(paths=paths)], env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def test_the_same_seed_gives_the_same_trace_in_processes_with_different_hashes() -> None:
    first = hashes("1")
    assert len(first.split()) == 2
    assert hashes("4711") == first


def test_the_same_seed_gives_the_same_trace_twice_in_one_process_and_another_seed_another() -> None:
    assert play(case(3)).trace_hash == play(case(3)).trace_hash != play(case(4)).trace_hash


# ------------------------------------------------------------------------------------------------ faults


def test_a_seed_has_a_hundred_faults_at_its_usual_size_and_keeps_every_promise() -> None:
    outcome = play(case(5))
    assert outcome.violation is None, "\n".join(outcome.trace)
    assert sum(outcome.faults.values()) >= 100
    assert outcome.records > 50


@pytest.mark.slow
def test_every_kind_of_fault_is_drawn_and_has_an_effect() -> None:
    report = Report(scenario=TALLYING, first_seed=100)
    campaign(cases(TALLYING, range(100, 116), nodes=2, hours=0.1, faults=200), report, shrink_s=0)
    assert not report.violations, report.violations
    seldom = {kind.value for kind in LOSING}
    assert {kind.value for kind in FaultKind} - seldom <= set(report.faults)
    drawn = {fault.kind for seed in range(200) for fault in draw_faults(case(seed), ["counter"], networked=True)}
    assert drawn == set(FaultKind)


@pytest.mark.parametrize("nodes", [1, 2, 5])
def test_networks_of_any_size_come_to_rest(nodes: int) -> None:
    outcome = play(case(11, nodes=nodes))
    assert outcome.violation is None, "\n".join(outcome.trace)


# ------------------------------------------------------------------------------------------------ what it catches


class _Forgetful(Counter):
    """Adds every third amount twice, by a count that no table holds: a process that was started again counts anew."""

    evolved = 0

    def evolve(self, tables: Any, event: Message) -> None:
        super().evolve(tables, event)
        self.evolved += 1
        if self.evolved % 3 == 0:
            super().evolve(tables, event)


class _Broken(Tallying):
    def casts(self, network: Network) -> Mapping[str, Cast]:
        return {node: {**cast, "counter": _Forgetful} for node, cast in super().casts(network).items()}


def caught(seeds: Sequence[int], scenario: Tallying | None = None) -> set[str]:
    """The checkers that found something in one of these seeds."""
    found = [play(case(seed), scenario) for seed in seeds]
    return {outcome.checker for outcome in found if outcome.violation is not None}


def test_tables_that_do_not_follow_from_the_journal_are_caught() -> None:
    assert "replay" in caught([1], _Broken())


def test_telling_an_outcome_before_its_commit_is_caught() -> None:
    with MUTANTS["answer_before_the_commit"]():
        assert caught(range(1, 6)) == {"acknowledged"}


def test_publishing_before_the_commit_is_caught() -> None:
    with MUTANTS["publish_before_the_commit"]():
        assert caught(range(1, 6)) == {"publishing"}


def test_forgetting_what_was_taken_before_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def anew(self: Engine, batch: Batch, overlay: Any, intake: Intake) -> bool:
        return True

    monkeypatch.setattr(Engine, "_once", anew)
    assert "once only" in caught(range(1, 6))


def test_skipping_a_message_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = Engine.handle
    seen = 0

    def careless(self: Engine, batch: Batch, stream: str, stream_id: str, intake: Intake, *arguments: Any, **options: Any) -> None:
        nonlocal seen
        seen += 1
        if seen % 50:
            handle(self, batch, stream, stream_id, intake, *arguments, **options)

    monkeypatch.setattr(Engine, "handle", careless)
    assert caught(range(1, 6)) & {"in order", "liveness", "acknowledged"}


# ------------------------------------------------------------------------------------------------ many


def test_every_seed_is_played_once_whatever_the_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE.parent.parent), str(HERE), str(HERE.parent / "runner")]))
    seen: list[int] = []
    report = Report(scenario=TALLYING, first_seed=20)
    few = cases(TALLYING, range(20, 33), nodes=1, hours=0.01, faults=10)
    campaign(few, report, jobs=2, tell=lambda outcome: seen.append(outcome.case.seed))
    assert sorted(seen) == list(range(20, 33))
    assert report.seeds == 13
    assert not report.violations, report.violations


# ------------------------------------------------------------------------------------------------ smaller


def test_a_failing_case_is_shrunk_to_one_that_fails_alike_and_replays_exactly() -> None:
    broken = _Broken(inputs=24)
    played = (play(case(seed, faults=24, hours=0.02), broken) for seed in range(1, 6))
    outcome = next(outcome for outcome in played if outcome.checker == "replay")
    smallest = shrink(outcome, broken, seconds=120)
    assert smallest.checker == "replay"
    assert smallest.case.keep_faults is not None
    assert smallest.case.keep_inputs is not None
    assert len(smallest.case.keep_faults) <= 4, "one kill would do"
    assert len(smallest.case.keep_inputs) <= 8
    again = play(smallest.case, broken)
    assert (again.violation, again.trace_hash) == (smallest.violation, smallest.trace_hash)


def test_a_command_line_names_the_case_that_it_replays() -> None:
    given = msgspec.structs.replace(case(9), keep_faults=(1, 3, 4, 5), keep_inputs=())
    line = command(given)
    assert line == (
        "overseer simulate --seed 9 --scenario tallying:scenario --nodes 1 --hours 0.1 --faults 160 --keep-faults 1,3-5 --keep-inputs none"
    )
    assert (kept("1,3-5"), kept("none")) == (given.keep_faults, given.keep_inputs)
    with pytest.raises(ValueError, match="neither a place"):
        kept("one")


def test_what_is_kept_of_a_case_leaves_the_rest_as_it_was() -> None:
    whole = draw_faults(case(9), ["counter", "auditor"], networked=True)
    again = draw_faults(msgspec.structs.replace(case(9), keep_faults=(3,)), ["counter", "auditor"], networked=True)
    assert whole == again
