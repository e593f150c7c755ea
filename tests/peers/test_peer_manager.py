"""A node's own elections, driven step by step: start, answers, splits, timeouts, winners, restarts."""

from random import Random

import pytest
from peer_world import BLOCK, TOKEN, Driven, answer, query, referral, resealed

from messages.peers import (
    PeerAdapted,
    PeerAnswer,
    PeerAnswerTaken,
    PeerElectionEnd,
    PeerElectionEnded,
    PeerElectionStarted,
    PeerEvent,
    PeerInvite,
    PeerMoved,
    PeerQuery,
    PeerReferral,
    PeerSplitAlert,
    PeerSplitSeen,
    TokenMapping,
)
from subsystems.elections.peers.config import ElectionConfig, PeerMode, PeersConfig
from subsystems.elections.peers.local import Send
from subsystems.elections.peers.measures import Measures, percentile
from subsystems.elections.peers.participant import Blacklisted, Governance, Heard, Start
from subsystems.elections.peers.ring import nearest
from subsystems.elections.peers.roster import PeerState
from subsystems.elections.peers.tokens import MemoryTokens

# Spread over the ring, one in each of ten segments.
PEERS = [(n << 60) + 12_345 for n in range(1, 11)]
# No elections but those that a test starts.
QUIET = PeersConfig(interval_ms=1 << 50)
OTHER = TOKEN + 5_000


def started(peers: list[int] = PEERS, config: PeersConfig = QUIET) -> Driven:
    driven = Driven(1, peers, config, MemoryTokens([TokenMapping(TOKEN, BLOCK), TokenMapping(OTHER, BLOCK)]))
    driven.step(Start(TOKEN))
    return driven


def ends(driven: Driven) -> list[PeerElectionEnded]:
    return [fact for fact in driven.facts if isinstance(fact, PeerElectionEnded)]


def elected(driven: Driven, token: int = TOKEN) -> int:
    """Let all that were asked agree, and wait for the winner."""
    driven.step(Start(token))
    for hop in list(driven.queries(token)):
        driven.reply(hop, token=token)
    driven.wait(2_000)
    return ends(driven)[-1].winner


def test_start_election() -> None:
    driven = started()
    queries = driven.queries()
    assert len(queries) == 3, "three channels to distinct first hops"
    assert len({query.ticket for query in queries.values()}) == 3
    assert all(hop in PEERS and query.hop == hop and query.ttl == 8 and query.requester == 1 for hop, query in queries.items())
    election = driven.node.election(TOKEN)
    assert election is not None
    assert election.channel_count == 3
    assert driven.step(Start(TOKEN)) == [], "a duplicate start is a no-op"
    assert len([fact for fact in driven.facts if isinstance(fact, PeerElectionStarted)]) == 1


def test_handle_answer_routes_to_correct_election() -> None:
    driven = started()
    driven.step(Start(OTHER))
    hop = next(iter(driven.queries(OTHER)))
    driven.reply(hop, token=OTHER)
    first, second = driven.node.election(TOKEN), driven.node.election(OTHER)
    assert first is not None
    assert second is not None
    assert (first.valid_response_count, second.valid_response_count) == (0, 1)
    driven.reply(next(iter(driven.queries(TOKEN))))
    assert (first.valid_response_count, second.valid_response_count) == (1, 1)
    wrong = answer(1, 77, driven.queries(TOKEN)[next(iter(driven.queries(TOKEN)))].ticket, OTHER)
    driven.hear(wrong)
    driven.hear(answer(1, 77, 4711))
    assert driven.refusals() == {"unknown_ticket": 1, "wrong_token": 1}


def test_election_completes_on_consensus() -> None:
    driven = started()
    hops = list(driven.queries())
    for hop in hops[:2]:
        driven.reply(hop)
    driven.wait(1_999)
    assert ends(driven) == []
    driven.wait(1)
    (end,) = ends(driven)
    assert end.end is PeerElectionEnd.ELECTED
    assert end.winner == nearest(TOKEN, hops[:2])[0]
    assert set(end.cluster) == set(hops[:2])
    assert end.took_ms == 2_000
    assert driven.node.election(TOKEN) is None


def test_P15_undecided_before_the_collection_minimum_and_elected_after() -> None:
    driven = started()
    for hop in list(driven.queries()):
        driven.reply(hop)
        assert ends(driven) == []
    driven.wait(1_000)
    assert ends(driven) == []
    driven.wait(1_000)
    assert [end.end for end in ends(driven)] == [PeerElectionEnd.ELECTED]


def test_P15_an_answer_after_the_minimum_decides_at_once() -> None:
    driven = started()
    first, second, _ = driven.queries()
    driven.reply(first)
    driven.wait(3_000)
    assert ends(driven) == []
    driven.reply(second)
    (end,) = ends(driven)
    assert (end.end, end.took_ms) == (PeerElectionEnd.ELECTED, 3_000)


def split(driven: Driven, camps: int = 2) -> None:
    """Let those asked so far answer, one camp after the other."""
    for n, hop in enumerate(driven.queries()):
        driven.reply(hop, own=1 + n % camps, of=10)


def four_channels() -> Driven:
    """Two and two disagree once the minimum is over."""
    driven = started(config=PeersConfig(interval_ms=1 << 50, initial_channels=4))
    split(driven)
    driven.wait(2_000)
    return driven


def test_split_brain_spawns_more_channels() -> None:
    driven = four_channels()
    assert len(driven.told(PeerSplitSeen)) == 1
    queries = driven.queries()
    assert len(queries) == 6, "two more, to hops that were not asked before"
    election = driven.node.election(TOKEN)
    assert election is not None
    assert election.channel_count == 6
    new = list(queries)[4:]
    driven.reply(new[0], own=1, of=10)
    driven.reply(new[1], own=1, of=10)
    (end,) = ends(driven)
    assert (end.end, end.split) == (PeerElectionEnd.ELECTED, True)
    assert len(end.cluster) in (3, 4)


def test_a_split_is_not_asked_about_more_often_than_patience_allows_and_never_beyond_the_slots() -> None:
    driven = four_channels()
    driven.wait(999)
    assert len(driven.queries()) == 6
    driven.wait(1)
    assert len(driven.queries()) == 8, "nobody answered for a second"
    driven.wait(5_000)
    assert len(driven.queries()) == 10
    assert [end.end for end in ends(driven)] == [PeerElectionEnd.SPLIT]


def test_P26_three_against_three_and_two_new_hops_that_agree_with_the_first() -> None:
    driven = started(config=PeersConfig(interval_ms=1 << 50, initial_channels=6))
    split(driven)
    driven.wait(2_000)
    assert len(driven.queries()) == 8
    for hop in list(driven.queries())[6:]:
        driven.reply(hop, own=1, of=10)
    (end,) = ends(driven)
    assert end.end is PeerElectionEnd.ELECTED
    assert len(end.cluster) == 5


def test_election_timeout_cleanup() -> None:
    driven = started()
    tickets = [query.ticket for query in driven.queries().values()]
    driven.wait(7_999)
    assert driven.node.election(TOKEN) is not None
    driven.wait(1)
    (end,) = ends(driven)
    assert (end.end, end.winner, end.took_ms) == (PeerElectionEnd.NO_CONSENSUS, 0, 8_000)
    assert driven.node.election(TOKEN) is None
    assert all(driven.node.token_of(ticket) is None for ticket in tickets)
    assert driven.node.state().elections == []
    driven.step(Start(TOKEN))
    assert driven.node.election(TOKEN) is not None, "and the same token may be asked about again"


def test_P16_an_answer_to_a_finished_election_is_ignored_and_counted() -> None:
    driven = started()
    hop, query = next(iter(driven.queries().items()))
    driven.wait(8_000)
    assert [e for e in driven.hear(answer(1, hop, query.ticket)) if isinstance(e, Send)] == []
    assert driven.refusals() == {"finished_election": 1}
    driven.wait(QUIET.finished_ttl_ms + 1)
    driven.hear(answer(1, hop, query.ticket))
    assert driven.refusals() == {"finished_election": 1, "unknown_ticket": 1}


def test_winner_added_to_peer_list() -> None:
    driven = started()
    winner = elected(driven)
    (listed,) = driven.node.peer_list
    assert listed.id == winner
    assert (listed.state, listed.wins, listed.challenge_token) == (PeerState.PENDING, 1, TOKEN)
    assert (listed.elected_ms, listed.last_election_ms) == (driven.now_ms, driven.now_ms)


def test_P17_an_unknown_winner_is_invited_and_a_known_one_is_verified() -> None:
    driven = started(PEERS[:3])
    winner = elected(driven)
    invites = [send for send in driven.sent if isinstance(send.message, PeerInvite)]
    assert [send.to for send in invites] == [winner]
    before = driven.node.roster.get(winner)
    assert before is not None
    at_ms = before.verified_ms
    driven.wait(5_000)
    assert elected(driven) == winner
    (listed,) = driven.node.peer_list
    assert (listed.id, listed.wins, listed.elected_ms) == (winner, 2, at_ms)
    assert listed.verified_ms == listed.last_election_ms == driven.now_ms > at_ms


def test_whoever_took_part_gains_reputation_and_whoever_was_silent_loses_it() -> None:
    driven = started(PEERS[:3])
    first, second, silent = driven.queries()
    stranger = driven.node.roster.get(silent)
    driven.reply(first)
    driven.reply(second)
    driven.wait(2_000)
    standing = {peer.id: peer.reputation for peer in driven.node.roster.peers}
    assert stranger is not None
    assert standing[silent] < 500 < standing[second]
    assert max(standing.values()) <= 1_000


def test_whoever_passed_the_query_on_did_its_part() -> None:
    driven = started(PEERS[:3])
    hop, asked = next(iter(driven.queries().items()))
    driven.hear(answer(1, 77, asked.ticket))
    passed, answered = driven.node.roster.get(hop), driven.node.roster.get(77)
    assert passed is not None
    assert answered is not None
    assert (passed.asked, passed.answered) == (1, 1)
    assert (answered.asked, answered.answered) == (0, 1)


def test_two_elections_of_one_step_have_secrets_of_their_own() -> None:
    driven = started()
    driven.step(Start(OTHER))
    secrets = [each.election.secret for each in driven.node.state().elections]
    assert len(set(secrets)) == 2


def test_an_offence_costs_reputation() -> None:
    driven = started(PEERS[:3])
    hop, query = next(iter(driven.queries().items()))
    driven.hear(resealed(answer(1, hop, query.ticket), signature=answer(1, hop, query.ticket, block=BLOCK + 1).signature))
    assert driven.refusals() == {"signature_verification_failed": 1}
    offender = driven.node.roster.get(hop)
    assert offender is not None
    assert offender.offences == 1
    assert offender.reputation < 250


def test_an_alert_is_raised_once_after_three_splits_and_cleared_when_the_window_is_over() -> None:
    driven = four_channels()
    for n in range(4):
        driven.wait(10_000)
        token = TOKEN if n % 2 else OTHER
        driven.sent.clear()
        driven.step(Start(token))
        for m, hop in enumerate(list(driven.queries(token))):
            driven.reply(hop, own=1 + m % 2, of=10, token=token)
        driven.wait(2_000)
    assert [fact.raised for fact in driven.facts if isinstance(fact, PeerSplitAlert)] == [True]
    driven.wait(QUIET.alert_window_ms)
    assert [fact.raised for fact in driven.facts if isinstance(fact, PeerSplitAlert)] == [True, False]


def test_P21_a_referral_by_a_stranger_or_forged_changes_nothing() -> None:
    driven = started()
    hop, asked = next(iter(driven.queries().items()))
    driven.hear(referral(1, 666, asked.ticket, (200, 300)))
    good = referral(1, hop, asked.ticket, (200, 300))
    forged = PeerReferral(token=TOKEN, ticket=asked.ticket, requester=1, sender=hop, suggestions=[400, 500], seal=good.seal)
    driven.hear(forged)
    assert driven.refusals() == {"not_the_hop_asked": 1, "referral_forged": 1}
    assert driven.node.token_of(asked.ticket) == TOKEN
    driven.hear(good)
    assert driven.queries()[200].hop == 200
    assert driven.node.token_of(asked.ticket) is None
    assert driven.node.token_of(driven.queries()[200].ticket) == TOKEN


def test_P24_what_another_sends_in_a_peers_name_is_refused() -> None:
    driven = started()
    hop, asked = next(iter(driven.queries().items()))
    good = answer(1, hop, asked.ticket)
    driven.step(Heard(666, good))
    assert driven.refusals() == {"not_its_own": 1}
    driven.step(Start(OTHER))
    other = next(iter(driven.queries(OTHER).values()))
    driven.hear(PeerAnswer(requester=1, responder=hop, ticket=other.ticket, answer=good.answer, signature=good.signature, seal=good.seal))
    assert driven.refusals() == {"not_its_own": 1, "wrong_token": 1}
    driven.hear(good)
    driven.wait(8_000)
    driven.step(Start(TOKEN))
    driven.hear(good)
    assert driven.refusals()["finished_election"] == 1, "an answer of the last election about the same token"


@pytest.mark.parametrize("after", range(7))
def test_P23_a_restart_in_mid_election_changes_nothing(after: int) -> None:
    def course(driven: Driven, restart: bool) -> list[PeerEvent]:
        steps = [
            lambda: driven.reply(next(iter(driven.queries())), own=1, of=10),
            lambda: driven.reply(list(driven.queries())[1], own=2, of=10),
            lambda: driven.hear(referral(1, list(driven.queries())[2], list(driven.queries().values())[2].ticket, (PEERS[9], 5))),
            lambda: driven.wait(2_000),
            lambda: driven.reply(list(driven.queries())[-1], own=1, of=10),
            lambda: driven.wait(1_500),
            lambda: driven.wait(6_000),
        ]
        for n, step in enumerate(steps):
            if restart and n == after:
                due = driven.node.due_ms()
                driven.restart()
                assert driven.node.due_ms() == due
            step()
        return driven.facts

    plain, restarted = started(), started()
    assert course(plain, False) == course(restarted, True)
    assert plain.sent == restarted.sent
    assert plain.node.state() == restarted.node.state()
    assert len(ends(plain)) == 1


def test_P22_the_ticket_index_is_what_a_scan_finds() -> None:
    random = Random(22)
    tokens = [TOKEN + 4_096 * n for n in range(8)]
    held = MemoryTokens([TokenMapping(token, BLOCK) for token in tokens])
    driven = Driven(1, [random.getrandbits(64) for _ in range(60)], QUIET, held)
    tickets: list[int] = [1]
    for _ in range(10_000):
        token, ticket = random.choice(tokens), random.choice(tickets[-40:])
        match random.randrange(6):
            case 0:
                driven.step(Start(token))
            case 1 | 2:
                peer = random.choice(driven.node.roster.ids)
                driven.hear(answer(1, peer, ticket, driven.node.token_of(ticket) or token, own=random.randrange(3), of=10))
            case 3:
                driven.hear(
                    referral(
                        1, _hop(driven, ticket), ticket, (random.choice(driven.node.roster.ids), 0), driven.node.token_of(ticket) or token
                    )
                )
            case 4:
                driven.wait(random.randrange(1_500))
            case _:
                pass
        tickets += [send.message.ticket for send in driven.sent if isinstance(send.message, PeerQuery)]
        driven.sent.clear()
        running = [(of, election) for of in tokens if (election := driven.node.election(of)) is not None]
        scanned = {each: of for of, election in running for each in election.tickets}
        assert all(driven.node.token_of(each) == of for each, of in scanned.items())
        assert driven.node.token_of(ticket) == scanned.get(ticket)
    assert driven.node.measures.ended > 100


def _hop(driven: Driven, ticket: int) -> int:
    election = driven.node.election(driven.node.token_of(ticket) or 0)
    channel = election.channel(ticket) if election is not None else None
    return channel.hop if channel is not None else 5


def test_metrics_are_a_recount_of_what_was_told() -> None:
    driven = four_channels()
    driven.wait(8_000)
    for _ in range(5):
        elected(driven)
        driven.hear(answer(1, 5, 4711))
    assert Measures.recounted(driven.facts) == driven.node.measures
    measures = driven.node.measures
    assert (measures.started, measures.elected, measures.split) == (6, 5, 1)
    assert measures.success_percent == 83
    assert measures.channels_opened == sum(isinstance(send.message, PeerQuery) for send in driven.sent)
    assert measures.channels_referred == 0
    assert measures.answers_taken == len(driven.told(PeerAnswerTaken))
    assert measures.refusals["unknown_ticket"] == 5
    assert measures.split_percent == 16
    assert measures.time_ms(50) == 2_000
    assert [percentile([4, 1, 3, 2], percent) for percent in (50, 95, 99, 100)] == [2, 4, 4, 4]
    assert percentile([], 99) == 0


def test_no_election_begins_in_governance_mode_and_those_under_way_end() -> None:
    driven = started()
    driven.step(Governance(True))
    driven.step(Start(OTHER))
    assert driven.node.election(OTHER) is None
    assert driven.refusals() == {"governance_mode": 1}
    for hop in list(driven.queries()):
        driven.reply(hop)
    driven.wait(2_000)
    assert [end.end for end in ends(driven)] == [PeerElectionEnd.ELECTED]
    driven.step(Governance(False))
    driven.step(Start(OTHER))
    assert driven.node.election(OTHER) is not None


def test_a_blacklisted_block_ends_its_elections_and_takes_back_whom_they_elected() -> None:
    driven = started()
    winner = elected(driven)
    driven.step(Start(OTHER))
    driven.step(Blacklisted((BLOCK,)))
    assert [end.end for end in ends(driven)] == [PeerElectionEnd.ELECTED, PeerElectionEnd.ABANDONED]
    assert driven.node.peer_list == []
    assert driven.told(PeerMoved)[-1] == PeerMoved(
        at_ms=driven.now_ms, peer=winner, step="revoked", before=PeerState.PENDING, after=PeerState.IDENTIFIED
    )
    driven.step(Start(TOKEN))
    assert driven.refusals() == {"void_token": 1}
    driven.step(Blacklisted((BLOCK,), lifted=True))
    driven.step(Start(TOKEN))
    assert driven.node.election(TOKEN) is not None


def test_off_starts_nothing_and_still_answers() -> None:
    driven = Driven(1, PEERS, PeersConfig(mode=PeerMode.OFF))
    driven.step(Start(TOKEN))
    driven.wait(10 * 60_000)
    assert driven.sent == []
    assert driven.refusals() == {"off": 1}
    driven.hear(query(5, 1, 99, TOKEN + 1))
    assert [type(send.message) for send in driven.sent] == [PeerReferral]


def test_observe_elects_and_lists_nobody() -> None:
    driven = started(config=PeersConfig(interval_ms=1 << 50, mode=PeerMode.OBSERVE))
    assert elected(driven) in PEERS
    assert driven.node.peer_list == []
    assert not any(isinstance(send.message, PeerInvite) for send in driven.sent)


def test_the_threshold_is_loosened_below_a_fifth_and_tightened_above_four_fifths_and_does_not_swing() -> None:
    config = PeersConfig(interval_ms=1 << 50, adaptive_threshold=True, adaptive_window=5)
    driven = Driven(1, PEERS, config)
    for _ in range(15):
        driven.step(Start(TOKEN))
        driven.wait(8_000)
    assert driven.node.threshold == 7, "nobody answers: one step, and no further"
    for _ in range(15):
        elected(driven)
    assert driven.node.threshold == 9
    changes = [(fact.before, fact.after, fact.why) for fact in driven.facts if isinstance(fact, PeerAdapted)]
    assert changes == [(8, 7, "0 of 5 elected"), (7, 8, "5 of 5 elected"), (8, 9, "5 of 5 elected")]


def test_the_interval_grows_while_the_list_is_stable_and_shrinks_under_churn() -> None:
    config = PeersConfig(adaptive_interval=True, adaptive_window=2)
    driven = Driven(1, PEERS, config, MemoryTokens())
    for _ in range(40):
        driven.step(Start(TOKEN))
        driven.wait(8_000)
    assert driven.node.state().adaptation.interval_ms == 300_000
    for _ in range(60):
        elected(driven)
        driven.step(Blacklisted((0,)))
        driven.step(Blacklisted((0,), lifted=True))
    assert driven.node.state().adaptation.interval_ms == 30_000


def test_with_nobody_to_ask_an_election_ends_at_once() -> None:
    driven = started([])
    assert [end.end for end in ends(driven)] == [PeerElectionEnd.ABANDONED]


def test_a_verifying_node_may_be_told_a_rule_of_its_own() -> None:
    driven = started(config=PeersConfig(interval_ms=1 << 50, election=ElectionConfig(consensus_threshold=7)))
    for n, hop in enumerate(list(driven.queries())):
        driven.reply(hop, own=n, of=3)
    driven.wait(2_000)
    assert [end.end for end in ends(driven)] == [PeerElectionEnd.ELECTED]
