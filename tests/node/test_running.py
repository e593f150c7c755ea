"""A node from its start to its end, as people and machines use it."""

import json
import signal
from pathlib import Path

import anyio
import msgspec
import nats
import pytest

from messages.chain_api import Best, Header
from messages.codec import decode, encode
from messages.polkadot import VoteKind
from messages.text import to_json
from messages.votes_db import RegisterVote
from overseer.nats.accounts import inbox_prefix
from overseer.nats.keys import KeyFolder
from overseer.observe.http import fetch
from tests.node.nodes import SUBSYSTEMS, Node, Place, ballots, eventually, history, persistently, said_once, told, verified, votes_of

pytestmark = [pytest.mark.anyio, pytest.mark.real]


async def test_a_node_comes_up_serves_its_pages_and_ends_on_sigterm(here: Place) -> None:
    async with Node.up(here) as node:
        assert (await fetch(node.info.http_port, "/readyz", timeout_ms=5_000)).status == 200
        assert (await fetch(node.info.http_port, "/healthz", timeout_ms=5_000)).body == b"alive\n"
        page = (await fetch(node.info.http_port, "/metrics", timeout_ms=5_000)).body.decode()
        for name in ("up", "lag_messages", "position", "timers", "published_total", "outbox_messages"):
            assert f'overseer_{name}{{node="node",' in page, page
        status = here.run("status", "--json")
        assert status.code == 0, status
        assert status.json["wrong"] == []
        assert [row["state"] for row in status.json["subsystems"]] == ["ready"] * 5
        assert "node node" in here.run("status").out
        assert await node.stop() == 0
    assert here.run("status").code == 2


async def test_a_second_node_on_the_same_folder_is_refused(here: Place) -> None:
    async with Node.up(here):
        second = here.run("run")
        assert second.code == 2
        assert "another node is running" in second.error
        assert "Traceback" not in second.error


@pytest.mark.slow
async def test_votes_made_and_sent_by_the_command_line_come_back_stored(here: Place) -> None:
    opening = ballots(1, 10).opening
    async with Node.up(here) as node, node.client() as client:
        assert here.run("send", "import_block", "-", stdin=to_json(opening)).code == 0
        made = here.run("make", "bundle", "--seed", "0", "--valid", "0-6", "--invalid", "7", "--validators", "10")
        assert made.code == 0, made
        sent = here.run("send", "register_vote", "-", "--json", stdin=made.out.encode())
        assert sent.code == 0, sent
        assert [row[2] for row in sent.json["reply"]["outcomes"]] == ["stored"] * 8
        candidate = sent.json["reply"]["candidate"]
        found = here.run("query", "query_votes", json.dumps({"session": 1, "candidate": candidate}), "--json")
        assert found.json["pro"] == [0, 1, 2, 3, 4, 5, 6]
        assert found.json["cons"] == [7]
        # The same id twice is one command: the same place in the stream, the same outcome.
        one, other = (here.run("send", "register_vote", "-", "--id", "twice", "--json", stdin=made.out.encode()) for _ in range(2))
        assert one.code == other.code == 0, one
        assert one.json == other.json
        only_stored = here.run("send", "register_vote", "-", "--no-wait", "--json", stdin=made.out.encode())
        assert only_stored.json["status"] == "stored"
        injected = [m for m in await history(client) if m.sequence == only_stored.json["sequence"]]
        assert injected[0].subject == "overseer.node.op_operator.cmd.votes_db.register_vote"
        assert injected[0].headers == {"Content-Type": "application/cbor", "Overseer-Schema": "1"}
        listed = here.run("dispute", "list")
        assert candidate in listed.out
        assert "concluded_for" in listed.out
        shown = here.run("dispute", "show", candidate[:12])
        assert shown.code == 0, shown
        journal = here.run("journal", "votes_db", "--json", "--event", "votes_imported")
        assert json.loads(journal.out.splitlines()[-1])["result"] == "accepted"
    verified(here)


@pytest.mark.slow
async def test_as_it_comes_make_fits_the_chain_that_run_feeds(here: Place) -> None:
    here.settings |= {"feed.source": "dev", "feed.interval_ms": 100}
    async with Node.up(here):
        made = here.run("make", "bundle", "--valid", "0-6", "--invalid", "7")
        await eventually(lambda: here.run("query", "session", '{"index": 1}').code == 0, "the feed has begun")
        await eventually(
            lambda: here.run("send", "register_vote", "-", "--json", stdin=made.out.encode()).code == 0, "votes_db knows it too"
        )
        listed = here.run("dispute", "list", "--json").json
        (ours,) = [row for row in listed if row["candidate"] == made.json["candidate_hash"]]
        assert (ours["status"], ours["valid_votes"], ours["invalid_votes"]) == ("concluded_for", 7, 1)
        assert here.run("governance", "status", "--json").json["state"] == "left"


async def test_stock_requests_with_json_bodies_do(here: Place) -> None:
    """What `nats req` does: raw NATS, as the operator, with a JSON body."""
    made = ballots(1, 10)
    async with Node.up(here) as node:
        keys = KeyFolder(here.data / "keys")
        client = await nats.connect(
            node.info.url,
            nkeys_seed=str(keys.path("operator")),
            inbox_prefix=inbox_prefix("operator", "node").encode(),
            allow_reconnect=False,
        )
        try:
            as_json = {"Content-Type": "application/json"}
            for command in (made.opening, made.bundles[0]):
                subject = f"overseer.node.{command.spec.owner}.req.{command.spec.name}"
                with anyio.fail_after(20):
                    # The session the block starts is not known to votes_db at once: until then it refuses, to be asked again.
                    while True:
                        answer = await client.request(subject, to_json(command), timeout=15, headers=as_json)
                        outcome = json.loads(answer.data)
                        if not outcome.get("retriable"):
                            break
                assert outcome["status"] == "accepted", outcome
            query = {"session": 1, "candidate": "0x" + made.bundles[0].candidate_hash.hex()}
            votes = await client.request("overseer.node.votes_db.qry.query_votes", json.dumps(query).encode(), timeout=5, headers=as_json)
            assert len(json.loads(votes.data)["votes"]) == 10
            # No body at all comes from a person; CBOR from a program.
            best = await client.request("overseer.node.chain_api.qry.best", b"", timeout=5)
            assert json.loads(best.data)["number"] == 1
            header = decode(Header.spec, (await client.request("overseer.node.chain_api.qry.best", encode(Best()), timeout=5)).data)
            assert isinstance(header, Header)
            assert header.number == 1
        finally:
            await client.close()


async def test_all_subsystems_in_one_process(here: Place) -> None:
    made = ballots(2, 10)
    async with Node.up(here, "--in-process") as node, node.client() as client:
        await told(client, made.opening, "opening")
        for i, bundle in enumerate(made.bundles):
            await told(client, bundle, f"bundle {i}")
            assert len((await votes_of(client, bundle)).votes) == 10
        said_once(await history(client))
        # The node and its server, nobody else.
        assert len(here.processes()) == 2
        assert await node.stop() == 0
    verified(here)


async def test_what_was_stored_is_there_after_a_restart(here: Place) -> None:
    made = ballots(1, 10)
    async with Node.up(here) as node, node.client() as client:
        await told(client, made.opening, "opening")
        await told(client, made.bundles[0], "bundle")
        before = await votes_of(client, made.bundles[0])
    async with Node.up(here) as node, node.client() as client:
        assert await votes_of(client, made.bundles[0]) == before
        assert await told(client, made.bundles[0], "bundle") is not None
        said_once(await history(client))
    verified(here)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("phase", ["at once", "nats_started", "child_started"])
async def test_it_ends_on_a_signal_in_every_phase_of_its_start(here: Place, number: signal.Signals, phase: str) -> None:
    node = Node.start(here)
    try:
        if phase != "at once":
            await node.logged(phase)
        with anyio.fail_after(20):
            code = await node.stop(number)
    finally:
        node.kill()
    # At once: before Python has come to look for signals, the system's own default ends it.
    assert code in ((0, 130, -number) if phase == "at once" else (0,)), node.text()
    assert "Traceback" not in node.text()


@pytest.mark.slow
async def test_a_subsystem_started_by_hand_works_against_a_provisioned_server(here: Place, tmp_path: Path) -> None:
    """What a container does: a server of one's own, provisioned, and each subsystem a process of its own."""
    from overseer.nats.server import EmbeddedServer

    accounts = here.run("provision", "--accounts")
    assert accounts.code == 0, accounts
    made = ballots(1, 10)
    async with EmbeddedServer(tmp_path / "server", accounts.out) as server:
        dry = here.run("provision", "--nats", server.url, "--dry-run", "--json")
        assert dry.code == 0, dry
        assert any("create stream" in change for change in dry.json["changes"])
        done = here.run("provision", "--nats", server.url)
        assert "changes made" in done.out, done
        assert "nothing to change" in here.run("provision", "--nats", server.url).out
        children = [here.start("subsystem", name, "--nats", server.url) for name in SUBSYSTEMS]
        try:
            here.settings["nats.url"] = server.url
            from overseer.node.client import Client

            async with Client.connected(here.loaded().config, server.url, "operator") as client:
                for name in SUBSYSTEMS:
                    await persistently(lambda name=name: client.connection.request(f"$SRV.PING.{name}", b"", timeout_ms=1_000))
                await told(client, made.opening, "opening")
                await told(client, made.bundles[0], "bundle")
                assert len((await votes_of(client, made.bundles[0])).votes) == 10
        finally:
            for child in children:
                child.terminate()
            codes = [child.wait(20) for child in children]
        assert codes == [0] * len(SUBSYSTEMS)
    verified(here)


async def test_bad_bundles_are_refused_in_words(here: Place) -> None:
    made = ballots(1, 10)
    async with Node.up(here) as node, node.client() as client:
        await told(client, made.opening, "opening")
        wrong = msgspec.structs.replace(made.bundles[0], candidate_hash=bytes(32))
        refused = here.run("send", "register_vote", "-", stdin=to_json(wrong))
        assert refused.code == 1, refused
        assert "refused register_vote" in refused.error
        assert "b'" not in refused.error
        assert isinstance(wrong, RegisterVote)
        assert wrong.explicit_votes[-1].kind is VoteKind.EXPLICIT_INVALID
        await eventually(lambda: here.run("status").code == 0, "all is well")
