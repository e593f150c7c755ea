"""One election, scenario by scenario."""

import itertools
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peer_world import BLOCK, TOKEN, an_election, answer, authentic, referral, resealed, voted

from messages.peers import PeerReferral, TokenMapping
from subsystems.elections.peers.clusters import NoConsensus, Response, Single, SplitBrain, agreements, judged, maximal_cliques
from subsystems.elections.peers.election import ChannelState, PeerElection, Phase, Redirected, Refusal, Refused, Stored
from subsystems.elections.peers.proof import Flaw
from subsystems.elections.peers.ring import nearest
from subsystems.elections.peers.tokens import MemoryTokens
from subsystems.elections.peers.traffic import key_authentic, key_seal, peer_id


def opened(election: PeerElection, hop: int) -> int:
    number = election.create_channel(hop)
    assert isinstance(number, int)
    return number


def code(result: object) -> str:
    return result.code if isinstance(result, Refused) else type(result).__name__


def test_P03_a_new_election_is_empty() -> None:
    election = an_election()
    assert (election.channel_count, election.valid_response_count, election.blocked_peer_count) == (0, 0, 0)
    assert election.check_for_winner() == NoConsensus()
    assert election.phase is Phase.COLLECTION
    assert election.can_create_channel
    assert election.challenge_token == TOKEN


def test_P04_channels_are_bounded_distinct_and_not_to_oneself() -> None:
    election = an_election(max_channels=3)
    tickets = {opened(election, hop) for hop in (10, 20)}
    assert code(election.create_channel(1)) == Refusal.SELF_REFERENCE
    assert code(election.create_channel(10)) == Refusal.CHANNEL_ALREADY_EXISTS
    tickets.add(opened(election, 30))
    assert len(tickets) == 3
    assert 0 not in tickets
    assert not election.can_create_channel
    assert code(election.create_channel(40)) == Refusal.MAX_CHANNELS_REACHED
    assert code(election.create_channel(10)) == Refusal.MAX_CHANNELS_REACHED, "the bound is looked at before"
    assert code(election.create_channel(1)) == Refusal.SELF_REFERENCE, "and oneself before that"


def test_a_peer_that_answered_or_was_asked_before_gets_no_channel() -> None:
    election = an_election()
    election.handle_answer(answer(1, 77, opened(election, 10)))
    assert code(election.create_channel(77)) == Refusal.PEER_ALREADY_PARTICIPATING
    moved = opened(election, 20)
    assert isinstance(election.handle_referral(referral(1, 20, moved, (30, 40))), Redirected)
    assert code(election.create_channel(20)) == Refusal.PEER_ALREADY_PARTICIPATING


def test_P05_an_answer_about_another_token_is_that_first_of_all() -> None:
    election = an_election(1, 1000)
    number = opened(election, 10)
    assert code(election.handle_answer(answer(1, 10, number, 9999))) == Refusal.WRONG_TOKEN
    bad = resealed(answer(1, 10, number, 9999), signature=answer(1, 10, number, 1000).signature)
    assert code(election.handle_answer(bad)) == Refusal.WRONG_TOKEN
    assert election.blocked_peer_count == 0


def test_P07_a_good_proof_with_an_unknown_ticket() -> None:
    election = an_election()
    number = opened(election, 10)
    assert code(election.handle_answer(answer(1, 10, number ^ 1))) == Refusal.UNKNOWN_TICKET
    assert election.blocked_peer_count == 0


def test_a_bad_proof_with_an_unknown_ticket_blocks_nobody() -> None:
    election = an_election()
    number = opened(election, 10)
    refused = election.handle_answer(resealed(answer(1, 10, number ^ 1), answer=TokenMapping(TOKEN, BLOCK + 1)))
    assert code(refused) == Refusal.SIGNATURE_VERIFICATION_FAILED
    assert election.blocked_peer_count == 0, "it was signed for some other ticket"


def test_P08_a_second_valid_answer_blocks_the_channel_and_its_signer() -> None:
    election = an_election()
    number = opened(election, 10)
    assert election.handle_answer(answer(1, 10, number)) == Stored(number, 10)
    assert code(election.handle_answer(answer(1, 11, number))) == Refusal.DUPLICATE_RESPONSE
    channel = election.channel(number)
    assert channel is not None
    assert channel.state is ChannelState.BLOCKED
    assert election.valid_response_count == 0, "both are excluded"
    assert code(election.handle_answer(answer(1, 11, number))) == Refusal.BLOCKED_PEER
    assert code(election.handle_answer(answer(1, 12, number))) == Refusal.CHANNEL_BLOCKED
    assert election.blocked_peer_count == 1
    other = opened(election, 20)
    assert election.handle_answer(answer(1, 10, other)) == Stored(other, 10), "the bystander may answer elsewhere"


def test_P27_who_was_blocked_for_a_duplicate_is_blocked_on_every_channel() -> None:
    election = an_election()
    first, second = opened(election, 10), opened(election, 20)
    election.handle_answer(answer(1, 10, first))
    election.handle_answer(answer(1, 11, first))
    assert code(election.handle_answer(answer(1, 11, second))) == Refusal.BLOCKED_PEER
    channel = election.channel(second)
    assert channel is not None
    assert channel.state is ChannelState.PENDING


def test_what_a_peer_said_before_it_was_caught_does_not_count() -> None:
    election = an_election()
    first, second = opened(election, 10), opened(election, 20)
    election.handle_answer(answer(1, 10, first))
    election.handle_answer(answer(1, 20, second))
    assert election.valid_response_count == 2
    election.handle_answer(answer(1, 10, second))
    assert election.valid_response_count == 0


def test_P09_one_of_three_is_blocked_and_the_other_two_win() -> None:
    election = an_election()
    tickets = {hop: opened(election, hop) for hop in (101, 102, 103)}
    for hop, number in tickets.items():
        election.handle_answer(answer(1, hop, number))
    election.handle_answer(answer(1, 999, tickets[103]))
    assert election.valid_response_count == 2
    outcome = election.check_for_winner()
    assert isinstance(outcome, Single)
    assert sorted(outcome.cluster.peers) == [101, 102]
    assert all(len(member.mappings) == 10 for member in outcome.cluster.members)


def test_one_responder_on_two_channels_counts_once() -> None:
    election = an_election()
    for hop in (10, 20):
        assert isinstance(election.handle_answer(answer(1, 77, opened(election, hop))), Stored)
    assert election.valid_response_count == 1
    assert election.check_for_winner() == NoConsensus()


def test_P10_a_referral_opens_a_channel_to_the_first_suggestion_that_will_do() -> None:
    election = an_election()
    number = opened(election, 100)
    moved = election.handle_referral(referral(1, 100, number, (200, 300)))
    assert isinstance(moved, Redirected)
    assert moved.hop == 200
    assert moved.ticket != number
    assert election.channel(number) is None
    assert election.channel_count == 1
    again = election.handle_referral(referral(1, 200, moved.ticket, (100, 300)))
    assert isinstance(again, Redirected)
    assert again.hop == 300, "100 was asked before"
    assert code(election.handle_referral(referral(1, 300, again.ticket, (100, 200)))) == Refusal.NO_VIABLE_SUGGESTIONS
    assert election.channel_count == 0
    assert code(election.handle_answer(answer(1, 300, again.ticket))) == Refusal.UNKNOWN_TICKET


def test_P10_neither_oneself_nor_nobody_is_a_suggestion() -> None:
    election = an_election()
    assert code(election.handle_referral(referral(1, 100, opened(election, 100), (1, 0)))) == Refusal.NO_VIABLE_SUGGESTIONS


def test_a_chain_of_referrals_ends() -> None:
    election = an_election(referrals_max=3)
    number, hop = opened(election, 100), 100
    for n in range(3):
        moved = election.handle_referral(referral(1, hop, number, (200 + n, 0)))
        assert isinstance(moved, Redirected)
        number, hop = moved.ticket, moved.hop
    assert code(election.handle_referral(referral(1, hop, number, (999, 998)))) == Refusal.NO_VIABLE_SUGGESTIONS


def test_P21_a_referral_by_a_stranger_or_on_an_answered_channel_leaves_the_channel_alone() -> None:
    election = an_election()
    number = opened(election, 100)
    assert code(election.handle_referral(referral(1, 666, number, (200, 300)))) == Refusal.NOT_THE_HOP_ASKED
    assert code(election.handle_referral(referral(1, 100, number ^ 1, (200, 300)))) == Refusal.UNKNOWN_TICKET
    assert code(election.handle_referral(referral(1, 100, number, (200, 300), token=5))) == Refusal.WRONG_TOKEN
    assert election.handle_answer(answer(1, 100, number)) == Stored(number, 100)
    assert code(election.handle_referral(referral(1, 100, number, (200, 300)))) == Refusal.CHANNEL_NOT_PENDING
    assert election.valid_response_count == 1
    election.handle_answer(answer(1, 101, number))
    assert code(election.handle_referral(referral(1, 100, number, (200, 300)))) == Refusal.CHANNEL_BLOCKED
    assert election.tickets == [number]


def test_P11_two_that_agree_on_eight_of_ten_elect_and_on_seven_do_not() -> None:
    for differing, expected in ((2, Single), (3, NoConsensus)):
        election = an_election()
        for n, hop in enumerate((10, 20)):
            election.handle_answer(answer(1, hop, opened(election, hop), own=n, of=differing))
        assert isinstance(election.check_for_winner(), expected)


def test_agreement_is_of_sets_and_not_of_places() -> None:
    mappings = tuple(TokenMapping(n, n) for n in range(10))
    one, other = Response(1, TokenMapping(0, 0), mappings), Response(2, TokenMapping(0, 0), mappings[::-1])
    assert agreements([one, other]) == [[10, 10], [10, 10]]
    assert agreements([one, other], frozenset({3, 4})) == [[8, 8], [8, 8]]


def test_P12_the_member_nearest_to_the_challenge_token_wins() -> None:
    election = voted([3], token=1000, peers=(1500, 950, 2000))
    outcome = election.check_for_winner()
    assert isinstance(outcome, Single)
    assert outcome.winner == 950
    assert isinstance(tie := voted([2], token=1000, peers=(1010, 990)).check_for_winner(), Single)
    assert tie.winner == 990, "ties by id"


@pytest.mark.parametrize("groups", [(3, 2), (6, 4), (4, 2), (8, 2)])
def test_P13_a_majority_is_single(groups: tuple[int, ...]) -> None:
    outcome = voted(groups).check_for_winner()
    assert isinstance(outcome, Single)
    assert len(outcome.cluster.members) == groups[0]


@pytest.mark.parametrize("groups", [(3, 3), (4, 3), (5, 4), (2, 2, 1)])
def test_P13_without_a_majority_two_clusters_are_a_split_brain(groups: tuple[int, ...]) -> None:
    outcome = voted(groups).check_for_winner()
    assert isinstance(outcome, SplitBrain)
    assert [len(outcome.first.members), len(outcome.second.members)] == list(groups[:2])
    assert outcome.first.winner in outcome.first.peers
    assert outcome.second.winner in outcome.second.peers


def test_P14_two_that_agree_among_three_strangers_elect_nobody() -> None:
    assert voted((2, 1, 1, 1)).check_for_winner() == NoConsensus()


def test_P19_a_proof_is_bound_to_its_requester_however_it_was_forwarded() -> None:
    """Through the hops themselves: test_peer_forwarding.py."""
    mine, theirs = an_election(1), an_election(2)
    assert code(theirs.handle_answer(answer(1, 10, opened(theirs, 10)))) == Refusal.SIGNATURE_VERIFICATION_FAILED
    assert isinstance(mine.handle_answer(answer(1, 10, opened(mine, 10))), Stored)


def test_P24_replies_are_good_in_their_own_election_and_from_their_own_peer_alone() -> None:
    election = an_election()
    number = opened(election, 10)
    good = answer(1, 10, number)
    by_another = answer(1, 10, number, sealed=False)
    by_another = type(good)(
        requester=1, responder=11, ticket=number, answer=by_another.answer, signature=by_another.signature, seal=good.seal
    )
    refused = election.handle_answer(by_another)
    assert refused == Refused(code=Refusal.SIGNATURE_VERIFICATION_FAILED, peer=11, ticket=number, flaw=None)
    elsewhere = PeerElection(requester=1, token=TOKEN, secret=bytes(32), tokens=MemoryTokens(), authentic=authentic)
    assert code(elsewhere.handle_answer(good)) == Refusal.UNKNOWN_TICKET
    moved = type(good)(
        requester=1, responder=10, ticket=opened(elsewhere, 10), answer=good.answer, signature=good.signature, seal=good.seal
    )
    assert code(elsewhere.handle_answer(moved)) == Refusal.SIGNATURE_VERIFICATION_FAILED
    assert elsewhere.blocked_peer_count == 0, "whose answer is replayed did nothing"


def test_numbers_that_are_no_ids_are_refused_and_nothing_raises() -> None:
    election = an_election()
    number = opened(election, 10)
    good = answer(1, 10, number)
    beyond = [{"answer": TokenMapping(TOKEN, block)} for block in (-1, 1 << 64)]
    for changed in ({"signature": good.signature[:9]}, *beyond, {"responder": 0}):
        fields = {"requester": 1, "responder": 10, "ticket": number, "answer": good.answer, "signature": good.signature, "seal": good.seal}
        assert code(election.handle_answer(type(good)(**{**fields, **changed}))) == Refusal.SIGNATURE_VERIFICATION_FAILED
    odd = PeerReferral(token=TOKEN, ticket=number, requester=1, sender=10, suggestions=[-5, 1 << 64], seal=b"")
    assert code(election.handle_referral(odd)) == Refusal.NO_VIABLE_SUGGESTIONS


def test_an_answer_to_another_requester_is_refused_though_the_proof_would_do() -> None:
    election = an_election()
    number = opened(election, 10)
    refused = election.handle_answer(resealed(answer(1, 10, number), requester=9))
    assert refused == Refused(code=Refusal.SIGNATURE_VERIFICATION_FAILED, peer=10, ticket=number)
    assert election.blocked_peer_count == 0


def test_a_bad_proof_blocks_its_signer_and_a_bad_seal_nobody() -> None:
    election = an_election()
    number = opened(election, 10)
    bad = resealed(answer(1, 10, number), answer=TokenMapping(TOKEN, BLOCK + 1))
    unsealed = answer(1, 10, number, sealed=False)
    assert election.handle_answer(unsealed) == Refused(code=Refusal.SIGNATURE_VERIFICATION_FAILED, peer=10, ticket=number)
    assert election.blocked_peer_count == 0
    assert election.handle_answer(bad) == Refused(code=Refusal.SIGNATURE_VERIFICATION_FAILED, peer=10, ticket=number, flaw=Flaw.LOW_BITS)
    assert election.blocked_peer_count == 1
    assert code(election.handle_answer(answer(1, 10, number))) == Refusal.BLOCKED_PEER


def test_a_blacklisted_block_is_no_agreement() -> None:
    election = voted([3])
    assert isinstance(election.check_for_winner(), Single)
    assert election.check_for_winner(void=[BLOCK]) == NoConsensus(), "the token's own block"
    assert election.check_for_winner(void=[8]) == NoConsensus(), "a block that its mappings name"


def test_a_complete_election_takes_nothing_any_more() -> None:
    election = voted([2])
    number = opened(election, 10)
    election.end_collection()
    assert election.phase is Phase.ELECTION
    election.complete(election.check_for_winner())
    assert election.phase is Phase.COMPLETE
    assert election.elected == nearest(TOKEN, [101, 102])[0]
    assert not election.can_create_channel
    late = referral(1, 10, number, (5, 6))
    results = (election.create_channel(20), election.handle_answer(answer(1, 10, number)), election.handle_referral(late))
    assert {code(result) for result in results} == {Refusal.ELECTION_COMPLETE}
    assert election.channel_count == 3


def test_looking_for_a_winner_changes_nothing() -> None:
    election = voted([3, 3])
    before = repr(election.state)
    assert election.check_for_winner() == election.check_for_winner()
    assert repr(election.state) == before


def test_ids_are_bound_to_keys() -> None:
    def verify(key: bytes, message: bytes, signature: bytes) -> bool:
        return signature == key + message

    key = bytes(range(32))
    seal = key_seal(key, lambda message: key + message)
    check = key_authentic(verify)
    assert check(peer_id(key), b"m", seal(b"m"))
    assert not check(peer_id(key) + 1, b"m", seal(b"m"))
    assert not check(peer_id(key), b"n", seal(b"m"))
    assert not check(peer_id(key), b"m", b"")


@settings(max_examples=100, deadline=None, database=None, derandomize=True)
@given(edges=st.sets(st.tuples(st.integers(0, 6), st.integers(0, 6))), size=st.integers(0, 7))
def test_cliques_are_all_the_maximal_ones(edges: set[tuple[int, int]], size: int) -> None:
    joined = {frozenset(edge) for edge in edges if len(set(edge)) == 2 and max(edge) < size}
    agrees = [sum((frozenset({a, b}) in joined) << b for b in range(size)) for a in range(size)]
    sets = [set(each) for n in range(1, size + 1) for each in itertools.combinations(range(size), n)]
    cliques = [each for each in sets if all(frozenset(pair) in joined for pair in itertools.combinations(each, 2))]
    maximal = [sorted(each) for each in cliques if not any(each < other for other in cliques)]
    assert sorted(maximal_cliques(agrees)) == sorted(maximal)


def test_the_order_of_arrival_decides_ties_alone() -> None:
    random = Random(1)
    mappings = [tuple(TokenMapping(n, 1 + (n < differing)) for n in range(10)) for differing in (0, 0, 1, 5, 5, 10)]
    responses = [Response(100 + n, TokenMapping(TOKEN, BLOCK), each) for n, each in enumerate(mappings)]
    rules = {"threshold": 8, "size_min": 2, "majority_percent": 60}
    seen = {repr(_unordered(judged(random.sample(responses, 6), TOKEN, **rules))) for _ in range(50)}
    assert len(seen) == 1


def _unordered(outcome: object) -> object:
    assert isinstance(outcome, SplitBrain)
    return [(cluster.winner, sorted(cluster.peers)) for cluster in (outcome.first, outcome.second)]
