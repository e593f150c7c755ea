"""A metrics page read back: counts and times between two looks."""

import pytest
from prometheus_client import CollectorRegistry

from overseer.observe.metrics import RunnerInstruments, RunnerMetrics, page
from overseer.observe.scrape import EMPTY, PageError, Scrape, quantile_s, read_page, since


def instruments() -> tuple[CollectorRegistry, RunnerMetrics]:
    registry = CollectorRegistry()
    return registry, RunnerInstruments(registry).runner("alice", "votes_db")


def look(registry: CollectorRegistry) -> Scrape:
    return read_page(page(registry))["votes_db"]


def test_a_look_counts_what_was_done_since_the_one_before() -> None:
    registry, metrics = instruments()
    metrics.batch(3, 0.001, 0.004)
    before = look(registry)
    metrics.batch(40, 0.001, 0.02)
    metrics.published(7)
    between = since(before, look(registry))
    assert (between.processed, between.published) == (40, 7)
    assert quantile_s(between.commit, 0.5) == pytest.approx(0.0175)
    # Before, half were below 5 ms.
    assert quantile_s(before.commit, 0.5) == pytest.approx(0.00375)


def test_a_process_that_began_anew_is_told_from_its_start() -> None:
    registry, metrics = instruments()
    metrics.batch(500, 0.001, 0.004)
    reborn, its = instruments()
    its.batch(3, 0.001, 0.004)
    assert since(look(registry), look(reborn)).processed == 3


def test_quantiles_lie_within_the_bucket_they_fall_into() -> None:
    registry, metrics = instruments()
    for _ in range(98):
        metrics.flight(0.003)
    metrics.flight(3.0)
    metrics.flight(3_600.0)
    flight = look(registry).flight
    assert 0.0025 <= (quantile_s(flight, 0.5) or 0) <= 0.005
    assert 2.5 <= (quantile_s(flight, 0.985) or 0) <= 10.0
    # Longer than the last bound: that is all that is known.
    assert quantile_s(flight, 0.999) == 600.0


def test_without_observations_there_is_no_time() -> None:
    registry, _ = instruments()
    assert quantile_s(look(registry).flight, 0.5) is None
    assert quantile_s(EMPTY.flight, 0.99) is None


@pytest.mark.parametrize("text", ["<html>", "overseer_batch_messages_sum{ 3", 'overseer_flight_seconds_bucket{subsystem="a"} 3'])
def test_what_is_no_page_is_refused(text: str) -> None:
    with pytest.raises(PageError):
        read_page(text)
