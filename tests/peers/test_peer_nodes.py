"""Peer elections as a kind of the runtime: several nodes' real subsystems, with real keys, that talk to each other."""

import functools

import msgspec
import pytest
from peered import Peered, a_universe

from messages.chain_api import GovernanceModeLeft, ResumeMode
from messages.codec import encode_value
from messages.elections import GovernanceSeen
from messages.peer_queries import (
    ChallengeBegun,
    ChallengeFault,
    ChallengePeers,
    ChallengeRefused,
    DropTokens,
    HoldTokens,
    PeerHistory,
    PeerHistoryReport,
    TokensTaken,
)
from messages.peers import (
    PeerAnswer,
    PeerElectionEnd,
    PeerElectionEnded,
    PeerElectionStarted,
    PeerEvent,
    PeerMoved,
    PeerQuery,
    PeerRow,
    PeerStateMoved,
    PeerTrafficRefused,
    TokenMapping,
)
from messages.polkadot import DisputeRef, Scheme, Validator
from messages.signals import BlockRef, BlocksBlacklisted, GovernanceMode, GovernanceState, SessionChange
from overseer.testing.given import Given
from subsystems.elections.peers.config import PeerMode, PeersConfig
from subsystems.elections.peers.kind import block_number
from subsystems.elections.peers.local import Remembered
from subsystems.elections.peers.measures import Measures
from subsystems.elections.peers.rows import HISTORY, HISTORY_MAX, apply_rows, loaded, note_ended

MINUTE_MS = 60_000
UNIVERSE = a_universe(20_000)
TOKEN = UNIVERSE[77].id
NAMES = ("n1", "n2", "n3", "n4")


def facts(node: Given, kind: type[PeerEvent] = PeerEvent) -> list[PeerEvent]:
    return [event for event in node.history if isinstance(event, kind)]


def recounted(node: Given) -> Measures:
    return Measures.recounted(event for event in node.history if isinstance(event, PeerEvent))


@functools.cache
def quarter_of_an_hour() -> Peered:
    """A network after a quarter of an hour; to be looked at only."""
    network = Peered(NAMES)
    network.hold(UNIVERSE)
    network.run(15 * MINUTE_MS)
    return network


def test_nodes_that_hold_the_same_elect_each_other_and_become_connected_peers() -> None:
    network = quarter_of_an_hour()
    for name in NAMES:
        report = network.report(name)
        assert {peer.node for peer in report.peers} == {*NAMES} - {name}
        assert {peer.state for peer in report.peers} == {"connected"}
        assert sum(report.coverage) == 3
        assert report.measures.success_percent == 100
        assert not report.alert


def test_P18_every_node_begins_an_election_each_minute() -> None:
    network = quarter_of_an_hour()
    for node in network.nodes.values():
        assert 13 <= len(facts(node, PeerElectionStarted)) <= 16


def test_every_figure_is_a_recount_of_the_journal() -> None:
    network = quarter_of_an_hour()
    for name, node in network.nodes.items():
        counted, told = recounted(node), network.report(name).measures
        assert (counted.started, counted.elected, counted.answers_taken) == (told.started, told.elected, told.answers_taken)
        assert counted.refusals == {each.code: each.count for each in told.refusals}
        assert (counted.time_ms(50), counted.time_ms(99)) == (told.p50_ms, told.p99_ms)


def test_tables_are_what_the_journal_gives() -> None:
    for node in quarter_of_an_hour().nodes.values():
        assert node.replayed().rows.all() == node.rows.all()


def test_an_election_costs_few_messages() -> None:
    network = quarter_of_an_hour()
    started = sum(len(facts(node, PeerElectionStarted)) for node in network.nodes.values())
    said = [message for _, message in network.said if isinstance(message, PeerQuery | PeerAnswer)]
    assert len(said) / started <= 8.3


def test_outcomes_are_told_and_in_the_history() -> None:
    network = quarter_of_an_hour()
    ended = facts(network.nodes["n1"], PeerElectionEnded)
    report = network.nodes["n1"].ask(PeerHistory(limit=5))
    assert isinstance(report, PeerHistoryReport)
    assert report.more
    assert [each.outcome.token for each in report.elections] == [event.token for event in reversed(ended[-5:])]  # type: ignore[attr-defined]
    older = network.nodes["n1"].ask(PeerHistory(limit=500, before=report.elections[-1].number))
    assert isinstance(older, PeerHistoryReport)
    assert len(older.elections) == len(ended) - 5
    assert not older.more


def test_the_history_is_bounded() -> None:
    node = Peered(["n1"]).nodes["n1"]
    ended = PeerElectionEnded(
        at_ms=1, token=1, end=PeerElectionEnd.SPLIT, winner=0, took_ms=1, channels=3, responses=3, split=True, cluster=[]
    )
    tables = node.view.scratch()
    for number in range(1, HISTORY_MAX + 3):
        note_ended(tables, number, ended)
    assert [number for (number,), _ in tables.scan(HISTORY)] == list(range(3, HISTORY_MAX + 3))


# ------------------------------------------------------------------------------------------------ restarts


def test_P23_a_process_that_ends_in_mid_election_goes_on_with_it() -> None:
    network, undisturbed = Peered(NAMES), Peered(NAMES)
    for each in (network, undisturbed):
        each.hold(UNIVERSE)
        each.give("n1", ChallengePeers(token=TOKEN))
        each.run(250)
    before = network.report("n1").running
    assert before[0].responses == 3
    network.restart("n1")
    assert network.report("n1").running == before
    for each in (network, undisturbed):
        each.run(5_000)
    assert facts(network.nodes["n1"], PeerElectionEnded) == facts(undisturbed.nodes["n1"], PeerElectionEnded)
    assert facts(network.nodes["n1"], PeerElectionEnded)


def test_after_every_step_the_rows_are_the_participant() -> None:
    network = Peered(NAMES, PeersConfig(interval_ms=5_000, finished_ttl_ms=9_000, handled_ttl_ms=7_000, pending_ttl_ms=8_000))
    network.hold(UNIVERSE)
    checked = 0
    for _ in range(60):
        network.run(1_700)
        for node in network.nodes.values():
            present = node.subsystem.kinds[0]._present  # type: ignore[attr-defined]
            stored, there = loaded(node.view), present.participant.state()
            assert stored is not None
            for one in (stored, there):
                one.peers.sort(key=lambda peer: peer.id)
                for tickets in (one.finished, one.handled, one.introductions):
                    tickets.sort(key=lambda each: each.ticket)
            assert msgspec.structs.asdict(stored) == msgspec.structs.asdict(there)
            checked += len(stored.handled) + len(stored.finished)
    assert checked > 100


def test_a_query_that_comes_again_when_it_was_just_forgotten_is_remembered_after_a_restart() -> None:
    network = Peered(NAMES, PeersConfig(handled_ttl_ms=20_000, interval_ms=100 * MINUTE_MS))
    network.hold(UNIVERSE)
    network.give("n1", ChallengePeers(token=TOKEN))
    query = next(message for _, message in network.said if isinstance(message, PeerQuery))
    (to,) = [name for name, peer in network.ids.items() if peer == query.to]
    network.run(300)
    for forgotten_ms in (21_000, 15_000):
        # Nobody ticks there meanwhile: it is forgotten when it comes.
        network.now_ms += forgotten_ms
        then = network.give(to, query, by="n1")
        network.restart(to)
    assert [event.code for event in then.events if isinstance(event, PeerTrafficRefused)] == ["query_repeated"]


def test_a_decision_that_was_not_recorded_leaves_nothing_behind() -> None:
    network = Peered(NAMES)
    network.hold(UNIVERSE)
    node = network.nodes["n1"]
    node.entropy = bytes(range(32))
    lost = node.subsystem.decide(node.view, ChallengePeers(token=TOKEN), node._context("op_test"))
    again = node.subsystem.decide(node.view, ChallengePeers(token=TOKEN), node._context("op_test"))
    assert lost == again
    assert network.report("n1").running == []


def test_what_is_left_of_a_flood_is_forgotten_little_by_little() -> None:
    network, handled = Peered(NAMES), 6
    flood = [PeerRow(handled, ticket, encode_value(Remembered(ticket, 5))) for ticket in range(1, 2_001)]
    network.give("n1", HoldTokens(tokens=[]))
    tables = network.nodes["n1"].view.scratch()
    apply_rows(tables, flood)
    network.nodes["n1"].rows.apply(tables._overlay)  # type: ignore[arg-type]
    network.restart("n1")
    network.hold(UNIVERSE, "n2")
    sizes: list[int] = []
    for number in range(6):
        network.give("n2", ChallengePeers(token=UNIVERSE[number].id))
        query = next(m for name, m in reversed(network.said) if isinstance(m, PeerQuery) and m.to == network.ids["n1"])
        then = network.give("n1", query, by="n2")
        sizes += [len(event.rows) for event in then.events if isinstance(event, PeerStateMoved)]
    assert max(sizes) < 600
    stored = loaded(network.nodes["n1"].view)
    assert stored is not None
    assert len(stored.handled) == 6


def test_another_key_is_another_peer() -> None:
    network = Peered(NAMES)
    network.hold(UNIVERSE)
    network.run(3 * MINUTE_MS)
    assert network.report("n1").peers
    network.keys["n1"] = network.keys["n2"]
    network.restart("n1")
    network.give("n1", HoldTokens(tokens=[]))
    assert network.report("n1").peers == []


# ------------------------------------------------------------------------------------------------ commands


def test_whoever_asks_for_an_election_is_told_its_token_and_a_second_start_is_the_same_one() -> None:
    network = Peered(NAMES, PeersConfig(interval_ms=100 * MINUTE_MS))
    network.hold(UNIVERSE)
    assert network.give("n1", ChallengePeers(token=TOKEN)).reply == ChallengeBegun(token=TOKEN, already=False)
    assert network.give("n1", ChallengePeers(token=TOKEN)).reply == ChallengeBegun(token=TOKEN, already=True)
    chosen = network.give("n1", ChallengePeers()).reply
    assert isinstance(chosen, ChallengeBegun)
    assert chosen.token in {mapping.id for mapping in UNIVERSE}
    network.run(9_000)
    assert len(facts(network.nodes["n1"], PeerElectionEnded)) == 2


def test_an_election_that_may_not_begin_is_refused_by_name_and_nothing_is_recorded() -> None:
    network = Peered(NAMES, PeersConfig(elections_max=1))
    assert network.give("n1", ChallengePeers()).rejection == ChallengeRefused(reason=ChallengeFault.NO_TOKEN)
    network.hold(UNIVERSE)
    network.give("n1", ChallengePeers(token=TOKEN))
    recorded = len(network.nodes["n1"].history)
    refused = network.give("n1", ChallengePeers(token=UNIVERSE[5].id)).rejection
    assert refused == ChallengeRefused(reason=ChallengeFault.TOO_MANY_ELECTIONS)
    assert refused.retriable
    assert len(network.nodes["n1"].history) == recorded
    assert network.report("n1").measures.refusals == []
    network.run(9_000)
    assert network.give("n1", ChallengePeers(token=UNIVERSE[5].id)).rejection is None


def test_tokens_are_held_mapped_anew_and_dropped() -> None:
    node, held = Peered(["n1"]), TokenMapping(5, 1)
    assert node.give("n1", HoldTokens(tokens=[held, TokenMapping(6, 1)])).reply == TokensTaken(changed=2)
    assert node.give("n1", HoldTokens(tokens=[held])).reply == TokensTaken(changed=0)
    assert node.give("n1", HoldTokens(tokens=[TokenMapping(5, 2)])).reply == TokensTaken(changed=1)
    assert node.report("n1").tokens
    assert node.give("n1", DropTokens(tokens=[5, 6, 6, 7])).reply == TokensTaken(changed=2)
    assert not node.report("n1").tokens


def test_a_node_that_holds_nothing_sleeps() -> None:
    network = Peered(["n1", "n2"])
    network.give("n1", SessionChange(index=2, validators=[Validator(bytes(32), Scheme.ED25519)]))
    network.give("n2", HoldTokens(tokens=[TokenMapping(5, 1)]))
    network.give("n2", DropTokens(tokens=[5]))
    network.run(10 * MINUTE_MS)
    recorded = [len(node.history) for node in network.nodes.values()]
    network.run(60 * MINUTE_MS)
    assert [len(node.history) for node in network.nodes.values()] == recorded
    network.give("n1", HoldTokens(tokens=[TokenMapping(5, 1)]))
    assert network.nodes["n1"].timers


# ------------------------------------------------------------------------------------------------ modes


def test_a_node_that_is_off_answers_others_and_elects_nobody() -> None:
    network = Peered(NAMES)
    network.restart("n4", PeersConfig(mode=PeerMode.OFF))
    network.hold(UNIVERSE)
    network.run(5 * MINUTE_MS)
    assert [message for name, message in network.said if name == "n4" and isinstance(message, PeerAnswer)]
    assert not facts(network.nodes["n4"], PeerElectionStarted)
    assert network.give("n4", ChallengePeers()).rejection == ChallengeRefused(reason=ChallengeFault.OFF)
    assert network.report("n4").next_ms == 0
    network.restart("n4")
    network.run(5 * MINUTE_MS)
    assert network.report("n4").peers


def test_a_node_that_observes_elects_and_keeps_no_list() -> None:
    network = Peered(NAMES, PeersConfig(mode=PeerMode.OBSERVE))
    network.hold(UNIVERSE)
    network.run(5 * MINUTE_MS)
    report = network.report("n1")
    assert report.measures.elected >= 4
    assert report.peers == []
    assert not facts(network.nodes["n1"], PeerMoved)


def test_a_node_that_observes_does_not_keep_the_others_from_each_other() -> None:
    network = Peered(NAMES, PeersConfig(interval_ms=20_000))
    network.restart("n4", PeersConfig(mode=PeerMode.OBSERVE))
    network.hold(UNIVERSE)
    network.run(20 * MINUTE_MS)
    for name in ("n1", "n2", "n3"):
        connected = {peer.node for peer in network.report(name).peers if peer.state == "connected"}
        assert connected == {"n1", "n2", "n3"} - {name}


# ------------------------------------------------------------------------------------------------ who speaks


def test_P24_what_a_node_says_in_anothers_name_is_refused_and_counted() -> None:
    network = Peered(NAMES)
    network.hold(UNIVERSE)
    network.give("n1", ChallengePeers(token=TOKEN))
    network.run(150)
    # As n3 would send it on, in whose envelope it then comes.
    (answered,) = [message for name, message in network.said if name == "n2" and isinstance(message, PeerAnswer)]
    network.give("n1", answered, by="n3")
    assert [(each.code, each.count) for each in network.report("n1").measures.refusals] == [("not_its_own", 1)]


def test_what_is_for_another_peer_or_from_no_node_of_the_network_leaves_no_trace() -> None:
    network = Peered(NAMES)
    network.hold(UNIVERSE)
    network.give("n1", ChallengePeers(token=TOKEN))
    query = next(message for _, message in network.said if isinstance(message, PeerQuery))
    (to,) = [name for name, peer in network.ids.items() if peer == query.to]
    other = next(name for name in NAMES if name not in ("n1", to))
    recorded = len(network.nodes[other].history)
    network.give(other, query, by="n1")
    network.give(to, query, by="stranger")
    assert len(network.nodes[other].history) == recorded
    assert not [message for _, message in network.said if isinstance(message, PeerAnswer)]


def test_P06_an_answer_with_a_forged_seal_is_refused() -> None:
    network = Peered(NAMES)
    network.hold(UNIVERSE)
    network.give("n1", ChallengePeers(token=TOKEN))
    network.run(150)
    answered = next(message for name, message in network.said if name == "n2" and isinstance(message, PeerAnswer))
    forged = msgspec.structs.replace(answered, seal=answered.seal[:-1] + bytes([answered.seal[-1] ^ 1]))
    then = network.give("n1", forged, by="n2")
    assert [event.code for event in then.events if isinstance(event, PeerTrafficRefused)] == ["signature_verification_failed"]


# ------------------------------------------------------------------------------------------------ the chain


def a_blacklist(*blocks: bytes) -> BlocksBlacklisted:
    cause = DisputeRef(session=1, candidate=bytes(32))
    return BlocksBlacklisted(cascade=bytes(32), roots=[blocks[0]], hashes=list(blocks), cause=cause, page=0, last=True)


def test_nobody_agrees_about_a_block_of_a_blacklisted_chain_until_it_is_pardoned() -> None:
    bad = bytes(range(32))
    network = Peered(NAMES)
    network.hold([*UNIVERSE, TokenMapping(1 << 40, block_number(bad))])
    network.give("n1", ChallengePeers(token=1 << 40))
    network.run(150)
    network.give("n1", a_blacklist(bad))
    (ended,) = facts(network.nodes["n1"], PeerElectionEnded)
    assert isinstance(ended, PeerElectionEnded)
    assert ended.end is PeerElectionEnd.ABANDONED
    assert network.give("n1", ChallengePeers(token=1 << 40)).rejection == ChallengeRefused(reason=ChallengeFault.VOID_TOKEN)
    pardon = GovernanceModeLeft(entry=1, mode=ResumeMode.PARDON, roots=[bad], author=bytes(32), finalized=BlockRef(bytes(32), 1))
    network.give("n1", pardon)
    assert network.give("n1", ChallengePeers(token=1 << 40)).rejection is None


def test_who_was_elected_by_a_token_of_a_blacklisted_block_leaves_the_list() -> None:
    bad = bytes(range(32))
    network = Peered(NAMES)
    network.hold([*UNIVERSE, TokenMapping(1 << 40, block_number(bad))])
    network.give("n1", ChallengePeers(token=1 << 40))
    network.run(5_000)
    listed = [peer.id for peer in network.report("n1").peers if peer.challenge_token == 1 << 40]
    assert listed
    then = network.give("n1", a_blacklist(bad))
    assert [event.peer for event in then.events if isinstance(event, PeerMoved) and event.step == "revoked"] == listed


def test_no_election_begins_while_governance_mode_lasts() -> None:
    network = Peered(NAMES)
    network.hold(UNIVERSE)
    then = network.give("n1", GovernanceMode(state=GovernanceState.ENTERED, entry=1, frozen_at=5))
    assert GovernanceSeen(entered=True) in then.events
    network.run(3 * MINUTE_MS)
    assert not facts(network.nodes["n1"], PeerElectionStarted)
    assert network.give("n1", ChallengePeers()).rejection == ChallengeRefused(reason=ChallengeFault.GOVERNANCE_MODE)
    network.give("n1", GovernanceMode(state=GovernanceState.LEFT, entry=1, frozen_at=5))
    network.run(2 * MINUTE_MS)
    assert facts(network.nodes["n1"], PeerElectionStarted)


def test_a_session_change_brings_the_next_election_forward() -> None:
    network = Peered(NAMES, PeersConfig(interval_ms=10 * MINUTE_MS))
    network.hold(UNIVERSE)
    network.run(11 * MINUTE_MS)
    before = network.report("n1").next_ms
    network.give("n1", SessionChange(index=2, validators=[Validator(bytes(32), Scheme.ED25519)]))
    assert network.now_ms < network.report("n1").next_ms <= min(before, network.now_ms + 30_000)


def test_P25_a_node_that_is_cut_off_gives_up_in_time_and_elects_again_afterwards() -> None:
    network = Peered(NAMES)
    network.hold(UNIVERSE)
    network.cut.add("n1")
    network.give("n1", ChallengePeers(token=TOKEN))
    network.run(8_000)
    (ended,) = facts(network.nodes["n1"], PeerElectionEnded)[:1]
    assert isinstance(ended, PeerElectionEnded)
    assert ended.end is PeerElectionEnd.NO_CONSENSUS
    assert ended.took_ms == 8_000
    network.cut.clear()
    network.give("n1", ChallengePeers(token=UNIVERSE[9].id))
    network.run(8_000)
    assert network.report("n1").measures.elected >= 1


@pytest.mark.parametrize("mode", ["off", "observe", "alongside", "primary"])
def test_every_stage_of_the_introduction_is_told(mode: str) -> None:
    assert Peered(["n1"], PeersConfig(mode=PeerMode(mode))).report("n1").mode == mode
