"""The peer list: room, eviction, expiry, coverage, whom to ask, what to challenge with, and introductions."""

from collections import Counter

import pytest
from peer_world import BLOCK, TOKEN, Driven, answer, resealed, seal_of
from test_peer_manager import PEERS, QUIET, elected
from test_peer_proofs import ALL, STORE

from messages.peers import PeerAccept, PeerConfirm, PeerInvite, PeerMoved, PeerPassedOver, PeerPurpose, TokenMapping
from subsystems.elections.peers.choosing import first_hops, next_challenge
from subsystems.elections.peers.config import PeerMode, PeersConfig
from subsystems.elections.peers.local import Send
from subsystems.elections.peers.participant import Heard
from subsystems.elections.peers.ring import Draw, distance
from subsystems.elections.peers.roster import TRANSITIONS, Peer, PeerState, Roster, Step
from subsystems.elections.peers.tokens import MemoryTokens
from subsystems.elections.peers.traffic import invite_bytes

HOUR_MS = 3_600_000
# Nothing can be proven with the one token of most tests: no election begins by itself.
SMALL = PeersConfig(
    interval_ms=1_000, initial_channels=2, list_max=3, evict_after_ms=1_000, connected_ttl_ms=HOUR_MS, pending_ttl_ms=HOUR_MS
)


def of(*peers: Peer, config: PeersConfig = SMALL) -> Roster:
    return Roster(list(peers), 1, config)


def listed(id: int, verified_ms: int = 0, wins: int = 1) -> Peer:
    return Peer(id=id, state=PeerState.CONNECTED, verified_ms=verified_ms, wins=wins)


def test_peer_eviction_on_overflow() -> None:
    """Four winners for a list of three: the one longest unverified leaves, and the list is never longer."""
    driven = Driven(1, config=SMALL)
    winners: list[int] = []
    for n in range(4):
        # Each time others are known, so that another one wins.
        pair = [(9 - n) << 60, ((9 - n) << 60) + 7]
        _only(driven, pair)
        winners.append(elected(driven))
        assert len(driven.node.peer_list) <= 3
        driven.wait(5_000)
    assert len(set(winners)) == 4
    assert [peer.id for peer in driven.node.peer_list] == sorted(winners[1:])
    evicted = [fact for fact in driven.facts if isinstance(fact, PeerMoved) and fact.step == Step.EVICTED]
    assert [fact.peer for fact in evicted] == winners[:1]


def _only(driven: Driven, peers: list[int]) -> None:
    """Let these be the only ones to ask; what is listed stays listed."""
    state = driven.node.state()
    driven.sent.clear()
    kept = [peer for peer in state.peers if peer.listed]
    state.peers = [*kept, *(Peer(id=peer) for peer in peers)]
    # The listed ones were asked of late, and two are asked at a time.
    state.recent = [peer.id for peer in kept]
    driven.restart(state)


def test_out_goes_who_is_longest_unverified_then_won_least_then_covers_least() -> None:
    now = 10 * HOUR_MS
    config = PeersConfig(list_max=3, interval_ms=60_000)
    near, far = 1 << 60, 9 << 60
    assert of(listed(5, 60_000), listed(6, 180_000), listed(7, 240_000), config=config).room_for(far, now)[1] == listed(5, 60_000)
    same = (listed(5, 60_000, wins=2), listed(6, 60_001, wins=1), listed(7, 60_002, wins=3))
    assert of(*same, config=config).room_for(far, now)[1] == same[1], "within one interval the times are equal"
    crowd = (listed(far), listed(near), listed(near + 1))
    assert of(*crowd, config=config).room_for(5, now)[1] == listed(near), "one of two in a segment, by id"
    assert of(*crowd[:2], config=config).room_for(5, now) == (True, None)


def test_a_full_list_of_peers_verified_of_late_does_not_churn_but_an_empty_segment_is_filled() -> None:
    now = HOUR_MS
    config = PeersConfig(list_max=3)
    roster = of(listed(5, now), listed(6, now), listed(9 << 60, now), config=config)
    assert roster.room_for(7, now) == (False, None), "its segment is covered"
    assert roster.room_for(12 << 60, now) == (True, roster.get(5)), "one of two leaves for one where there is none"
    assert of(listed(5, now), listed(8 << 60, now), listed(9 << 60, now), config=config).room_for(12 << 60, now) == (False, None)


def test_a_winner_without_a_place_is_passed_over_and_still_known() -> None:
    config = PeersConfig(initial_channels=2, list_max=1)
    driven = Driven(1, config=config)
    _only(driven, [PEERS[0], PEERS[0] + 1])
    first = elected(driven)
    _only(driven, [first + 2, first + 3])
    second = elected(driven)
    assert [fact for fact in driven.facts if isinstance(fact, PeerPassedOver)] == [PeerPassedOver(at_ms=driven.now_ms, peer=second)]
    assert [peer.id for peer in driven.node.peer_list] == [first]
    assert driven.node.roster.get(second) is not None


@pytest.mark.parametrize("state", PeerState)
@pytest.mark.parametrize("step", Step)
def test_every_step_of_a_peer_is_that_of_the_table(state: PeerState, step: Step) -> None:
    peer = Peer(id=5, state=state)
    roster = of(peer)
    expected = TRANSITIONS.get((state, step))
    assert roster.step(peer, step) == (expected is not None)
    assert peer.state == (expected or state)
    assert roster.listed == ([peer] if peer.listed else [])


def test_the_address_book_is_bounded_and_forgets_the_one_not_seen_for_longest() -> None:
    roster = of(listed(5), config=PeersConfig(identified_max=3))
    for n, peer in enumerate((10, 11, 12, 10, 13)):
        roster.identify(peer, n)
    assert roster.ids == [5, 10, 12, 13]
    proven = roster.get(12)
    assert proven is not None
    proven.answered = 1
    for n in range(100):
        roster.identify(1_000 + n, 10 + n)
    assert 12 in roster.ids, "strangers do not push out who proved something"
    assert len(roster.ids) == 4
    assert roster.identify(1, 9) is None, "oneself"
    assert roster.identify(0, 9) is None


def test_a_pending_peer_is_invited_again_and_expires() -> None:
    driven = Driven(1, PEERS[:3], QUIET)
    winner = elected(driven)
    driven.wait(QUIET.pending_ttl_ms - 1)
    assert [send.to for send in driven.sent if isinstance(send.message, PeerInvite)] == [winner] * 4
    assert [peer.id for peer in driven.node.peer_list] == [winner]
    driven.wait(1)
    assert driven.node.peer_list == []
    assert driven.node.roster.get(winner) is not None
    assert [fact.step for fact in driven.facts if isinstance(fact, PeerMoved)] == [Step.ELECTED, Step.EXPIRED]


# ------------------------------------------------------------------------------------------------ introductions


def carry(one: Driven, other: Driven) -> list[Send]:
    """Everything that the two have to say to each other, until they are silent."""
    said: list[Send] = []
    at = {one.self_id: 0, other.self_id: 0}
    while True:
        moved = False
        for sender, receiver in ((one, other), (other, one)):
            while at[sender.self_id] < len(sender.sent):
                send = sender.sent[at[sender.self_id]]
                at[sender.self_id] += 1
                if send.to == receiver.self_id:
                    receiver.step(Heard(sender.self_id, send.message))
                    said.append(send)
                moved = True
        if not moved:
            return said


def pending(driven: Driven, peer: int) -> None:
    """As if it had been elected: its invitation goes out."""
    state = driven.node.state()
    state.peers = [Peer(id=peer, state=PeerState.PENDING, invited_ms=driven.now_ms)]
    driven.restart(state)
    driven.wait(QUIET.pending_ttl_ms // 2)


def test_both_prove_what_the_other_chose_and_are_connected() -> None:
    one, other = Driven(1, [], QUIET, STORE), Driven(2, [], QUIET, STORE)
    pending(one, 2)
    invite = one.sent[-1].message
    assert isinstance(invite, PeerInvite)
    one.sent[:-1] = []
    said = carry(one, other)
    assert [type(send.message) for send in said] == [PeerInvite, PeerAccept, PeerConfirm]
    for driven, peer in ((one, 2), (other, 1)):
        (entry,) = driven.node.peer_list
        assert (entry.id, entry.state, entry.verified_ms) == (peer, PeerState.CONNECTED, driven.now_ms)
        assert driven.refusals() == {}
    accept = said[1].message
    assert isinstance(accept, PeerAccept)
    assert accept.proof.answer.id == invite.token, "the inviter's choice"
    assert distance(accept.token, 1) < distance(accept.token, 1 << 63), "and the invited one's, near the inviter"


def test_a_connection_is_kept_alive_and_else_expires() -> None:
    one, other = Driven(1, [], QUIET, STORE), Driven(2, [], QUIET, STORE)
    pending(one, 2)
    one.sent[:-1] = []
    carry(one, other)
    one.sent.clear()
    other.sent.clear()
    one.wait(QUIET.keep_alive_ms)
    assert [type(send.message) for send in one.sent] == [PeerInvite]
    other.now_ms = one.now_ms
    carry(one, other)
    assert one.node.peer_list[0].verified_ms == one.now_ms
    silent = one.now_ms
    one.wait(QUIET.connected_ttl_ms)
    assert one.node.peer_list == []
    moves = [fact for fact in one.facts if isinstance(fact, PeerMoved) and fact.step == Step.EXPIRED]
    assert [fact.at_ms for fact in moves] == [silent + QUIET.connected_ttl_ms]


def test_P24_an_introduction_takes_proofs_of_its_own_peer_token_and_ticket_alone() -> None:
    one = Driven(1, [], QUIET, STORE)
    pending(one, 2)
    invite = one.sent[-1].message
    assert isinstance(invite, PeerInvite)
    good = answer(1, 2, invite.ticket, invite.token, block=STORE.block_of(invite.token) or 0)
    others = [resealed(good, ticket=good.ticket ^ 1), resealed(good, responder=3), resealed(good, answer=TokenMapping(TOKEN, BLOCK))]
    for proof in others:
        one.step(Heard(proof.responder, PeerConfirm(proof=proof)))
    assert one.refusals() == {"unknown_introduction": 3}
    for proof in (resealed(good, requester=9), answer(1, 2, invite.ticket, invite.token, sealed=False)):
        one.step(Heard(2, PeerConfirm(proof=proof)))
    assert one.refusals() == {"introduction_forged": 2, "unknown_introduction": 3}
    one.step(Heard(2, PeerConfirm(proof=good)))
    assert one.refusals()["introduction_unproven"] == 1, "right low bits, and ids that nobody holds"
    assert one.node.peer_list[0].state is PeerState.PENDING


def test_an_invitation_in_anothers_name_or_to_another_is_refused() -> None:
    driven = Driven(2, [], QUIET, STORE)
    token = ALL[0].id
    good = PeerInvite(sender=1, to=2, token=token, ticket=9, seal=seal_of(1)(invite_bytes(1, 2, token, 9)))
    driven.step(Heard(3, PeerInvite(sender=3, to=2, token=token, ticket=9, seal=good.seal)))
    driven.step(Heard(1, PeerInvite(sender=1, to=4, token=token, ticket=9, seal=seal_of(1)(invite_bytes(1, 4, token, 9)))))
    driven.step(Heard(1, PeerInvite(sender=1, to=2, token=token + 1, ticket=9, seal=seal_of(1)(invite_bytes(1, 2, token + 1, 9)))))
    assert driven.sent == []
    assert driven.refusals() == {"cannot_prove": 1, "invite_forged": 2}


def test_open_introductions_are_bounded() -> None:
    driven = Driven(2, [], PeersConfig(interval_ms=1 << 50, introductions_max=3), STORE)
    for n in range(10, 20):
        token = ALL[n].id
        driven.step(Heard(n, PeerInvite(sender=n, to=2, token=token, ticket=n, seal=seal_of(n)(invite_bytes(n, 2, token, n)))))
    assert len(driven.node.state().introductions) == 3
    accepts = [send.message for send in driven.sent if isinstance(send.message, PeerAccept)]
    assert [accept.ticket != 0 for accept in accepts] == [True] * 3 + [False] * (len(accepts) - 3)
    assert len(accepts) >= 8, "the others are answered, and asked for nothing"


def test_who_has_no_place_proves_and_asks_for_nothing() -> None:
    full = PeersConfig(interval_ms=1 << 50, list_max=1)
    driven = Driven(2, [], full, STORE)
    state = driven.node.state()
    state.peers = [listed(5 << 60, driven.now_ms)]
    driven.restart(state)
    token = ALL[0].id
    driven.step(Heard(1, PeerInvite(sender=1, to=2, token=token, ticket=9, seal=seal_of(1)(invite_bytes(1, 2, token, 9)))))
    (send,) = driven.sent
    assert isinstance(send.message, PeerAccept)
    assert (send.message.token, send.message.ticket) == (0, 0)


@pytest.mark.parametrize("mode", [PeerMode.OFF, PeerMode.OBSERVE])
def test_without_a_list_there_are_no_introductions(mode: PeerMode) -> None:
    driven = Driven(2, [], PeersConfig(mode=mode), STORE)
    token = ALL[0].id
    driven.step(Heard(1, PeerInvite(sender=1, to=2, token=token, ticket=9, seal=seal_of(1)(invite_bytes(1, 2, token, 9)))))
    assert driven.sent == []
    assert driven.refusals() == {"no_list_here": 1}


# ------------------------------------------------------------------------------------------------ choosing


def test_first_hops_are_spread_over_the_ring() -> None:
    peers = [Peer(id=(n << 56) + 1) for n in range(256)]
    for n in range(50):
        hops = first_hops(peers, 4, [], Draw(bytes([n]), "test"))
        gaps = [distance(a, b) for a in hops for b in hops if a < b]
        assert len(set(hops)) == 4
        assert sum(gap >= 1 << 58 for gap in gaps) >= 3, "at most neighbours across a border are close"


def test_first_hops_of_late_are_asked_only_where_there_are_no_others() -> None:
    peers = [Peer(id=n + 1) for n in range(5)]
    for n in range(50):
        assert set(first_hops(peers, 3, [2, 4], Draw(bytes([n]), "test"))) == {1, 3, 5}
        assert {1, 3} < set(first_hops(peers, 3, [5, 2, 4], Draw(bytes([n]), "test"))), "and then the oldest of them"
        assert 5 in first_hops(peers, 3, [5, 2, 4], Draw(bytes([n]), "test"))
    assert first_hops([], 3, [], Draw(b"", "test")) == []
    assert sorted(first_hops(peers[:2], 3, [], Draw(b"", "test"))) == [1, 2]


def test_first_hops_prefer_reputation() -> None:
    good, bad = Peer(id=5, asked=20, answered=20, agreed=20), Peer(id=6, asked=20)
    asked = Counter(first_hops([good, bad], 1, [], Draw(n.to_bytes(2, "big"), "test"))[0] for n in range(500))
    assert asked[5] > 5 * asked[6] > 0


def test_verification_asks_the_listed_peer_that_was_verified_longest_ago_about_a_token_near_it() -> None:
    roster = of(listed(1 << 60, 500), listed(9 << 60, 100), listed(5 << 60, 300))
    challenge = next_challenge(STORE, roster, QUIET, Draw(b"", "test"), verify=True)
    assert challenge is not None
    assert (challenge.purpose, challenge.hop) == (PeerPurpose.VERIFY, 9 << 60)
    assert distance(challenge.token, 9 << 60) < 1 << 54
    assert STORE.block_of(challenge.token) is not None


def test_discovery_fills_an_empty_segment_while_a_peer_in_it_is_known() -> None:
    known = [listed(n << 60, 100) for n in range(1, 16) if n != 7]
    lonely = (7 << 60) + 99
    for n in range(20):
        challenge = next_challenge(STORE, of(*known, Peer(id=lonely)), QUIET, Draw(bytes([n]), "test"), verify=False)
        assert challenge is not None
        assert (challenge.purpose, challenge.hop) == (PeerPurpose.DISCOVER, lonely)
        assert distance(challenge.token, lonely) < 1 << 54


def test_discovery_is_biased_to_under_covered_segments() -> None:
    peers = [listed((n << 60) + m, 100) for n in range(16) for m in range(1 if n < 4 else 5)]
    roster = of(*peers, config=PeersConfig(list_max=99))
    chosen = Counter[int]()
    for n in range(400):
        challenge = next_challenge(STORE, roster, PeersConfig(), Draw(n.to_bytes(2, "big"), "test"), verify=False)
        assert challenge is not None
        chosen[roster.segment(challenge.token)] += 1
    under, other = sum(chosen[n] for n in range(4)) / 4, sum(chosen[n] for n in range(4, 16)) / 12
    assert under >= 2 * other
    assert all(chosen[n] for n in range(16)), "and none is left out"


def test_without_tokens_there_is_no_challenge() -> None:
    assert next_challenge(MemoryTokens(), of(), QUIET, Draw(b"", "test"), verify=False) is None
    assert next_challenge(MemoryTokens([TokenMapping(5, 5)]), of(), QUIET, Draw(b"", "test"), verify=False) is None
