"""Replicated elections, simulated: every promise is kept, by any seed, and a seed plays the same course each time."""

import json
import os
import subprocess
import sys
from collections import Counter
from random import Random

import pytest
from mutants_of_elections import ELECTION_MUTANTS

from overseer.simulation.campaign import Report, campaign, cases
from overseer.simulation.elections.plan import SiteFaultKind
from overseer.simulation.elections.scenario import scenarios
from overseer.simulation.elections.traffic import draw_inputs
from overseer.simulation.plan import Case
from overseer.simulation.registry import find_scenario
from overseer.simulation.run import drawn, play
from overseer.simulation.shrink import command, shrink

SAMPLE = {"elections": 16}
# By hand: `overseer simulate --scenario elections --seeds 5000 --from 1` (docs/reliability.md).
LARGE_SAMPLE = 60


def case(scenario: str, seed: int) -> Case:
    return next(cases(scenario, [seed], nodes=None, hours=None, faults=None))


@pytest.mark.parametrize("scenario", scenarios())
def test_each_election_is_linearizable_and_its_five_copies_are_equal_in_the_end(scenario: str) -> None:
    for seed in range(SAMPLE.get(scenario, 3)):
        outcome = play(case(scenario, seed))
        assert outcome.violation is None, f"{outcome.violation}\n{command(outcome.case)}"
        assert outcome.records > 5


@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_larger_sample_has_faults_of_every_kind() -> None:
    faults: Counter[str] = Counter()
    for scenario in scenarios():
        for seed in range(1_000, 1_000 + LARGE_SAMPLE):
            outcome = play(case(scenario, seed))
            assert outcome.violation is None, f"{outcome.violation}\n{command(outcome.case)}"
            faults.update(outcome.faults)
    assert set(faults) == {kind.value for kind in SiteFaultKind} | {"asked_again"}


_AGAIN = """
import sys
from overseer.simulation.campaign import cases
from overseer.simulation.run import play
for scenario in ("elections", "elections:log_lost"):
    for case in cases(scenario, [3, 4], nodes=None, hours=None, faults=None):
        print(play(case).trace_hash)
"""


def test_a_seed_is_the_same_course_in_every_process() -> None:
    told = set[str]()
    for chance in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": chance, "PYTHONPATH": os.pathsep.join(sys.path)}
        told.add(subprocess.run([sys.executable, "-c", _AGAIN], env=environment, capture_output=True, text=True, check=True).stdout)
    (hashes,) = told
    assert len(set(hashes.split())) == 4


def test_networks_have_five_or_eight_sites_and_all_that_elections_know() -> None:
    sizes = {case("elections", seed).nodes for seed in range(20)}
    assert sizes == {5, 8}
    names: Counter[str] = Counter()
    for seed in range(20):
        _, inputs = draw_inputs(Random(seed), 10_000)
        names.update(each.command.spec.name if each.command is not None else "read" for each in inputs)
    assert len(names) == 8, "the seven commands, and reading"


def test_a_broken_guard_is_shrunk_to_a_few_faults_and_inputs() -> None:
    with ELECTION_MUTANTS["answered_before_the_log"]():
        outcome = play(case("elections", 0))
        assert outcome.checker == "told"
        smallest = shrink(outcome, seconds=20)
        played = drawn(smallest.case, find_scenario("elections"))
        assert (smallest.checker, len(played.faults)) == ("told", 0)
        assert len(played.traffic) <= 3
        assert f"--seed 0 --scenario elections --nodes {smallest.case.nodes}" in command(smallest.case)


def test_a_campaign_adds_up_commands_and_faults() -> None:
    report = campaign(cases("elections", range(3), nodes=5, hours=0.001, faults=5), Report(scenario="elections", first_seed=0))
    assert (report.seeds, report.violations) == (3, [])
    assert report.inputs > 20
    assert report.faults_total > 0


def test_the_command_line_plays_elections_with_their_own_defaults() -> None:
    words = ["simulate", "--scenario", "elections:takeovers", "--seeds", "2", "--from", "7", "--json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-m", "overseer.cli.entry", *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert (report["scenario"], report["first_seed"], report["seeds"], report["violations"]) == ("elections:takeovers", 7, 2, [])
    assert report["faults_per_seed_min"] >= 10
