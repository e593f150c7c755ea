"""From a lying validator's vote to a request back in the open queue, through all the subsystems of a node (G22).

A disputed block is reverted at once, and blacklisted when the dispute is decided: it leaves the best chain once.
"""

import pytest
from lie_story import story_of_a_lie
from queue_story import QUEUE, digest

from messages.gateway_queries import AssignedRequestPage, AssignedRequests, ListGateways, PendingRequests, RequestPage
from messages.gateways import RequestsReturned, RoundCut, RoundResults, RoundRevoked
from messages.signals import BlocksBlacklisted
from overseer.testing.wired import Wired
from subsystems.chain_api.config import ChainConfig
from subsystems.chain_api.subsystem import ChainApi
from subsystems.dispute_conclusion.subsystem import DisputeConclusion
from subsystems.elections.subsystem import Elections
from subsystems.votes_db.subsystem import VotesDb


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
