"""The whole way: dispute statements in the blocks of a Substrate chain, followed by a real node of processes, lead to a blacklist.

The same comes of it when the connection is dropped on the way, and when the whole node is killed there and started again.
"""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import anyio
import pytest

from messages.chain_api import (
    Best,
    BlacklistStatus,
    Finalized,
    Hashes,
    Header,
    IncludedIn,
    IsBlacklisted,
    PendingTransactions,
    Session,
    SessionValidators,
    TransactionPool,
)
from messages.dispute_conclusion import Conclusion, GetConclusion
from messages.polkadot import CandidateReceipt, VoteKind
from messages.scale import candidate_hash
from messages.votes_db import DisputeStatus, QueryVotes, VotesSnapshot
from overseer.node.client import Client, Refused
from tests.feeds.substrate.remote_chain import RemoteChain
from tests.feeds.substrate.rpc_server import RpcServer, rpc_server
from tests.node.nodes import Node, Place, answered, history, place, said_once

pytestmark = [pytest.mark.anyio, pytest.mark.real]

INVALID = VoteKind.EXPLICIT_INVALID


class Story:
    """A chain with one candidate that a supermajority finds invalid, and one that it finds valid."""

    def __init__(self) -> None:
        self.chain = chain = RemoteChain("story")
        for _ in range(3):
            chain.grow()
        chain.finalize(chain.best)
        self.bad, self.good = chain.candidate("bad"), chain.candidate("good")
        chain.grow(backed=[self.bad, self.good])
        self.below = chain.grow()
        self.including = chain.grow(included=[self.bad, self.good])

    def first_votes(self) -> None:
        """In a session of their own children: the votes are of the one before."""
        chain = self.chain
        chain.grow(session=2)
        backing = [(0, VoteKind.BACKING_SECONDED), (1, VoteKind.BACKING_VALID)]
        self.voted = chain.grow(
            disputes=[
                chain.votes(self.bad, [*backing, (2, INVALID), (3, INVALID)]),
                chain.votes(self.good, [*backing, (2, VoteKind.APPROVAL), (6, INVALID)]),
            ]
        )

    def last_votes(self) -> None:
        chain = self.chain
        # Beside the bad block, at the same height: what is left to build on.
        self.beside = chain.grow(self.below, salt="beside")
        chain.grow(
            disputes=[
                # Two of them again: others' blocks carry them as well.
                chain.votes(self.bad, [(2, INVALID), (3, INVALID), (4, INVALID), (5, INVALID), (6, INVALID)]),
                chain.votes(self.good, [(3, VoteKind.APPROVAL_MULTIPLE), (4, VoteKind.EXPLICIT_VALID)]),
            ]
        )
        self.last = chain.grow()


async def told(client: Client, story: Story) -> None:
    """Wait until the bad candidate's blocks are on the blacklist, down to the last one."""
    with anyio.fail_after(90):
        while True:
            try:
                status = await answered(client, IsBlacklisted(hash=story.last))
            except Refused:
                # Not imported yet.
                status = None
            if isinstance(status, BlacklistStatus) and status.blacklisted:
                return
            await anyio.sleep(0.05)


class Outcome(NamedTuple):
    """All that came of it, as it is asked from outside."""

    blacklisted: list[bool]
    best: bytes
    final: int
    votes: dict[str, tuple[DisputeStatus, list[int], list[int], int]]
    transactions: int
    validators: list[bytes]
    including: list[bytes]
    conclusion: bool


async def outcome_of(client: Client, story: Story) -> Outcome:
    async def votes(receipt: CandidateReceipt) -> tuple[DisputeStatus, list[int], list[int], int]:
        snapshot = await answered(client, QueryVotes(session=1, candidate=candidate_hash(receipt)))
        assert isinstance(snapshot, VotesSnapshot)
        return snapshot.status, snapshot.pro, snapshot.cons, len(snapshot.votes)

    async def blacklisted(block: bytes) -> bool:
        status = await answered(client, IsBlacklisted(hash=block))
        assert isinstance(status, BlacklistStatus)
        return status.blacklisted

    best, final = await answered(client, Best()), await answered(client, Finalized())
    pool, session = await answered(client, PendingTransactions()), await answered(client, Session(index=2))
    included = await answered(client, IncludedIn(candidate=candidate_hash(story.bad)))
    concluded = await answered(client, GetConclusion(session=1, candidate=candidate_hash(story.bad)))
    assert isinstance(best, Header)
    assert isinstance(final, Header)
    assert isinstance(pool, TransactionPool)
    assert isinstance(session, SessionValidators)
    assert isinstance(included, Hashes)
    return Outcome(
        blacklisted=[await blacklisted(block) for block in (story.below, story.beside, story.including, story.voted, story.last)],
        best=best.hash,
        final=final.number,
        votes={"bad": await votes(story.bad), "good": await votes(story.good)},
        transactions=pool.total,
        validators=[validator.key for validator in session.validators],
        including=included.hashes,
        conclusion=isinstance(concluded, Conclusion),
    )


def expected(story: Story) -> Outcome:
    return Outcome(
        blacklisted=[False, False, True, True, True],
        best=story.beside,
        final=3,
        votes={
            "bad": (DisputeStatus.CONCLUDED_AGAINST, [0, 1], [2, 3, 4, 5, 6], 7),
            "good": (DisputeStatus.CONCLUDED_FOR, [0, 1, 2, 3, 4], [6], 6),
        },
        # One for each vote: rewards and slashes.
        transactions=13,
        validators=[key.public for key in story.chain.keyring(2)],
        including=[story.including],
        conclusion=True,
    )


@asynccontextmanager
async def followed(folder: Path, story: Story) -> AsyncIterator[tuple[RpcServer, Place]]:
    async with rpc_server(story.chain) as server:
        with place(folder, genesis=story.chain.genesis.hex(), feed__url=server.url) as here:
            yield server, here


async def check(node: Node, story: Story) -> None:
    async with node.client() as client:
        await told(client, story)
        wanted, found = expected(story), await outcome_of(client, story)
        with anyio.move_on_after(30):
            # The pool fills by and by, and what was asked before it may have changed meanwhile.
            while found != wanted:
                await anyio.sleep(0.05)
                found = await outcome_of(client, story)
        assert found == wanted
        messages = await history(client)
        said_once(messages)
        said = Counter(message.subject.removeprefix(f"overseer.{client.node}.") for message in messages)
        assert said["votes_db.cmd.dispute_conclusion.resolution"] == 2
        report = await node.report(client)
        assert [finding.text() for finding in report.wrong if finding.about == "feed"] == []


async def test_votes_on_a_substrate_chain_lead_to_the_blacklist(tmp_path: Path) -> None:
    """What was there before the node, and what comes while it runs; the connection is dropped between the votes."""
    story = Story()
    async with followed(tmp_path, story) as (server, here), Node.up(here, "--feed", "substrate") as node:
        await node.logged("following")
        story.first_votes()
        await node.logged("votes_told", times=2)
        await server.drop()
        await node.logged("following", times=2)
        story.last_votes()
        await check(node, story)
        assert server.opened >= 2
        assert len(node.events("remote_left")) >= 1


@pytest.mark.slow
async def test_a_node_killed_between_the_votes_of_a_block_tells_the_rest_once(tmp_path: Path) -> None:
    story = Story()
    async with followed(tmp_path, story) as (_, here):
        story.first_votes()
        async with Node.up(here, "--feed", "substrate", ready=False) as node:
            await node.logged("votes_told")
            here.kill_everything()
        async with Node.up(here, "--feed", "substrate") as node:
            await node.logged("following")
            story.last_votes()
            await check(node, story)
