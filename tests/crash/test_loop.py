"""The crash loop in small; `python -m tests.crash.loop --kills 500` is the same at length."""

import pytest

from overseer.runner.observer import Step
from tests.crash.loop import crash_loop
from tests.crash.report import Report
from tests.crash.steps import step_kills
from tests.node.nodes import SUBSYSTEMS, Place

pytestmark = [pytest.mark.anyio, pytest.mark.real]


def nothing_is_lost_or_doubled(report: Report) -> None:
    assert report.problems == [], report
    assert report.votes_acknowledged > 0
    assert report.votes_stored == report.transactions_once == report.votes_acknowledged
    assert report.ballots_acknowledged > 0
    assert report.ballots_counted == report.ballots_acknowledged
    assert report.queue_accepted > 0
    assert report.queue_counted == report.queue_accepted


@pytest.mark.slow
async def test_whatever_is_killed_at_random_nothing_acknowledged_is_lost_or_doubled(here: Place) -> None:
    report = await crash_loop(here, kills=6, seed=3, seconds=12)
    nothing_is_lost_or_doubled(report)
    assert report.kills_total >= 1


@pytest.mark.slow
async def test_forty_kills_at_random_lose_and_double_nothing(here: Place) -> None:
    report = await crash_loop(here, kills=40, seed=4, seconds=75)
    nothing_is_lost_or_doubled(report)
    assert report.kills_total >= 10


# In every run the steps on whose two sides most differs; before a release all of them.
@pytest.mark.slow
@pytest.mark.parametrize(
    "step", [step if step in (Step.COMMITTED, Step.PUBLISHED) else pytest.param(step, marks=pytest.mark.full) for step in Step]
)
async def test_each_subsystem_killed_thrice_at_each_step_of_the_runner_under_traffic_loses_and_doubles_nothing(
    here: Place, step: Step
) -> None:
    report = await step_kills(here, step, rounds=3, seconds=120)
    nothing_is_lost_or_doubled(report)
    assert report.kills == {f"{name} {step.value}": 3 for name in SUBSYSTEMS}
