"""Traces of a node of processes: what one command sets off is one trace through all of them; a collector away harms nothing."""

import socket
import sys
from pathlib import Path

import pytest

from messages.polkadot import VoteKind
from messages.scale import candidate_hash
from messages.text import to_json
from overseer.config import TraceConfig
from overseer.feeds.author import genesis_of
from overseer.feeds.make import make_block, make_bundle, make_receipt, make_validators
from overseer.observe.export import TracingNotInstalled, require_tracing
from overseer.settings import ConfigError, load_config
from tests.node.collector import Collector, Seen, collecting
from tests.node.nodes import SEED, Node, ballots, eventually, place, told

pytestmark = [pytest.mark.real, pytest.mark.anyio]


def path_to(spans: list[Seen], name: str, service: str) -> list[str]:
    """From the root of the trace to the span of that name: `<service> <name>` each. Fails where a parent is missing."""
    by_id = {span.span: span for span in spans}
    here: Seen | None = next(span for span in spans if span.name == name and span.service == service)
    steps: list[str] = []
    while here is not None:
        steps.append(f"{here.service}: {here.name}")
        assert not here.parent or here.parent in by_id, f"{steps[-1]} hangs under a span that nobody exported"
        here = by_id.get(here.parent)
    return steps[::-1]


async def test_a_dispute_is_one_trace_from_the_operator_through_all_that_react(tmp_path: Path) -> None:
    keys = make_validators(SEED, 10)
    genesis = genesis_of(SEED)
    receipt = make_receipt(f"{SEED}/0", para_id=1000, relay_parent=genesis)
    opening = make_block(genesis, 1, session=1, epoch_start=1, session_start=keys.validators)
    including = make_block(opening.hash, 2, session=1, included=[candidate_hash(receipt)])
    kinds = [VoteKind.EXPLICIT_INVALID] * 9 + [VoteKind.EXPLICIT_VALID]
    dispute = make_bundle(keys, receipt, list(enumerate(kinds)), session=1, block_number=2)
    with collecting() as collector, place(tmp_path, trace__endpoint=collector.url) as here:
        async with Node.up(here) as node:
            async with node.client() as client:
                await told(client, opening, "opening")
                await told(client, including, "including")
            done = here.run("send", "register_vote", "-", stdin=to_json(dispute))
            assert done.code == 0, done
            root = await _root(collector, "votes_db.cmd.register_vote", "operator")
            last = "process chain_api.sig.blocks_blacklisted"
            reacting = {"votes_db", "dispute_conclusion", "elections"}
            await eventually(
                lambda: reacting <= {span.service for span in collector.trace(root.trace) if span.name == last},
                "the blacklisting has reached all",
                log=lambda: "\n".join(f"{span.service}: {span.name}" for span in collector.trace(root.trace)),
            )
        spans = collector.trace(root.trace)
        assert len({span.pid for span in spans}) >= 5
        assert len({span.instance for span in spans}) == len({span.service for span in spans}) >= 5
        found = path_to(spans, last, "elections")
        assert found[:4] == [
            "operator: votes_db.cmd.register_vote",
            "votes_db: votes_db.cmd.register_vote",
            "votes_db: process votes_db.cmd.register_vote",
            "votes_db: send dispute_conclusion.cmd.resolution",
        ]
        assert found[-3:] == [
            "chain_api: process chain_api.cmd.blacklist",
            "chain_api: send chain_api.sig.blocks_blacklisted",
            "elections: process chain_api.sig.blocks_blacklisted",
        ], found
        assert len({span.span for span in spans}) == len(spans)


async def _root(collector: Collector, name: str, service: str) -> Seen:
    def found() -> list[Seen]:
        return [span for span in collector.spans() if span.name == name and span.service == service and not span.parent]

    await eventually(lambda: bool(found()), f"{service} has exported {name}")
    return found()[-1]


async def test_a_collector_that_hangs_holds_up_nobody_and_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        # It is connected to, and never says a word.
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with place(tmp_path, trace__endpoint=endpoint, trace__timeout_ms=300, trace__flush_ms=500) as here:
            opening = ballots(1, 4).opening
            async with Node.up(here) as node:
                async with node.client() as client:
                    await told(client, opening, "opening")
                said = await node.logged("traces_not_taken")
                assert said["endpoint"] == endpoint
                assert said["spans"] > 0
                asked = here.run("query", "best", "--json")
                assert asked.code == 0, asked
                assert asked.json["number"] == 1
                assert f"{endpoint} does not take traces" in asked.error
                assert await node.stop() == 0
            # Each process says it at most once a minute.
            said_by = [event["pid"] for event in node.events("traces_not_taken")]
            assert len(said_by) == len(set(said_by))


async def test_without_the_package_the_setting_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    require_tracing(TraceConfig())
    with pytest.raises(TracingNotInstalled, match=r"pip install -e '\.\[trace\]'"):
        require_tracing(TraceConfig(endpoint="http://127.0.0.1:4318"))


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4318", "ftp://host", "http://", "http://name:secret@host:4318", "http://host:x"])
async def test_an_endpoint_that_is_none_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigError, match=r"trace\.endpoint") as refused:
        load_config(environ={"OVERSEER_CONFIG": "", "OVERSEER_TRACE_ENDPOINT": endpoint})
    assert "secret" not in str(refused.value)
