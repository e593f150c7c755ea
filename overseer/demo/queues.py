"""The demo's act of the gateways: a round is closed by a block with a lie in it, revoked when the validators convict, and held again.

It goes on where the development chain's story ends: its scenes are steps of the same story.
"""

from contextlib import aclosing

import anyio
import msgspec
from blake3 import blake3

from messages.chain_api import BlacklistStatus, IsBlacklisted
from messages.codec import decode
from messages.elections import ElectionEvent, HistoryRow
from messages.gateway_queries import (
    AssignedRequestPage,
    AssignedRequests,
    ExecutionPage,
    ExecutionResults,
    GatewayPage,
    GetQueue,
    ListGateways,
    PendingRequests,
    QueueReport,
    RequestPage,
)
from messages.gateways import (
    Bond,
    DeclareGateway,
    OpenQueue,
    RedistributeStake,
    RequestExecuted,
    RequestsReturned,
    RoundClosed,
    RoundCut,
    RoundPhase,
    RoundResults,
    RoundRevoked,
    SubmitRequest,
)
from messages.message import Message
from overseer.demo.playing import LOOK_AGAIN_S, Asked, Unexpected, asked, history_of
from overseer.feeds import barriers
from overseer.feeds.author import Author
from overseer.feeds.camps import camps_of, condemning
from overseer.feeds.gateway import gateway_key, make_proof
from overseer.feeds.story import Await, Send
from overseer.node.client import Refused
from overseer.ports.bus import BusError

__all__ = ["QUEUE", "WANTED", "Queued", "find_queue", "tell_queue"]

QUEUE = "ingestion"
STAKE = 100
# Short rounds: cut at the fourth block, closed three blocks later.
COLLECT, VOTE = 3, 2
GATEWAYS = {name: gateway_key(name) for name in ("alice", "bob")}
CONTENTS = {name: f"what is in {name}".encode() for name in ("photo", "song")}
REQUESTS = {name: blake3(content).digest() for name, content in CONTENTS.items()}
# By round: gateway, request, weight. Who won a request of the round that is revoked does not get it in the next.
VOTES = (
    (("alice", "photo", 70), ("alice", "song", 10), ("bob", "photo", 20), ("bob", "song", 60)),
    (("alice", "photo", 20), ("alice", "song", 60), ("bob", "photo", 70), ("bob", "song", 10)),
)
WINNERS = ({"photo": "alice", "song": "bob"}, {"photo": "bob", "song": "alice"})
# A copy that is behind what was already seen at another site.
_CATCH_UP_S = 10.0
_COURSE = (RoundCut, RoundClosed, RoundResults, RoundRevoked, RequestsReturned, RequestExecuted)
_GATEWAY_NAMES = {key.public: name for name, key in GATEWAYS.items()}
_REQUEST_NAMES = {request: name for name, request in REQUESTS.items()}


class Queued(msgspec.Struct, kw_only=True):
    """What came of the queue, by its history. Requests and gateways by name.

    `winners`: by request, of each round's results. `returned`: to the open queue by the round that was revoked, whose close block is
    blacklisted. `free`: each gateway's stake at the end.
    """

    queue: str = QUEUE
    course: list[str] = []
    winners: list[dict[str, str]] = []
    close_blacklisted: bool = False
    returned: list[str] = []
    executed: dict[str, str] = {}
    free: dict[str, int] = {}


# What must come of it.
WANTED = Queued(
    course=[
        *("round_cut", "round_closed", "round_results", "round_revoked", "requests_returned"),
        *("round_cut", "round_closed", "round_results", "request_executed", "request_executed"),
    ],
    winners=list(WINNERS),
    close_blacklisted=True,
    returned=list(REQUESTS),
    executed=WINNERS[-1],
    free=dict.fromkeys(GATEWAYS, STAKE),
)


# ------------------------------------------------------------------------------------------------ telling


def tell_queue(author: Author) -> None:
    """Two rounds of a queue, the first of which is closed by a block that is blacklisted."""
    author.scene("Two gateways put up stake for a queue, in which two requests wait. The chain's blocks are what moves its rounds.")
    origin = author.height
    author.steps.append(Send(OpenQueue(election=QUEUE, collect_blocks=COLLECT, vote_blocks=VOTE, origin=origin)))
    for key in GATEWAYS.values():
        author.steps.append(Send(Bond(election=QUEUE, gateway=key.public, amount=STAKE)))
        author.steps.append(Send(DeclareGateway(election=QUEUE, gateway=key.public, scheme=key.scheme)))
    author.steps += [Send(_request(name)) for name in REQUESTS]
    _grow(author, origin + 1 + COLLECT)
    _vote(author, 0)
    _lie(author)
    author.scene("The closing block is blacklisted. The round is revoked, and both requests are in the open queue again.")
    author.wait(Await("both requests are in the open queue", PendingRequests(election=QUEUE), _all_open))
    _grow(author, origin + 2 * (1 + COLLECT))
    _vote(author, 1)
    _grow(author, author.height + 1 + VOTE)
    author.wait(_assigned(1))
    author.scene("The next round assigns them otherwise. Both are processed, and proven.")
    for name, winner in WINNERS[1].items():
        content = CONTENTS[name]
        proof = make_proof(GATEWAYS[winner], QUEUE, round=1, request=REQUESTS[name], content=blake3(content).digest(), size=len(content))
        author.steps.append(Send(proof))
    author.wait(Await("both requests are executed", ExecutionResults(election=QUEUE, round=1), _all_executed))


def _lie(author: Author) -> None:
    """From the ballot's cut: the block that closes it includes an invalid candidate, and the validators find out."""
    candidate = author.candidate("closing", author.tip, author.height + 1)
    author.grow(candidate)
    _grow(author, author.height + VOTE - 1)
    closing = author.fork(author.tip, included=[candidate.hash], label="closing")
    author.wait(_assigned(0))
    author.scene("The round is closed, the requests are assigned; but liars have backed what the closing block includes.")
    author.cast_all(candidate, *condemning(camps_of(author.order("closing"), author.shape)))
    author.decided(candidate)
    author.wait(barriers.blacklisted(closing))
    author.wait(barriers.best_is(author.tip))


def _grow(author: Author, height: int) -> None:
    while author.height < height:
        author.grow()


def _request(name: str) -> SubmitRequest:
    content = CONTENTS[name]
    owner = gateway_key("owner").public
    return SubmitRequest(
        election=QUEUE, request=REQUESTS[name], content=blake3(content).digest(), size=len(content), account=owner, balance=10
    )


def _vote(author: Author, round: int) -> None:
    """All weights, as soon as they are taken."""

    def voting(answer: Message) -> bool:
        return isinstance(answer, QueueReport) and answer.voting and (answer.round, answer.phase) == (round, RoundPhase.VOTING)

    author.wait(Await(f"round {round} is voted on", GetQueue(election=QUEUE), voting))
    for gateway, request, amount in VOTES[round]:
        vote = RedistributeStake(election=QUEUE, round=round, gateway=GATEWAYS[gateway].public, item=REQUESTS[request], amount=amount)
        author.steps.append(Send(vote))


def _assigned(round: int) -> Await:
    """The requests are held by those who must have won them."""
    wanted = {REQUESTS[name]: [GATEWAYS[winner].public] for name, winner in WINNERS[round].items()}

    def holds(answer: Message) -> bool:
        return isinstance(answer, AssignedRequestPage) and wanted == {
            row.request: [holder.gateway for holder in row.holders] for row in answer.requests if row.round == round
        }

    return Await(f"the requests are assigned by round {round}", AssignedRequests(election=QUEUE), holds)


def _all_open(answer: Message) -> bool:
    return isinstance(answer, RequestPage) and [row.request for row in answer.requests] == list(REQUESTS.values())


def _all_executed(answer: Message) -> bool:
    return isinstance(answer, ExecutionPage) and all(row.executor is not None for row in answer.executions)


# ------------------------------------------------------------------------------------------------ finding out


async def find_queue(client: Asked) -> tuple[Queued, list[str]]:
    """What the history comes to, and every difference from what it must be; a copy that is behind is given time."""
    queued = Queued()
    try:
        with anyio.move_on_after(_CATCH_UP_S):
            while True:
                queued = await _look(client)
                if queued == WANTED:
                    break
                await anyio.sleep(LOOK_AGAIN_S)
    except (Unexpected, Refused, BusError) as error:
        return queued, [f"gateways: {error}"]
    fields = Queued.__struct_fields__
    found = [(name, getattr(queued, name), getattr(WANTED, name)) for name in fields]
    return queued, [f"gateways: {name}: {is_so}, expected {wanted}" for name, is_so, wanted in found if is_so != wanted]


async def _look(client: Asked) -> Queued:
    queued = Queued()
    async with aclosing(history_of(client, QUEUE)) as rows:
        events = [event async for row in rows if (event := _event(row)) is not None]
    for event in events:
        queued.course.append(event.spec.name)
        match event:
            case RoundResults(results=results):
                queued.winners.append(
                    {_REQUEST_NAMES[each.request]: _GATEWAY_NAMES[winner.gateway] for each in results for winner in each.winners}
                )
            case RoundRevoked(close=close) if close is not None:
                status = await asked(client, IsBlacklisted(hash=close.hash))
                queued.close_blacklisted = isinstance(status, BlacklistStatus) and status.blacklisted
            case RequestsReturned(returned=returned):
                queued.returned += [_REQUEST_NAMES[each] for each in returned]
            case RequestExecuted(request=request, executor=executor):
                queued.executed[_REQUEST_NAMES[request]] = _GATEWAY_NAMES[executor]
            case _:
                pass
    page = await asked(client, ListGateways(election=QUEUE))
    if not isinstance(page, GatewayPage):
        raise Unexpected(f"the gateways of {QUEUE} are {page}")
    queued.free = {_GATEWAY_NAMES[row.gateway]: row.free for row in page.gateways}
    return queued


def _event(row: HistoryRow) -> ElectionEvent | None:
    """What moved the rounds."""
    for kind in _COURSE:
        if row.message == kind.spec.key:
            event = decode(kind.spec, row.body, version=row.version)
            assert isinstance(event, kind)
            return event
    return None
