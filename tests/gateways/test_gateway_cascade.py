"""From a lying validator's vote to a request back in the open queue, through all the subsystems of a node (G22).

A disputed block is reverted at once, and blacklisted when the dispute is decided: it leaves the best chain once.
"""

import pytest
from queue_story import QUEUE, account, digest, submit, vote

from messages.gateway_queries import AssignedRequestPage, AssignedRequests, ListGateways, PendingRequests, RequestPage
from messages.gateways import Bond, DeclareGateway, OpenQueue, RequestsReturned, RoundCut, RoundResults, RoundRevoked
from messages.polkadot import Scheme
from messages.signals import BlocksBlacklisted
from overseer.feeds.author import Author
from overseer.feeds.camps import against, backing
from overseer.feeds.shape import Shape
from overseer.feeds.story import Send, Story
from overseer.testing.wired import Wired
from subsystems.chain_api.config import ChainConfig
from subsystems.chain_api.subsystem import ChainApi
from subsystems.dispute_conclusion.subsystem import DisputeConclusion
from subsystems.elections import Elections
from subsystems.votes_db.subsystem import VotesDb

VALIDATORS = 7
CONVICTING = VALIDATORS - (VALIDATORS - 1) // 3


def story_of_a_lie() -> Story:
    """A request is assigned by a round that closes on a block with a lie in its line; then the validators convict."""
    author = Author("a lie", Shape(validators=VALIDATORS, session_blocks=100))
    author.room(40)
    author.steps += [
        Send(OpenQueue(election=QUEUE, collect_blocks=4, vote_blocks=3, origin=author.height)),
        Send(Bond(election=QUEUE, gateway=account("A"), amount=100)),
        Send(DeclareGateway(election=QUEUE, gateway=account("A"), scheme=Scheme.ED25519)),
        Send(submit("x")),
    ]
    first = author.height
    while author.height < first + 5:
        author.grow(finalize=False)
    author.steps.append(Send(vote("A", "x", 70)))
    lie = author.include("lie", finalize=False)
    while author.height < first + 9:
        author.grow(finalize=False)
    order = author.order("lie")
    author.cast_all(lie, [*backing(order[:1]), *against(order[1:2])], against(order[2 : 1 + CONVICTING]))
    author.decided(lie)
    return author.finished()


@pytest.mark.parametrize("turns", [None, 1, 2, 3])
def test_G22_from_a_lying_validators_vote_to_a_request_back_in_the_open_queue(turns: int | None) -> None:
    story = story_of_a_lie()
    config = ChainConfig(genesis=story.genesis, governance_authority=story.authority.public)
    node = Wired([ChainApi(config), VotesDb(), DisputeConclusion(), Elections()], seed=turns)
    node.play(story)
    cut, results, revoked, returned = node.sent(RoundCut, RoundResults, RoundRevoked, RequestsReturned)
    assert isinstance(cut, RoundCut)
    assert isinstance(results, RoundResults)
    assert isinstance(revoked, RoundRevoked)
    assert isinstance(returned, RequestsReturned)
    assert revoked.close is not None
    blacklisted = {block for message in node.sent(BlocksBlacklisted) for block in message.hashes}  # type: ignore[attr-defined]
    assert revoked.close.hash in blacklisted
    assert returned.returned == [digest("x")]
    pending, assigned = node.ask(PendingRequests(election=QUEUE)), node.ask(AssignedRequests(election=QUEUE))
    assert isinstance(pending, RequestPage)
    assert isinstance(assigned, AssignedRequestPage)
    assert ([row.request for row in pending.requests], assigned.requests) == ([digest("x")], [])
    [gateway] = node.ask(ListGateways(election=QUEUE)).gateways  # type: ignore[union-attr]
    assert (gateway.held, gateway.redistributed, gateway.free) == (0, 0, 100)
