"""Metrics: what a runner and the supervisor report is on the page, once, and bounded."""

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from overseer.observe.metrics import LABEL_VALUES_MAX, RunnerInstruments, SupervisionCollector, merged_page, page
from overseer.runner.observer import Observer, Step
from overseer.supervise.status import Beat, ChildState, ChildStatus


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {(s.name, frozenset(s.labels.items())): s.value for family in text_string_to_metric_families(text) for s in family.samples}


def value(text: str, name: str, **labels: str) -> float | None:
    return samples(text).get((name, frozenset({"node": "alice", **labels}.items())))


def reported() -> CollectorRegistry:
    registry = CollectorRegistry()
    instruments = RunnerInstruments(registry)
    for name in ("votes_db", "chain_api"):
        metrics = instruments.runner("alice", name)
        observer: Observer = metrics
        observer.step(Step.COMMITTED)
        observer.batch(40, 0.002, 0.0004)
        observer.flight(0.012)
        observer.result("accepted", "")
        observer.result("rejected", "unknown_session")
        observer.result("parked", "id_reused")
        observer.trouble("bus: away")
        metrics.published(3)
        metrics.lag("node", 17)
        metrics.position("node", 1_000)
        metrics.outbox("net", 5)
        metrics.timers(2)
    return registry


def test_everything_a_runner_reports_is_on_the_page() -> None:
    text = page(reported())
    who = {"subsystem": "votes_db"}
    assert value(text, "overseer_batch_messages_sum", **who) == 40
    assert value(text, "overseer_decide_seconds_bucket", le="0.0025", **who) == 1
    assert value(text, "overseer_commit_seconds_count", **who) == 1
    assert value(text, "overseer_flight_seconds_sum", **who) == 0.012
    assert value(text, "overseer_accepted_total", **who) == 1
    assert value(text, "overseer_rejected_total", code="unknown_session", **who) == 1
    assert value(text, "overseer_parked_total", reason="id_reused", **who) == 1
    assert value(text, "overseer_published_total", **who) == 3
    assert value(text, "overseer_troubles_total", **who) == 1
    assert value(text, "overseer_lag_messages", stream="node", **who) == 17
    assert value(text, "overseer_position", stream="node", **who) == 1_000
    assert value(text, "overseer_outbox_messages", stream="net", **who) == 5
    assert value(text, "overseer_timers", **who) == 2
    assert value(text, "overseer_steps_total", step="committed", **who) == 1


def test_a_trouble_is_told_with_its_text() -> None:
    told: list[str] = []
    RunnerInstruments(CollectorRegistry()).runner("alice", "votes_db", trouble=told.append).trouble("bus: away")
    assert told == ["bus: away"]


def test_a_flood_of_unknown_codes_is_counted_as_other() -> None:
    registry = CollectorRegistry()
    metrics = RunnerInstruments(registry).runner("alice", "votes_db")
    for number in range(10_000):
        metrics.result("rejected", f"code{number}")
    text = page(registry)
    assert text.count("overseer_rejected_total{") == LABEL_VALUES_MAX + 1
    assert value(text, "overseer_rejected_total", subsystem="votes_db", code="other") == 10_000 - LABEL_VALUES_MAX


def test_the_supervisor_is_read_at_each_scrape() -> None:
    statuses = [ChildStatus(name="votes_db", state=ChildState.READY, since_ms=0, beat=Beat(progress=9))]
    registry = CollectorRegistry()
    registry.register(SupervisionCollector(lambda: statuses, node="alice"))
    text = page(registry)
    assert value(text, "overseer_up", subsystem="votes_db") == 1
    assert value(text, "overseer_progress", subsystem="votes_db") == 9
    statuses[0] = ChildStatus(name="votes_db", state=ChildState.STALLED, since_ms=0, restarts=4, stalls=1)
    text = page(registry)
    assert value(text, "overseer_up", subsystem="votes_db") == 0
    assert value(text, "overseer_restarts_total", subsystem="votes_db") == 4
    assert value(text, "overseer_stalls_total", subsystem="votes_db") == 1
    assert value(text, "overseer_child_state", subsystem="votes_db", state="stalled") == 1
    assert value(text, "overseer_child_state", subsystem="votes_db", state="ready") == 0


def test_pages_of_several_processes_become_one_with_each_family_once() -> None:
    one, two = CollectorRegistry(), CollectorRegistry()
    RunnerInstruments(one).runner("alice", "votes_db").published(1)
    RunnerInstruments(two).runner("alice", "chain_api").published(2)
    merged = merged_page([page(one), page(two), ""])
    assert value(merged, "overseer_published_total", subsystem="votes_db") == 1
    assert value(merged, "overseer_published_total", subsystem="chain_api") == 2
    heads = [line for line in merged.splitlines() if line.startswith("# TYPE")]
    assert len(heads) == len(set(heads))
    assert samples(merged) == samples(page(one)) | samples(page(two))
