"""The demo's act of the gateways on a node without processes: it comes out the same, whoever lags behind."""

import pytest

from messages.message import Message
from messages.overseer import CommandOutcome
from overseer.demo.queues import WANTED, find_queue, tell_queue
from overseer.feeds.devchain import DevChain, Shape
from overseer.testing.wired import Wired
from subsystems.chain_api.config import ChainConfig
from subsystems.chain_api.subsystem import ChainApi
from subsystems.dispute_conclusion.subsystem import DisputeConclusion
from subsystems.elections.subsystem import Elections
from subsystems.votes_db.subsystem import VotesDb


class _Asked:
    def __init__(self, node: Wired) -> None:
        self.node = node

    async def query(self, query: Message) -> Message:
        return self.node.ask(query)

    async def request(self, command: Message, *, command_id: str = "", timeout_ms: int = 0) -> CommandOutcome:
        raise AssertionError(f"{command} is sent by who only looks")


@pytest.mark.anyio
@pytest.mark.parametrize("turns", [None, 1, 2])
@pytest.mark.parametrize("validators", [4, 10])
async def test_a_lie_in_the_closing_block_brings_the_requests_back_and_the_next_round_assigns_them(
    validators: int, turns: int | None
) -> None:
    story = DevChain("queues", Shape(validators=validators, sessions=1)).story(tell_queue)
    chain = ChainApi(ChainConfig(genesis=story.genesis, governance_authority=story.authority.public))
    node = Wired([chain, VotesDb(), DisputeConclusion(), Elections()], seed=turns)
    node.play(story)
    assert [question.what for question in story.questions if not question.holds(node.ask(question.query))] == []
    assert await find_queue(_Asked(node)) == (WANTED, [])
