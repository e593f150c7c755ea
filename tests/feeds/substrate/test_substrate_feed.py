"""The feed and its node: forks, sessions, runtimes nobody knows, remotes in turn, remotes that lie, governance mode."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from messages.chain_api import Best, BlacklistStatus, Finalized, GetHeader, Header, IsBlacklisted, Session, SessionValidators
from messages.message import Message
from messages.polkadot import Vote, VoteKind
from messages.scale import candidate_hash
from messages.votes_db import QueryVotes, VotesSnapshot
from overseer.node.client import Client, Refused
from overseer.observe.http import fetch
from tests.feeds.substrate.relay import RelayRuntime
from tests.feeds.substrate.remote_chain import RemoteChain
from tests.feeds.substrate.rpc_server import Refusal, rpc_server
from tests.node.nodes import Node, answered, place

pytestmark = [pytest.mark.anyio, pytest.mark.real]

SECONDS = 60.0


@asynccontextmanager
async def following(folder: Path, genesis: bytes, *urls: str) -> AsyncIterator[tuple[Node, Client]]:
    """A node in one process that follows these remotes."""
    with place(folder, genesis=genesis.hex(), feed__url=",".join(urls), in_process="true") as here:
        async with Node.up(here, "--feed", "substrate") as node, node.client() as client:
            yield node, client


async def until(ask: Callable[[], Awaitable[bool]], what: str, node: Node) -> None:
    with anyio.move_on_after(SECONDS):
        while not await ask():
            await anyio.sleep(0.03)
        return
    raise AssertionError(f"not within {SECONDS} s: {what}\n{node.text()[-3000:]}")


async def reply(client: Client, query: Message) -> Any:
    """None when it is refused: not known (yet)."""
    try:
        return await answered(client, query)
    except Refused:
        return None


async def imported(node: Node, client: Client, block: bytes) -> Header:
    async def there() -> bool:
        return await reply(client, GetHeader(hash=block)) is not None

    await until(there, f"block {block.hex()} is imported", node)
    return await reply(client, GetHeader(hash=block))


async def final(node: Node, client: Client, block: bytes) -> None:
    async def there() -> bool:
        return (await reply(client, Finalized())).hash == block

    await until(there, f"block {block.hex()} is final", node)


async def note(node: Node) -> str:
    """What the feed tells of itself; "" when all is well."""
    page = await fetch(node.info.http_port, "/readyz", timeout_ms=3_000)
    return json.loads(page.body).get("feed", {}).get("note", "")


async def noted(node: Node, *parts: str) -> None:
    async def there() -> bool:
        told = await note(node)
        return all(part in told for part in parts)

    await until(there, f"the feed tells of {parts}", node)


async def well(node: Node) -> None:
    async def there() -> bool:
        return not await note(node)

    await until(there, "the feed is well", node)


async def test_forks_sessions_and_runtimes_are_followed(tmp_path: Path) -> None:
    """One chain, step by step; it begins at a height of its own, from which the node counts."""
    unknown = RelayRuntime(3, backed_name="CandidateSeconded", enter="enter_all", without=["ParasShared"])
    chain = RemoteChain("steps", first=5_000, runtimes=[RelayRuntime(1, receipts=1), RelayRuntime(2), unknown])
    old = chain.candidate("old")
    chain.grow(backed=[old])
    chain.grow(included=[old])
    async with rpc_server(chain) as server, following(tmp_path, chain.genesis, server.url) as (node, client):
        assert (await imported(node, client, chain.best)).number == 2
        session = await reply(client, Session(index=1))
        assert isinstance(session, SessionValidators)
        assert session.validators == chain.keyring(1).validators

        # A reorganisation: the other branch becomes the longer one.
        fork = chain.grow(chain.genesis, salt="other")
        for salt in "abc":
            fork = chain.grow(fork, salt=salt)
        await imported(node, client, fork)

        async def best_is(block: bytes) -> bool:
            return (await reply(client, Best())).hash == block

        await until(lambda: best_is(fork), "the longer branch is the best", node)

        # A session begins behind the block that changes it; votes go by its indices.
        chain.grow(session=2)
        bad = chain.candidate("bad")
        first = chain.grow(backed=[bad])
        assert (await imported(node, client, first)).session == 2
        vote = chain.grow(
            included=[bad], disputes=[chain.votes(bad, [(0, VoteKind.BACKING_VALID), (1, VoteKind.EXPLICIT_INVALID)], session=2)]
        )
        await imported(node, client, vote)

        async def disputed() -> bool:
            found = await reply(client, QueryVotes(session=2, candidate=candidate_hash(bad)))
            return isinstance(found, VotesSnapshot) and (found.pro, found.cons) == ([0], [1])

        await until(disputed, "the votes are stored", node)
        chain.finalize(vote)
        await final(node, client, vote)
        await well(node)

        # Another runtime, that is known; then one that is not: headers and finality go on, and what is not read is told.
        chain.grow(spec=2)
        newer = chain.candidate("newer")
        chain.grow(included=[newer], spec=3)
        lost = chain.grow(backed=[newer], disputes=[chain.votes(newer, [(0, VoteKind.BACKING_VALID)], session=2)])
        chain.finalize(lost)
        await final(node, client, lost)
        await noted(node, "no ParaInclusion.CandidateBacked", "no ParaInherent.enter", "no storage of a pallet ParasShared")
        assert (await imported(node, client, lost)).session == 2
        # A session passes meanwhile, and a runtime that is known comes back: what is next is read again.
        chain.grow(session=3, spec=2)
        again = chain.grow(disputes=[chain.votes(newer, [(5, VoteKind.EXPLICIT_VALID)], session=2)])
        assert (await imported(node, client, again)).session == 3

        async def voted() -> bool:
            found = await reply(client, QueryVotes(session=2, candidate=candidate_hash(newer)))
            return isinstance(found, VotesSnapshot) and found.pro == [5]

        await until(voted, "the votes of a known runtime are stored", node)


async def test_votes_without_a_receipt_or_a_session_are_told_not_lost_in_silence(tmp_path: Path) -> None:
    chain = RemoteChain("unread")
    for _ in range(3):
        chain.grow()
    early = chain.candidate("early")
    chain.grow(backed=[early], session=2)
    begins = chain.grow(included=[early])
    for _ in range(20):
        chain.grow()
    chain.finalize(chain.best)
    async with rpc_server(chain) as server, following(tmp_path, begins, server.url) as (node, client):
        await final(node, client, chain.best)
        # Included before the node began: the chain tells where. Of a session before: nobody here knows its validators.
        chain.grow(disputes=[chain.votes(early, [(0, VoteKind.EXPLICIT_INVALID)], session=2)])
        block = chain.grow(disputes=[chain.votes(early, [(0, VoteKind.EXPLICIT_INVALID)], session=1)])
        await imported(node, client, block)
        await noted(node, "votes of a session that this node has not seen begin (1)")
        found = await reply(client, QueryVotes(session=2, candidate=candidate_hash(early)))
        assert isinstance(found, VotesSnapshot)
        assert found.cons == [0]

        # Never on chain.
        unheard = chain.candidate("unheard")
        chain.grow(disputes=[chain.votes(unheard, [(1, VoteKind.EXPLICIT_INVALID)], session=2)])
        await noted(node, "votes on a candidate whose receipt is nowhere (1)")
        # A signature that is not the validator's.
        session, candidate, votes = chain.votes(early, [(2, VoteKind.EXPLICIT_INVALID)], session=2)
        chain.grow(disputes=[(session, candidate, [Vote(3, votes[0].kind, votes[0].signature)])])
        await noted(node, "votes that this node finds to be bad_signature (1)")


async def test_remotes_are_taken_in_turn_and_what_none_has_is_left_out(tmp_path: Path) -> None:
    """The first has thrown states away; the second has them; then nobody has."""
    chain = RemoteChain("turns")
    receipt = chain.candidate("one")
    block = chain.grow(included=[receipt])

    def pruned(method: str, _: list[Any], result: Any) -> Any:
        if method == "state_getStorage":
            raise Refusal(4003, "State already discarded for 0x00")
        return result

    async with rpc_server(chain) as first, rpc_server(chain) as second:
        first.fault = pruned
        async with following(tmp_path, chain.genesis, first.url, second.url) as (node, client):
            await imported(node, client, block)
            await well(node)
            assert node.events("remote_left")[0]["url"] == first.url
            second.fault = pruned
            left_out = chain.grow(included=[receipt])
            await imported(node, client, left_out)
            await noted(node, "candidates: state_getStorage: State already discarded")


@pytest.mark.slow
async def test_a_remote_that_lies_or_changes_its_mind_is_left_with_a_sentence(tmp_path: Path) -> None:
    chain, foreign = RemoteChain("honest"), RemoteChain("foreign")
    block = chain.grow()
    other = chain.grow(chain.genesis, salt="other")
    chain.finalize(block)
    async with (
        rpc_server(foreign) as elsewhere,
        rpc_server(chain) as server,
        following(tmp_path, chain.genesis, elsewhere.url, server.url) as (node, client),
    ):
        await final(node, client, block)
        await well(node)
        assert "is not on its chain" in node.events("remote_left")[0]["error"]

        # A body with a header that is not of its hash: nothing of it is taken.
        def lie(method: str, _: list[Any], result: Any) -> Any:
            if method != "chain_getBlock":
                return result
            return {"block": {**result["block"], "header": {**result["block"]["header"], "stateRoot": "0x" + "11" * 32}}}

        server.fault = lie
        after = chain.grow()
        await noted(node, "comes with a header whose hash is")
        assert await reply(client, GetHeader(hash=after)) is None
        server.fault = lambda method, params, result: result
        await imported(node, client, after)

        # Finality of another branch at a height that is final already.
        chain.finalize(other)
        await noted(node, "its finality has gone another way: at height 1")
        chain.finalize(after)
        await final(node, client, after)
        await well(node)


async def test_in_governance_mode_blocks_go_on_and_finality_waits(tmp_path: Path) -> None:
    chain = RemoteChain("governed")
    bad = chain.candidate("bad")
    chain.grow(backed=[bad])
    including = chain.grow(included=[bad])
    chain.finalize(including)
    async with rpc_server(chain) as server, following(tmp_path, chain.genesis, server.url) as (node, client):
        await final(node, client, including)
        ballots = [(0, VoteKind.BACKING_VALID), *((i, VoteKind.EXPLICIT_INVALID) for i in range(1, 7))]
        vote = chain.grow(disputes=[chain.votes(bad, ballots)])

        async def blacklisted() -> bool:
            status = await reply(client, IsBlacklisted(hash=vote))
            return isinstance(status, BlacklistStatus) and status.blacklisted

        await until(blacklisted, "the final block is found bad", node)
        chain.finalize(vote)
        await noted(node, "governance mode: blocks go on, finality waits for its end")
        after = chain.grow()
        await imported(node, client, after)
        assert (await reply(client, Finalized())).hash == including
