"""Figures of the domain: asked all at once, each within its time, told as gauges, and all of them documented."""

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from messages.chain_queries import GovernanceReport, GovernanceStatus, Header
from messages.codec import CodecError
from messages.message import Message
from messages.signals import GovernanceState
from overseer.node.client import Refused
from overseer.node.domains import DOMAINS, domains_of
from overseer.node.figures import Domain, DomainCollector, Figure, Look, look_at_domains
from overseer.observe.metrics import page
from overseer.ports.bus import BusUnavailable
from tests.node.nodes import Node, Place

CHAIN = next(domain for domain in DOMAINS if domain.title == "chain")
OPERATING = Path(__file__).parents[2] / "docs" / "operating.md"


class Answers:
    """Whoever answers for the node: from a function; what it answers nothing to hangs for ever."""

    def __init__(self, answer: Callable[[Message], Message | None], silent_s: float | None = None) -> None:
        self._answer = answer
        self._silent_s = silent_s

    async def query(self, query: Message) -> Message:
        answer = self._answer(query)
        if answer is None:
            await anyio.sleep_forever()
        assert answer is not None
        return answer

    async def silent_s(self, signal: type[Message]) -> float | None:
        return self._silent_s


def chain(query: Message) -> Message | None:
    if isinstance(query, GovernanceStatus):
        return GovernanceReport(
            state=GovernanceState.ENTERED, entry=1, frozen_at=4, roots=[], chain=bytes(32), authority=None, blacklisted=3
        )
    return Header(hash=bytes(32), parent=bytes(32), number=7, session=2) if query.spec.owner == "chain_api" else None


def gauges(looks: list[Look]) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(DomainCollector(DOMAINS, lambda: looks, node="alice"))
    families = text_string_to_metric_families(page(registry))
    return {f"{s.name}:{s.labels.get('domain', s.labels['subsystem'])}": s.value for family in families for s in family.samples}


@pytest.mark.anyio
async def test_one_that_does_not_answer_is_named_and_the_others_are_told() -> None:
    looks = await look_at_domains(DOMAINS, Answers(chain, 12.5), answer_ms=50)
    told = {look.title: look for look in looks}
    assert told["chain"].figures == {
        "best_block": 7,
        "session": 2,
        "finalized_block": 7,
        "best_block_age_seconds": 12.5,
        "governance_mode": 1,
        "blacklisted_blocks": 3,
    }
    assert told["chain"].problem == ""
    assert {look.problem for look in looks if look.title != "chain"} == {"no answer within 0.05 s"}
    assert [look.title for look in looks] == [domain.title for domain in DOMAINS]
    shown = gauges(looks)
    assert shown["overseer_best_block:chain_api"] == 7
    assert shown["overseer_governance_mode:chain_api"] == 1
    assert (shown["overseer_domain_answers:chain"], shown["overseer_domain_answers:disputes"]) == (1, 0)
    assert not any(name.startswith("overseer_disputes") for name in shown)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "error",
    [BusUnavailable("away"), Refused(GovernanceStatus(), "busy", None, retriable=True), CodecError("unknown_field", "of another release")],
)
async def test_one_that_refuses_is_told_with_its_words(error: Exception) -> None:
    def refuse(query: Message) -> Message | None:
        raise error

    looks = await look_at_domains([CHAIN], Answers(refuse))
    assert [look.problem for look in looks] == [str(error)]
    assert not looks[0].figures


def test_before_the_first_look_there_is_nothing() -> None:
    assert gauges([]) == {}


def test_every_gauge_is_named_once_and_documented() -> None:
    names = [figure.name for domain in DOMAINS for figure in domain.figures]
    assert len(names) == len(set(names))
    text = OPERATING.read_text()
    assert not [name for name in names if f"`overseer_{name}`" not in text]


def test_elections_on_several_sites_are_no_peer_and_what_does_not_run_is_not_asked() -> None:
    def titles(domains: list[Domain]) -> list[str]:
        return [domain.title for domain in domains]

    assert titles(domains_of(("chain_api", "elections"))) == ["chain", "elections", "peers"]
    assert titles(domains_of(("chain_api", "elections"), ("dc1", "dc2"))) == ["chain", "elections"]


def test_a_figure_is_said_in_its_unit() -> None:
    assert Figure("a", "best", "").text(1234567) == "best 1234567"
    assert Figure("a", "age", "", "s").text(125) == "age 2 min"
    assert Figure("a", "age", "", "s").text(3) == "age 3 s"
    assert Figure("a", "governance mode", "", "on").text(1) == "governance mode on"


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.anyio
async def test_what_the_feed_is_is_asked_of_the_run_and_not_of_the_configuration_here(here: Place) -> None:
    async with Node.up(here, "--feed", "none") as node:
        assert (node.info.feed_ms, node.info.networked) == (0, False)
    async with Node.up(here, "--feed", "dev") as node:
        assert node.info.feed_ms == 6_000
