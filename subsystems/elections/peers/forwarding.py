"""What a peer does with a query, as four interchangeable pure functions; which of them is the default is a recorded comparison (ADR 0027).

All answer when nothing else is left to do and they can; all refer when they were asked first hand and can do neither.
"""

from collections.abc import Callable, Mapping

import msgspec

from subsystems.elections.peers.config import Strategy
from subsystems.elections.peers.ring import Draw, distance, nearest

__all__ = ["STRATEGIES", "Course", "Drop", "Forward", "Refer", "Reply", "Situation", "referred"]


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """What a strategy looks at. `known`: peers it may send to, without itself, the requester and whoever sent the query."""

    self_id: int
    token: int
    ttl: int
    can_answer: bool
    # Asked by the requester itself: it may refer.
    first_hand: bool
    known: tuple[int, ...]
    fanout: int


class Reply(msgspec.Struct, frozen=True):
    """Prove it oneself."""


class Forward(msgspec.Struct, frozen=True):
    """Pass the query on, with a ttl that is one less."""

    hops: tuple[int, ...]


class Refer(msgspec.Struct, frozen=True):
    """Name two others to the requester; 0 where fewer are known."""

    suggestions: tuple[int, int]


class Drop(msgspec.Struct, frozen=True):
    """Nothing to be done."""


Course = Reply | Forward | Refer | Drop
Choose = Callable[[Situation, Draw], Course]


def greedy(at: Situation, draw: Draw) -> Course:
    """On to the known peer nearest to the token, while that is nearer than here; the last one answers."""
    closer = _closer(at)
    if closer and at.ttl > 0:
        return Forward((closer[0],))
    return _reply_or_refer(at)


def random_walk(at: Situation, draw: Draw) -> Course:
    """On to anybody, half the time even where it could answer: the walk ends where nobody can tell ahead."""
    if at.known and at.ttl > 0 and not (at.can_answer and draw.below(2)):
        return Forward((draw.one_of(at.known),))
    return _reply_or_refer(at)


def neighbour_broadcast(at: Situation, draw: Draw) -> Course:
    """Answer where possible; else ask several peers near the token at once. Two of them may answer, which blocks the channel."""
    if at.can_answer:
        return Reply()
    hops = tuple(nearest(at.token, at.known)[: at.fanout])
    return Forward(hops) if hops and at.ttl > 0 else _reply_or_refer(at)


def local_then_forward(at: Situation, draw: Draw) -> Course:
    """Answer where possible; else on to the known peer nearest to the token, while that is nearer than here; else refer."""
    return Reply() if at.can_answer else greedy(at, draw)


STRATEGIES: Mapping[Strategy, Choose] = {
    Strategy.GREEDY: greedy,
    Strategy.RANDOM_WALK: random_walk,
    Strategy.NEIGHBOUR_BROADCAST: neighbour_broadcast,
    Strategy.LOCAL_THEN_FORWARD: local_then_forward,
}


def referred(at: Situation) -> Course:
    """The two known peers nearest to the token, for whoever asked first hand; a forwarded query is dropped."""
    two = [*nearest(at.token, at.known)[:2], 0, 0]
    return Refer((two[0], two[1])) if at.first_hand and at.known else Drop()


def _closer(at: Situation) -> list[int]:
    return [peer for peer in nearest(at.token, at.known) if distance(peer, at.token) < distance(at.self_id, at.token)]


def _reply_or_refer(at: Situation) -> Course:
    return Reply() if at.can_answer else referred(at)
