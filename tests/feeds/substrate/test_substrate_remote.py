"""A remote node over a real WebSocket: what it answers is checked, bounded and named; what it does not answer ends the connection."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from messages.polkadot import VoteKind
from messages.scale import candidate_hash
from overseer.feeds.substrate.link import linked
from overseer.feeds.substrate.reading import EVERYTHING, read_block, read_validators
from overseer.feeds.substrate.remote import Remote, Runtimes
from overseer.feeds.substrate.runtime import CANDIDATES, DISPUTES, SESSIONS
from overseer.feeds.substrate.survey import survey
from overseer.feeds.substrate.troubles import RemoteError, RemoteGone, RemoteLies, RemotePruned, RemoteRefused
from tests.feeds.substrate.relay import RelayRuntime
from tests.feeds.substrate.remote_chain import RemoteChain
from tests.feeds.substrate.rpc_server import SILENCE, Refusal, RpcServer, raw, rpc_server
from tests.node.nodes import ROOT, Place

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server() -> AsyncIterator[RpcServer]:
    async with rpc_server(RemoteChain()) as served:
        yield served


def instead(server: RpcServer, method: str, answer: Any) -> None:
    """Let the server answer a method so; an exception is raised there."""

    def fault(called: str, _: list[Any], result: Any) -> Any:
        if called != method:
            return result
        if isinstance(answer, Exception):
            raise answer
        return answer

    server.fault = fault


# ------------------------------------------------------------------------------------------------ what is read


async def test_a_block_is_read_with_its_candidates_and_votes(server: RpcServer) -> None:
    chain = server.chain
    receipt = chain.candidate("one")
    chain.grow(backed=[receipt])
    cast = chain.votes(receipt, [(i, VoteKind.EXPLICIT_INVALID) for i in range(3)])
    block = chain.grow(included=[receipt], disputes=[cast])
    async with linked(server.url) as link:
        remote, runtimes = Remote(link), Runtimes()
        found = await read_block(remote, runtimes, block)
        assert (found.header.hash, found.session, found.unread) == (block, 1, {})
        assert [candidate_hash(r) for r in found.candidates.included] == [candidate_hash(receipt)]
        assert [(s.candidate, s.session, s.votes) for s in found.disputes] == [(cast[1], 1, list(cast[2]))]
        assert await read_validators(remote, runtimes, 1, chain.genesis) == chain.keyring(1).validators
        # One version, read once.
        assert server.calls["state_getMetadata"] == 1
        # By a header in hand it is not asked for again.
        assert await read_block(remote, runtimes, found.header) == found
        assert server.calls["chain_getHeader"] == 1


async def test_a_block_that_changes_the_runtime_is_read_by_the_old_one() -> None:
    chain = RemoteChain(runtimes=[RelayRuntime(1, receipts=1), RelayRuntime(2, receipts=2)])
    receipt = chain.candidate("one")
    change = chain.grow(included=[receipt], spec=2)
    after = chain.grow(included=[receipt])
    async with rpc_server(chain) as server, linked(server.url) as link:
        remote, runtimes = Remote(link), Runtimes()
        for block in (change, after):
            found = await read_block(remote, runtimes, block)
            assert (found.candidates.included, found.unread) == ([receipt], {})
        assert server.calls["state_getMetadata"] == 2


async def test_a_block_of_an_unknown_runtime_is_its_header_and_the_reason() -> None:
    chain = RemoteChain(runtimes=[RelayRuntime(1, backed_name="CandidateSeconded", enter="enter_all")])
    block = chain.grow()
    async with rpc_server(chain) as server, linked(server.url) as link:
        found = await read_block(Remote(link), Runtimes(), block)
        assert (found.header.number, found.session) == (1, 1)
        assert found.unread == {CANDIDATES: "no ParaInclusion.CandidateBacked", DISPUTES: "no ParaInherent.enter"}


async def test_metadata_that_is_none_leaves_the_header(server: RpcServer) -> None:
    block = server.chain.grow()
    instead(server, "state_getMetadata", "0x1234")
    async with linked(server.url) as link:
        found = await read_block(Remote(link), Runtimes(), block)
        assert (found.header.number, found.session, list(found.unread)) == (1, None, [EVERYTHING])


async def test_what_is_pruned_is_named_and_left_out_when_nobody_has_it(server: RpcServer) -> None:
    block = server.chain.grow()
    instead(server, "state_getStorage", Refusal(4003, "Client error: Api called for an unknown Block: State already discarded for 0x12"))
    async with linked(server.url) as link:
        remote = Remote(link)
        with pytest.raises(RemotePruned, match="State already discarded"):
            await read_block(remote, Runtimes(), block)
        found = await read_block(remote, Runtimes(), block, pruned_too=True)
        assert found.header.number == 1
        # The body is not state.
        assert list(found.unread) == [SESSIONS, CANDIDATES]
        assert ["State already discarded" in why for why in found.unread.values()] == [True, True]


async def test_updates_are_told_in_order_and_tell_what_is_final(server: RpcServer) -> None:
    async with linked(server.url) as link:
        remote = Remote(link)
        await remote.follow()
        first = server.chain.grow()
        server.chain.finalize(first)
        second = server.chain.grow()
        told = [await remote.head(10), await remote.head(10), await remote.head(10)]
        assert [(head.header.hash, head.is_final) for head in told if head] == [(first, False), (first, True), (second, False)]
        assert await remote.head(0.01) is None


async def test_a_node_without_the_heads_of_forks_is_followed_by_its_best_ones(server: RpcServer) -> None:
    instead(server, "chain_subscribeAllHeads", Refusal(-32601, "Method not found"))
    async with linked(server.url) as link:
        await Remote(link).follow()
        assert server.calls["chain_subscribeNewHeads"] == 1


# ------------------------------------------------------------------------------------------------ lies and silence


@pytest.mark.parametrize(
    ("method", "answer", "reason"),
    [
        ("chain_getHeader", {}, "parentHash"),
        ("chain_getHeader", 7, "no object"),
        ("chain_getBlock", {"block": None}, "no object"),
        ("chain_getBlock", {"block": {"extrinsics": 1}}, "without a list"),
        ("chain_getBlock", {"block": {"extrinsics": ["zz"]}}, "an extrinsic"),
        ("chain_getBlock", {"block": {"extrinsics": ["0x"] * 50_001}}, "without a list"),
        ("state_getRuntimeVersion", {"specName": 1}, "without a name"),
        ("state_getRuntimeVersion", [], "no object"),
        ("state_getStorage", "storage", "a stored value"),
        ("state_getMetadata", {"meta": 1}, "metadata"),
        ("state_getMetadata", "0x" + "00" * (8 * 1024 * 1024 + 1), "metadata"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_an_answer_of_another_form_is_a_lie(server: RpcServer, method: str, answer: Any, reason: str) -> None:
    block = server.chain.grow()
    instead(server, method, answer)
    async with linked(server.url) as link:
        with pytest.raises(RemoteLies, match=reason):
            await read_block(Remote(link), Runtimes(), block)


async def test_another_blocks_header_is_a_lie(server: RpcServer) -> None:
    one, other = server.chain.grow(), server.chain.grow()
    instead(server, "chain_getHeader", server.chain.blocks[other].header)
    async with linked(server.url) as link:
        with pytest.raises(RemoteLies, match=f"block {one.hex()} comes with a header"):
            await read_block(Remote(link), Runtimes(), one)


@pytest.mark.parametrize("text", ["no JSON", "[]", '{"id": "one"}', "[" * 100_000, '{"error": {"code": "x"}}'], ids=lambda text: text[:20])
async def test_what_is_no_json_rpc_ends_the_connection(server: RpcServer, text: str) -> None:
    instead(server, "chain_getHeader", raw(text))
    async with linked(server.url) as link:
        with pytest.raises(RemoteLies, match="no JSON-RPC"):
            await Remote(link).best()
        with pytest.raises(RemoteLies, match="no JSON-RPC"):
            await Remote(link).best()


async def test_a_frame_that_is_too_large_ends_the_connection(server: RpcServer) -> None:
    instead(server, "chain_getHeader", raw('"' + "x" * (33 * 1024 * 1024) + '"'))
    async with linked(server.url) as link:
        with pytest.raises(RemoteGone, match="the connection ended"):
            await Remote(link).best()


async def test_an_error_of_the_remote_is_told_with_method_and_code(server: RpcServer) -> None:
    instead(server, "chain_getHeader", Refusal(-32000, "Server error", "no time"))
    async with linked(server.url) as link:
        with pytest.raises(RemoteRefused, match=r"chain_getHeader was refused with -32000: Server error \(no time\)"):
            await Remote(link).best()


async def test_silence_is_not_waited_for_longer_than_it_may_take(server: RpcServer) -> None:
    instead(server, "chain_getHeader", SILENCE)
    async with linked(server.url, answer_s=0.1) as link:
        with pytest.raises(RemoteGone, match=r"does not answer chain_getHeader within 0.1 s"):
            await Remote(link).best()
        # Others are answered.
        assert (await Remote(link).chain_name()) == "Little Relay"


async def test_a_dropped_connection_ends_all_calls_and_updates(server: RpcServer) -> None:
    instead(server, "chain_getHeader", SILENCE)
    ended: list[str] = []

    async def ask(remote: Remote) -> None:
        try:
            await remote.best()
        except RemoteGone as gone:
            ended.append(str(gone))

    async with linked(server.url) as link:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(ask, Remote(link))
            while server.calls["chain_getHeader"] < 3:
                await anyio.sleep(0.01)
            await server.drop()
        assert len(ended) == 3
        with pytest.raises(RemoteGone, match="the connection ended"):
            await Remote(link).head(5)


async def test_more_updates_than_can_be_taken_end_the_connection(server: RpcServer) -> None:
    async with linked(server.url) as link:
        remote = Remote(link)
        await remote.follow()
        for _ in range(1100):
            server.chain.finalize(server.chain.genesis)
        with pytest.raises(RemoteGone, match="1024 updates wait"):
            await asked_for_ever(remote)


async def asked_for_ever(remote: Remote) -> None:
    with anyio.fail_after(30):
        while True:
            await remote.chain_name()


@pytest.mark.parametrize("url", ["ws://127.0.0.1:1", "ws://no such host", "http://127.0.0.1:1"])
async def test_nobody_there_is_said_in_a_sentence(url: str) -> None:
    with pytest.raises(RemoteError, match="no connection"):
        async with linked(url):
            pass


# ------------------------------------------------------------------------------------------------ overseer feed check


async def test_a_survey_tells_chain_runtime_and_where_to_begin(server: RpcServer) -> None:
    server.chain.finalize(server.chain.grow())
    found = await survey(server.url)
    assert (found.chain, found.spec, found.final, found.genesis) == ("Little Relay", 1_000_000, 1, server.chain.final.hex())
    assert (found.session, found.validators, found.is_complete) == (1, 7, True)


async def test_the_command_line_checks_a_node(server: RpcServer, here: Place) -> None:
    told = await anyio.to_thread.run_sync(here.run, "feed", "check", server.url)
    assert (told.code, told.error) == (0, "")
    assert "Little Relay" in told.out
    assert f"OVERSEER_GENESIS={server.chain.genesis.hex()}" in told.out
    assert told.out.count("yes") == 3


async def test_a_chain_without_parachains_is_said_to_be_one_with_exit_code_1(here: Place) -> None:
    bare = RelayRuntime(1, without=["ParaInclusion", "ParaInherent", "ParasShared", "ParaSessionInfo"])
    async with rpc_server(RemoteChain(runtimes=[bare])) as server:
        told = await anyio.to_thread.run_sync(here.run, "feed", "check", server.url, "--json")
    assert told.code == 1
    assert told.json["readable"]["disputes"] == "no calls of a pallet ParaInherent"


def test_a_node_that_is_not_there_is_a_sentence_with_exit_code_2(here: Place) -> None:
    told = here.run("feed", "check", "ws://127.0.0.1:1")
    assert told.code == 2
    assert "cannot be followed: no connection" in told.error


def test_without_its_libraries_the_remedy_is_one_sentence(here: Place, tmp_path: Path) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "sitecustomize.py").write_text('import sys\n\nsys.modules["scalecodec"] = None\n')
    told = here.run("feed", "check", "ws://127.0.0.1:1", env={"PYTHONPATH": f"{tmp_path / 'without'}:{ROOT}"})
    assert told.code == 2
    assert "scalecodec is not installed" in told.error
    assert "pip install -e '.[substrate]'" in told.error


def test_a_node_is_not_run_without_knowing_what_to_follow(here: Place, tmp_path: Path) -> None:
    told = here.run("run", "--feed", "substrate", env={"OVERSEER_FEED_URL": "ws://10.1.1.1:9944,ftp://x"})
    assert told.code == 2
    for part in ("in clear beyond this machine", "ftp://x is no ws://", "substrate needs the hash of the block"):
        assert part in told.error
