"""The crash loop of a network in small; `python -m tests.crash.network --kills 200` is the same at length."""

import pytest

from tests.crash.network import crash_network
from tests.node.nodes import Place

pytestmark = [pytest.mark.anyio, pytest.mark.real]


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_whatever_is_killed_of_a_network_its_server_too_one_signed_chain_goes_on(here: Place) -> None:
    # The third stroke of this seed is everything at once.
    report = await crash_network(here, kills=20, seed=1, seconds=120)
    assert report.problems == [], report
    assert report.kills["nats-server"] >= 1
    assert report.kills_total >= 20
    assert report.epochs >= 1
    assert report.signed > 0
    # What was counted twice is looked for among these.
    assert report.deals > 0
    assert report.parts > 0
