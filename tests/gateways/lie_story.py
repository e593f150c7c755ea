"""A story: a round of gateways closes on a block with a lie in its line, and the validators convict."""

from queue_story import QUEUE, account, submit, vote

from messages.gateway_queries import GetQueue
from messages.gateways import Bond, DeclareGateway, OpenQueue, RoundPhase
from messages.polkadot import Scheme
from overseer.feeds.author import Author
from overseer.feeds.camps import against, backing
from overseer.feeds.shape import Shape
from overseer.feeds.story import Await, Send, Story

VALIDATORS = 7
CONVICTING = VALIDATORS - (VALIDATORS - 1) // 3


def reached(phase: RoundPhase) -> Await:
    """The elections have heard of the blocks so far."""
    return Await(f"the round is {phase.value}", GetQueue(election=QUEUE), lambda report: getattr(report, "phase", None) is phase)


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
    author.steps += [reached(RoundPhase.VOTING), Send(vote("A", "x", 70))]
    lie = author.include("lie", finalize=False)
    while author.height < first + 9:
        author.grow(finalize=False)
    author.steps.append(reached(RoundPhase.CLOSED))
    order = author.order("lie")
    author.cast_all(lie, [*backing(order[:1]), *against(order[1:2])], against(order[2 : 1 + CONVICTING]))
    author.decided(lie)
    return author.finished()
