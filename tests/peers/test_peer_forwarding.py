"""What a peer does with a query: the strategies, loops, TTL, and whole ways through several hops."""

import pytest
from peer_world import TOKEN, Driven, query
from test_peer_proofs import ALL, STORE

from messages.peers import PeerAnswer, PeerQuery, PeerQueryHandled, PeerReferral
from subsystems.elections.peers.config import PeersConfig, Strategy
from subsystems.elections.peers.forwarding import STRATEGIES, Drop, Forward, Refer, Reply, Situation
from subsystems.elections.peers.local import Send
from subsystems.elections.peers.participant import Heard, Start
from subsystems.elections.peers.ring import Draw
from subsystems.elections.peers.tokens import MemoryTokens

FAR, NEAR, NEARER = TOKEN + 1000, TOKEN + 100, TOKEN + 10


def at(**changed: object) -> Situation:
    fields: dict[str, object] = {
        "self_id": NEAR,
        "token": TOKEN,
        "ttl": 8,
        "can_answer": True,
        "first_hand": True,
        "known": (FAR, NEARER),
        "fanout": 2,
    }
    return Situation(**{**fields, **changed})  # pyright: ignore[reportArgumentType]


def chosen(strategy: Strategy, **changed: object) -> object:
    return STRATEGIES[strategy](at(**changed), Draw(b"", "test"))


def test_greedy_passes_on_while_somebody_is_nearer() -> None:
    assert chosen(Strategy.GREEDY) == Forward((NEARER,))
    assert chosen(Strategy.GREEDY, known=(FAR,)) == Reply()
    assert chosen(Strategy.GREEDY, ttl=0) == Reply()
    assert chosen(Strategy.GREEDY, known=(FAR,), can_answer=False) == Refer((FAR, 0))


def test_local_then_forward_answers_where_it_can() -> None:
    assert chosen(Strategy.LOCAL_THEN_FORWARD) == Reply()
    assert chosen(Strategy.LOCAL_THEN_FORWARD, can_answer=False) == Forward((NEARER,))
    assert chosen(Strategy.LOCAL_THEN_FORWARD, can_answer=False, ttl=0) == Refer((NEARER, FAR))
    assert chosen(Strategy.LOCAL_THEN_FORWARD, can_answer=False, ttl=0, first_hand=False) == Drop()


def test_a_broadcast_asks_several_neighbours() -> None:
    assert chosen(Strategy.NEIGHBOUR_BROADCAST) == Reply()
    assert chosen(Strategy.NEIGHBOUR_BROADCAST, can_answer=False) == Forward((NEARER, FAR))
    assert chosen(Strategy.NEIGHBOUR_BROADCAST, can_answer=False, ttl=0) == Refer((NEARER, FAR))


def test_a_random_walk_goes_anywhere_and_ends_with_its_ttl() -> None:
    ends = {str(STRATEGIES[Strategy.RANDOM_WALK](at(), Draw(bytes([n]), "test"))) for n in range(50)}
    assert ends == {str(Reply()), str(Forward((FAR,))), str(Forward((NEARER,)))}
    assert chosen(Strategy.RANDOM_WALK, ttl=0) == Reply()
    assert isinstance(chosen(Strategy.RANDOM_WALK, can_answer=False), Forward)


@pytest.mark.parametrize("strategy", Strategy)
def test_with_nobody_to_ask_and_nothing_to_prove_nothing_is_said(strategy: Strategy) -> None:
    assert chosen(strategy, known=(), can_answer=False) == Drop()
    assert chosen(strategy, known=()) == Reply()


def courses(driven: Driven) -> list[str]:
    return [fact.course for fact in driven.facts if isinstance(fact, PeerQueryHandled)]


def test_P19_a_proof_through_three_forwards_verifies_end_to_end() -> None:
    token = ALL[0].id
    ids = [(token + offset) % (1 << 64) for offset in (5000, 4000, 3000, 2000)]
    requester = Driven(7, [ids[0]], tokens=STORE)
    hops = [Driven(each, ids[n + 1 : n + 2], tokens=STORE if n == 3 else MemoryTokens()) for n, each in enumerate(ids)]
    requester.step(Start(token))
    message, sender = requester.queries(token)[ids[0]], 7
    for n, hop in enumerate(hops[:3]):
        (send,) = [e for e in hop.step(Heard(sender, message)) if isinstance(e, Send)]
        assert send.to == ids[n + 1]
        assert isinstance(send.message, PeerQuery)
        assert (send.message.ttl, send.message.requester, send.message.hop) == (7 - n, 7, ids[0])
        message, sender = send.message, ids[n]
    (send,) = [e for e in hops[3].step(Heard(sender, message)) if isinstance(e, Send)]
    assert send.to == 7, "straight to the requester"
    assert isinstance(send.message, PeerAnswer)
    requester.hear(send.message)
    election = requester.node.election(token)
    assert election is not None
    assert election.valid_response_count == 1
    assert requester.refusals() == {}


def test_a_query_is_handled_once_however_often_and_by_whom_it_comes() -> None:
    driven = Driven(NEAR, [FAR, NEARER], tokens=MemoryTokens())
    driven.hear(query(5, NEAR, 99))
    driven.hear(query(5, NEAR, 99))
    driven.hear(query(5, NEAR, 99, sender=FAR), FAR)
    assert courses(driven) == ["forward"]
    assert driven.refusals() == {"query_repeated": 2}


def test_ones_own_query_that_comes_around_is_dropped() -> None:
    driven = Driven(5, [FAR])
    driven.hear(query(5, FAR, 99, sender=FAR), FAR)
    assert driven.refusals() == {"own_query": 1}


def test_a_query_in_anothers_name_is_dropped() -> None:
    driven = Driven(NEAR, [FAR], tokens=STORE)
    good = query(5, NEAR, 99)
    driven.hear(PeerQuery(to=NEAR, token=TOKEN, requester=6, ticket=99, ttl=8, hop=NEAR, sender=6, seal=good.seal))
    assert driven.refusals() == {"query_forged": 1}
    assert driven.sent == []


def test_the_hop_that_was_asked_refers_and_a_later_one_does_not() -> None:
    asked = Driven(NEAR, [FAR, FAR + 1], tokens=MemoryTokens())
    asked.hear(query(5, NEAR, 99))
    (send,) = asked.sent
    assert send.to == 5
    assert isinstance(send.message, PeerReferral)
    assert send.message.suggestions == [FAR, FAR + 1]
    later = Driven(NEAR, [FAR, FAR + 1], tokens=MemoryTokens())
    later.hear(query(5, 1234, 98, sender=1234), 1234)
    assert later.sent == []
    assert courses(later) == ["drop"]


def test_a_ttl_above_ones_own_is_cut() -> None:
    driven = Driven(NEAR, [NEARER], tokens=MemoryTokens(), config=PeersConfig(ttl=4))
    driven.hear(query(5, NEAR, 99, ttl=1 << 40))
    (send,) = driven.sent
    assert isinstance(send.message, PeerQuery)
    assert send.message.ttl == 3


def test_what_is_remembered_of_queries_is_bounded() -> None:
    driven = Driven(NEAR, [NEARER], tokens=MemoryTokens(), config=PeersConfig(handled_max=10))
    for n in range(1, 40):
        driven.hear(query(5, NEAR, n))
    assert len(driven.node.state().handled) == 10
    driven.now_ms += driven.config.handled_ttl_ms
    driven.hear(query(5, NEAR, 1_000))
    assert [each.ticket for each in driven.node.state().handled] == [1_000]
