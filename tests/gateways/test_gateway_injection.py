"""Gateway elections under the real runner, beside the real chain: in memory, and on a NATS server with RocksDB."""

from typing import Any

import pytest
from blake3 import blake3
from queue_story import QUEUE, SHORT, account, digest, proof, submit, vote

from messages.chain_api import Blacklist, ImportBlock
from messages.codec import encode
from messages.gateway_queries import AssignedRequests, PendingRequests, Results
from messages.gateways import (
    Bond,
    DeclareGateway,
    OpenQueue,
    RequestExecuted,
    RequestsReturned,
    RoundCut,
    RoundPhase,
    RoundResults,
    RoundRevoked,
)
from messages.message import Message
from messages.overseer import OutcomeStatus
from messages.polkadot import DisputeRef, Scheme
from messages.signals import BestChain, BlockRef
from subsystems.chain_api.config import ChainConfig
from subsystems.chain_api.subsystem import ChainApi
from subsystems.elections.config import ElectionsConfig
from subsystems.elections.subsystem import Elections

pytestmark = pytest.mark.anyio

GENESIS = digest("genesis")
RULES = ElectionsConfig(gateways=SHORT)


def best(first: int, last: int, branch: str = "a") -> BestChain:
    return BestChain(reverted=[], applied=[BlockRef(digest(f"{number}/{branch}"), number) for number in range(first, last + 1)])


async def taken(elections: Any, *commands: Message) -> None:
    """All accepted, each once, though it is sent twice."""
    for command in commands:
        name = blake3(encode(command)).hexdigest()
        for _ in range(2):
            outcome = await elections.request(command, command_id=name)
            assert outcome.status is OutcomeStatus.ACCEPTED, outcome


def prepared() -> list[Message]:
    gateways = [
        command
        for name in "AB"
        for command in (
            Bond(election=QUEUE, gateway=account(name), amount=100),
            DeclareGateway(election=QUEUE, gateway=account(name), scheme=Scheme.ED25519),
        )
    ]
    return [OpenQueue(election=QUEUE), *gateways, submit("x"), submit("y")]


async def test_a_round_from_request_to_proof_with_kills_between(virtual_overseer: Any) -> None:
    elections = await virtual_overseer(Elections(RULES))
    await taken(elections, *prepared())
    await elections.signal(best(1, 5))
    assert [holding.stake for holding in (await elections.expect(RoundCut)).stakes] == [100, 100]
    await elections.restart()
    await taken(elections, vote("A", "x", 70), vote("B", "x", 30))
    await elections.signal(best(6, 9))
    results = (await elections.expect(RoundResults)).results
    assert [each.gateway for each in results[0].winners + results[0].alternates] == [account("A"), account("B")]
    await elections.restart()
    refused = await elections.request(proof("B", "x"))
    assert (refused.status, refused.code) == (OutcomeStatus.REJECTED, "not_authorized")
    forged = await elections.request(proof("A", "x", content="forged"))
    assert forged.code == "bad_proof"
    await taken(elections, proof("A", "x"))
    assert (await elections.expect(RequestExecuted)).executor == account("A")
    again = await elections.request(proof("A", "x"), command_id="another")
    assert again.code == "already_executed"
    assert (await elections.verify()).ok


async def test_a_blacklisted_close_block_brings_the_request_back_to_the_open_queue(virtual_overseer: Any) -> None:
    """The cascade, as far as the chain begins it: the round of a blacklisted block is revoked, and the next one takes the request."""
    chain = await virtual_overseer(ChainApi(ChainConfig(genesis=GENESIS)))
    elections = await virtual_overseer(Elections(RULES))
    await taken(elections, *prepared())
    for number in range(1, 6):
        await chain.inject(block(number))
    await elections.expect(RoundCut)
    await taken(elections, vote("A", "x", 70), vote("A", "y", 30))
    for number in range(6, 10):
        await chain.inject(block(number))
    await elections.expect(RoundResults)
    await taken(elections, proof("A", "y"))
    cause = DisputeRef(session=0, candidate=digest("candidate"))
    await chain.inject(Blacklist(roots=[digest("9/a")], cause=cause), sender="dispute_conclusion")
    revoked = await elections.expect(RoundRevoked)
    assert (revoked.round, revoked.close) == (0, BlockRef(digest("9/a"), 9))
    returned = await elections.expect(RequestsReturned)
    assert (returned.returned, returned.executed) == ([digest("x")], [digest("y")])
    assert [row.request for row in (await elections.ask(PendingRequests(election=QUEUE))).requests] == [digest("x")]
    assert (await elections.ask(AssignedRequests(election=QUEUE))).requests == []
    assert (await elections.ask(Results(election=QUEUE, round=0))).phase is RoundPhase.REVOKED
    # The chain goes on from the block before, and the next round takes the request.
    for number in (9, 10):
        await chain.inject(block(number, "b", parent="a" if number == 9 else "b"))
    cut = await elections.expect(RoundCut)
    assert (cut.round, cut.cut) == (1, BlockRef(digest("10/b"), 10))
    assert (await elections.verify()).ok
    assert (await chain.verify()).ok


def block(number: int, branch: str = "a", *, parent: str = "a") -> ImportBlock:
    above = GENESIS if number == 1 else digest(f"{number - 1}/{parent}")
    return ImportBlock(hash=digest(f"{number}/{branch}"), parent=above, number=number, session=0)
