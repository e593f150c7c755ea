"""Peers that are gone: whoever says nothing while others answer is asked less, loses its place, and holds up nobody."""

from peer_world import TOKEN, Driven, query, referral
from test_peer_manager import PEERS, QUIET, elected
from test_peer_proofs import ALL

from messages.peers import PeerMoved
from subsystems.elections.peers.choosing import next_challenge
from subsystems.elections.peers.participant import Heard, Start
from subsystems.elections.peers.ring import Draw
from subsystems.elections.peers.roster import Peer, PeerState, Roster, Step
from subsystems.elections.peers.tokens import MemoryTokens

TRIO = PEERS[:3]


def asked_in_vain(driven: Driven, silent: int, *, others_answer: bool = True) -> None:
    """One election, in which `silent` says nothing."""
    driven.step(Start(TOKEN))
    for hop in TRIO:
        if hop != silent and others_answer:
            driven.reply(hop)
    driven.wait(10_000)


def with_a_listed_peer() -> tuple[Driven, int]:
    driven = Driven(1, TRIO, QUIET)
    winner = elected(driven)
    driven.wait(10_000)
    assert [peer.id for peer in driven.node.peer_list] == [winner]
    return driven, winner


def test_a_listed_peer_that_is_silent_three_times_while_others_answer_loses_its_place() -> None:
    driven, gone = with_a_listed_peer()
    for _ in range(2):
        asked_in_vain(driven, gone)
        assert gone in [peer.id for peer in driven.node.peer_list]
    asked_in_vain(driven, gone)
    assert gone not in [peer.id for peer in driven.node.peer_list]
    assert [fact.peer for fact in driven.facts if isinstance(fact, PeerMoved) and fact.step == Step.EXPIRED] == [gone]


def test_where_nobody_answers_nobody_is_to_blame() -> None:
    driven, gone = with_a_listed_peer()
    for _ in range(5):
        asked_in_vain(driven, gone, others_answer=False)
    assert gone in [peer.id for peer in driven.node.peer_list]
    assert all(peer.silent == 0 for peer in driven.node.roster.peers)


def test_silence_is_over_with_the_next_answer_or_question() -> None:
    driven, gone = with_a_listed_peer()
    for heard in (lambda: driven.reply(gone), lambda: driven.step(Heard(gone, query(gone, 1, 77)))):
        asked_in_vain(driven, gone)
        peer = driven.node.roster.get(gone)
        assert peer is not None
        assert peer.silent == 1
        driven.step(Start(TOKEN))
        heard()
        assert peer.silent == 0
        for hop in TRIO:
            if hop != gone:
                driven.reply(hop)
        driven.reply(gone)
        driven.wait(10_000)


def test_whoever_refers_to_nobody_is_to_blame_and_what_it_named_is_not_known() -> None:
    driven = Driven(1, TRIO, QUIET)
    for _ in range(2):
        driven.step(Start(TOKEN))
        poisoner, *others = driven.queries()
        driven.hear(referral(1, poisoner, driven.queries()[poisoner].ticket, [77, 78]))
        for hop in others:
            driven.reply(hop)
        driven.wait(10_000)
        driven.sent.clear()
    silent = {peer.id: peer.silent for peer in driven.node.roster.peers}
    assert silent == {poisoner: 2, **dict.fromkeys(others, 0)}, "and no 77"


def test_whoever_refers_around_in_a_circle_is_to_blame() -> None:
    driven = Driven(1, TRIO, QUIET)
    driven.step(Start(TOKEN))
    poisoner, *others = driven.queries()
    driven.hear(referral(1, poisoner, driven.queries()[poisoner].ticket, others))
    peer = driven.node.roster.get(poisoner)
    assert peer is not None
    assert driven.refusals() == {"no_viable_suggestions": 1}
    assert peer.silent == 1


def test_whoever_refers_to_one_that_answers_did_its_part() -> None:
    driven = Driven(1, TRIO, QUIET)
    driven.step(Start(TOKEN))
    hop = next(iter(driven.queries()))
    driven.hear(referral(1, hop, driven.queries()[hop].ticket, [77, 78]))
    driven.reply(77)
    peer, named = driven.node.roster.get(hop), driven.node.roster.get(77)
    assert peer is not None
    assert named is not None, "it is known since it answered"
    assert (peer.asked, peer.answered, peer.silent) == (1, 1, 0)
    assert named.answered == 1


def test_each_silence_quarters_the_chance_to_be_asked() -> None:
    chances = [Peer(id=5, silent=n).reputation for n in range(4)]
    assert chances == [500, 125, 31, 7]


def test_discovery_does_not_wait_for_a_silent_peer_in_an_empty_segment() -> None:
    """The only peer known in a segment is gone: discovery goes on elsewhere."""
    gone, there = Peer(id=9 << 60, silent=3), Peer(id=5, state=PeerState.CONNECTED)
    tokens = MemoryTokens(ALL)
    roster = Roster([gone, there], 1, QUIET)
    hops = {_hop(tokens, roster, n) for n in range(20)}
    assert hops == {0}
    gone.silent = 2
    assert {_hop(tokens, roster, n) for n in range(20)} == {gone.id}


def test_discovery_does_not_wait_for_a_peer_that_lets_invitations_go_by() -> None:
    """It answers and is elected, but keeps no list: it is off, or observes."""
    driven, winner = with_a_listed_peer()
    peer = driven.node.roster.get(winner)
    assert peer is not None
    assert peer.state is PeerState.PENDING
    driven.wait(QUIET.pending_ttl_ms)
    assert (peer.state, peer.invited_in_vain) == (PeerState.IDENTIFIED, 1)
    lonely, there = Peer(id=9 << 60, invited_in_vain=1), Peer(id=5, state=PeerState.CONNECTED)
    roster = Roster([lonely, there], 1, QUIET)
    assert {_hop(MemoryTokens(ALL), roster, n) for n in range(20)} == {lonely.id}
    lonely.invited_in_vain = 2
    assert {_hop(MemoryTokens(ALL), roster, n) for n in range(20)} == {0}


def _hop(tokens: MemoryTokens, roster: Roster, number: int) -> int:
    challenge = next_challenge(tokens, roster, QUIET, Draw(bytes([number]), "peers"), verify=False)
    assert challenge is not None
    return challenge.hop
