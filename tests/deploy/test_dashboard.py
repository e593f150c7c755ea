"""Dashboard and alerts read what there is: every metric and label of theirs is on a running node's page, and is read as its type allows."""

import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from messages.chain_api import FinalizeBlock
from overseer.node.client import Refused
from overseer.node.domains import DOMAINS
from overseer.observe.http import fetch
from overseer.observe.metrics import RunnerInstruments, SiteInstruments
from tests.deploy.promql import Read, reads
from tests.node.nodes import DEADLINE_S, ROOT, Node, place

DASHBOARD = ROOT / "deploy" / "grafana" / "overseer.json"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
RATES = {"rate", "irate", "increase"}
# When a counter began, which the client library tells beside each: nobody needs a picture of it.
LEFT_OUT = re.compile(r"_created$")
# Prometheus' own.
OWN = {"up": frozenset({"job", "instance"})}


class Metric(NamedTuple):
    type: str
    labels: frozenset[str]


Metrics = dict[str, Metric]


@pytest.fixture(scope="module")
async def page(tmp_path_factory: pytest.TempPathFactory, anyio_backend: str) -> AsyncIterator[str]:
    """The metrics of a node that has accepted, refused and set aside something."""
    with place(tmp_path_factory.mktemp("dashboard")) as here:
        async with Node.up(here) as node:
            async with node.client() as client:
                for _ in range(2):
                    with pytest.raises(Refused):
                        await client.request(FinalizeBlock(hash=bytes(32)), command_id="refused")
                with pytest.raises(Refused):
                    await client.request(FinalizeBlock(hash=bytes([1] * 32)), command_id="refused")
            text = ""
            with anyio.fail_after(DEADLINE_S):
                while not all(name in text for name in ("overseer_blacklisted_blocks", "overseer_peers_known", "overseer_parked_total{")):
                    text = (await fetch(node.info.http_port, "/metrics", timeout_ms=5_000)).body.decode()
                    await anyio.sleep(0.1)
            yield text


@pytest.fixture(scope="module")
def metrics(page: str) -> Metrics:
    """Sample name -> its family's type and labels."""
    found: Metrics = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            known = found.get(sample.name, Metric(family.type, frozenset()))
            found[sample.name] = Metric(known.type, known.labels | set(sample.labels))
    # A part of the domain of which there is nothing to tell yet has no gauge.
    for figure in (figure for domain in DOMAINS for figure in domain.figures):
        found.setdefault(f"overseer_{figure.name}", Metric("gauge", frozenset({"node", "subsystem"})))
    return found | of_sites()


def of_sites() -> Metrics:
    """Those of processes that hold elections on several sites."""
    registry = CollectorRegistry()
    SiteInstruments(registry, "elections_dc1")
    families = list(registry.collect())
    assert len(families) == 4
    names = {f"{family.name}_total" if family.type == "counter" else family.name: family.type for family in families}
    return {name: Metric(kind, frozenset({"site"})) for name, kind in names.items()}


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    return json.loads(DASHBOARD.read_text())


def queries(dashboard: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Panel, expression, legend."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"], target["legendFormat"]


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def wrong(read: Read, metrics: Metrics) -> str:
    """What is wrong with reading a metric so, or ""."""
    if read.metric in OWN:
        return "" if read.labels <= OWN[read.metric] else f"{read.metric} has no {sorted(read.labels - OWN[read.metric])}"
    metric = metrics.get(read.metric)
    if metric is None:
        return f"there is no metric {read.metric}"
    if not read.labels <= metric.labels:
        return f"{read.metric} has no label {sorted(read.labels - metric.labels)}, but {sorted(metric.labels)}"
    cumulative = metric.type == "counter" or (metric.type == "histogram" and not read.metric.endswith("_created"))
    functions = set(read.functions)
    if cumulative and not functions & RATES:
        return f"{read.metric} only ever grows: take its rate"
    if not cumulative and functions & RATES:
        return f"{read.metric} is a {metric.type}: a rate of it means nothing"
    if cumulative and functions & {"deriv", "delta"}:
        return f"{read.metric} is a {metric.type}: take its rate"
    if "histogram_quantile" in functions and not (read.metric.endswith("_bucket") and "le" in read.labels):
        return f"a quantile of {read.metric} needs buckets, by le"
    return ""


@pytest.mark.real
@pytest.mark.anyio
async def test_every_expression_of_the_dashboard_reads_what_there_is(metrics: Metrics, dashboard: dict[str, Any]) -> None:
    problems: list[str] = []
    for title, expression, legend in queries(dashboard):
        found = reads(expression)
        problems += [f"{title}: {problem}" for read in found if (problem := wrong(read, metrics))]
        shown = set(re.findall(r"{{(\w+)}}", legend))
        # Of what is grouped the other labels are gone.
        grouped = {label for group in re.findall(r"by \(([^)]*)\)", expression) for label in re.split(r",\s*", group)}
        kept = grouped if grouped else set().union(*(metrics[read.metric].labels for read in found if read.metric in metrics))
        problems += [f"{title}: the legend shows {label}, which is not there" for label in shown - kept]
    assert not problems


@pytest.mark.real
@pytest.mark.anyio
async def test_every_metric_of_a_node_is_in_the_dashboard(metrics: Metrics, dashboard: dict[str, Any]) -> None:
    read = {read.metric for _, expression, _ in queries(dashboard) for read in reads(expression)}
    family = re.compile(r"_(bucket|sum|count)$")
    shown = {family.sub("", name) for name in read}
    assert {name for name in metrics if not LEFT_OUT.search(name) and family.sub("", name) not in shown} == set()


@pytest.mark.real
@pytest.mark.anyio
async def test_every_alert_reads_what_there_is(metrics: Metrics) -> None:
    problems = [f"{rule['alert']}: {problem}" for rule in alerts() for read in reads(rule["expr"]) if (problem := wrong(read, metrics))]
    assert not problems
    for rule in alerts():
        labels = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        had = set().union(*(metrics[read.metric].labels if read.metric in metrics else OWN[read.metric] for read in reads(rule["expr"])))
        assert labels <= had, rule["alert"]


def test_what_is_read_wrongly_is_noticed() -> None:
    metrics = {
        "overseer_up": Metric("gauge", frozenset({"node", "subsystem"})),
        "overseer_accepted_total": Metric("counter", frozenset({"node", "subsystem"})),
        "overseer_flight_seconds_bucket": Metric("histogram", frozenset({"node", "subsystem", "le"})),
    }

    def problems(expression: str) -> list[str]:
        return [problem for read in reads(expression) if (problem := wrong(read, metrics))]

    assert problems('sum by (node) (rate(overseer_accepted_total{subsystem=~"$subsystem"}[$__rate_interval]))') == []
    assert problems("histogram_quantile(0.9, sum by (le) (rate(overseer_flight_seconds_bucket[5m])))") == []
    assert problems("overseer_gone") == ["there is no metric overseer_gone"]
    assert "has no label" in problems("sum by (stream) (overseer_up)")[0]
    assert "take its rate" in problems("overseer_accepted_total > 3")[0]
    assert "means nothing" in problems("rate(overseer_up[5m])")[0]
    assert "by le" in problems("histogram_quantile(0.9, sum by (node) (rate(overseer_flight_seconds_bucket[5m])))")[0]
    with pytest.raises(ValueError, match=r".+"):
        reads("sum(overseer_up")


def test_the_labels_that_only_trouble_shows_are_known_to_the_code() -> None:
    instruments = RunnerInstruments(CollectorRegistry())
    assert instruments.rejected._labelnames == ("node", "subsystem", "code")
    assert instruments.parked._labelnames == ("node", "subsystem", "reason")


# ------------------------------------------------------------------------------------------------ as Grafana takes it


def test_the_dashboard_is_one_that_grafana_loads(dashboard: dict[str, Any]) -> None:
    assert dashboard["schemaVersion"] >= 36
    assert dashboard["uid"]
    assert dashboard["title"]
    assert "id" not in dashboard, "an id of another Grafana would hide it in yours"
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert list(variables) == ["datasource", "node", "subsystem"]
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    assert all(
        re.fullmatch(r'label_values\(overseer_up(\{node=~"\$node"\})?, \w+\)', variables[name]["query"]["query"])
        for name in ("node", "subsystem")
    )
    for panel in panels:
        assert panel["type"] in ("row", "timeseries", "stat"), panel["title"]
        if panel["type"] != "row":
            assert panel["description"], panel["title"]
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])
            assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0
    used = set(re.findall(r"\$(?!__)\{?(\w+)", json.dumps(panels)))
    assert used == set(variables)


def test_no_panel_lies_over_another(dashboard: dict[str, Any]) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies over {taken.get((x, y))}"
                taken[x, y] = panel["title"]


def test_grafana_is_given_the_dashboard_and_its_source() -> None:
    folder = ROOT / "deploy" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    (provider,) = yaml.safe_load((folder / "dashboards" / "overseer.yml").read_text())["providers"]
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    mounted = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"] if volume.startswith("."))
    assert mounted["./deploy/grafana/overseer.json"] == f"{provider['options']['path']}/overseer.json"
    assert mounted["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    scraped = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"][0]
    ours = {name for name, service in services.items() if service["profiles"] == ["one"] and "healthcheck" in service} - {"nats"}
    assert {target.removesuffix(":8080") for target in scraped["static_configs"][0]["targets"]} == ours


# ------------------------------------------------------------------------------------------------ as Prometheus takes it


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not on PATH: it comes with Prometheus (apt: prometheus)")
    return found


def test_prometheus_takes_configuration_and_rules(promtool: str) -> None:
    done = subprocess.run([promtool, "check", "config", ALERTS.parent / "prometheus.yml"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_on_what_it_is_about(promtool: str, tmp_path: Path) -> None:
    tested = ROOT / "tests" / "deploy" / "alerts_test.yml"
    shutil.copy(ALERTS, tmp_path)
    shutil.copy(tested, tmp_path)
    done = subprocess.run([promtool, "test", "rules", tested.name], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {rule["alert"] for rule in alerts()} == set(re.findall(r"\bOverseer\w+", tested.read_text()))


def test_each_alert_says_what_to_do_and_is_documented() -> None:
    text = (ROOT / "docs" / "observability.md").read_text()
    for rule in alerts():
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}, rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert f"| `{rule['alert']}` |" in text
        for page, anchor in re.findall(r"(docs/[\w-]+\.md)(?:#([\w-]+))?", rule["annotations"]["runbook"]):
            titles = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(), flags=re.M)
            anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert not anchor or anchor in anchors, f"{rule['alert']}: {page} has no #{anchor}"
