"""Peer elections, simulated on whole nodes with liars among them: every promise is kept, and the seeds meet whatever there is."""

from collections import Counter
from random import Random

import pytest

from messages.peer_queries import PeerMeasures
from messages.peers import PeerElectionEnd, PeerElectionEnded, PeerElectionStarted, PeerPurpose, PeerRow, TokenMapping
from overseer.memory.rows import MemoryRows
from overseer.simulation.campaign import cases
from overseer.simulation.peer_nodes.bounds import Rows, Tally, Tickets
from overseer.simulation.peer_nodes.cast import play_of
from overseer.simulation.peer_nodes.holdings import LayeredTokens, universe_of
from overseer.simulation.peer_nodes.lies import LIES
from overseer.simulation.peer_nodes.proofs import Held, flaw
from overseer.simulation.peer_nodes.scenario import scenario
from overseer.simulation.plan import Case
from overseer.simulation.registry import find_scenario
from overseer.simulation.run import play
from overseer.simulation.shrink import command
from overseer.tables import Overlay, Tables
from subsystems.elections.peers.config import PeerMode, PeersConfig
from subsystems.elections.peers.proof import flaw_of, sound
from subsystems.elections.peers.tokens import TOKEN_BLOCKS, TOKEN_RING, put_token

_MET = (
    "peer_accept",
    "peer_adapted",
    "peer_answer_taken",
    "peer_channel_opened",
    "peer_election_ended",
    "peer_moved",
    "peer_query_handled",
    "peer_referral",
    "peer_split_seen",
    "peer_traffic_refused",
    "blocks_blacklisted",
    "governance_mode",
    "tokens_dropped",
)


# Of many seeds two that meet it all between them.
MEETING = (3, 10)


def case(seed: int) -> Case:
    return next(cases("peers", [seed], nodes=None, hours=None, faults=None))


def test_the_same_seed_is_played_alike_every_time() -> None:
    assert find_scenario("peers") is scenario
    first, again = play(case(13)), play(case(13))
    assert first.violation is None, f"{first.violation}\n{command(first.case)}"
    assert first.trace_hash == again.trace_hash
    assert sum(first.faults.values()) >= 30


def test_networks_of_many_sizes_in_every_mode_honest_and_with_every_lie_are_drawn() -> None:
    drawn = [play_of(case(seed).network) for seed in range(600)]
    assert {len(each.network.nodes) for each in drawn} == {4, 5, 6, 7, 8}
    assert {mode for each in drawn for mode in each.modes.values()} == set(PeerMode)
    assert {lie for each in drawn for lies in each.liars.values() for lie in lies} == set(LIES)
    for each in drawn:
        assert len(each.honest) >= 3
        assert each.rules.handled_ttl_ms > 2 * each.rules.timeout_ms


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_promise_of_peer_elections_is_kept_while_everything_goes_wrong_and_the_seeds_meet_it_all() -> None:
    met = Counter[str]()
    for seed in MEETING:
        outcome = play(case(seed), keep_lines=None)
        assert outcome.violation is None, f"{outcome.violation}\n{command(outcome.case)}"
        met.update({name: sum(name in line for line in outcome.trace) for name in _MET})
    assert set(_MET) == {name for name, times in met.items() if times}


# ------------------------------------------------------------------------------------------------ the judges' own definitions


def layered(seed: int = 1) -> tuple[LayeredTokens, Held]:
    """The same tokens, as a node has them and as its judge has."""
    play, universe, random = play_of(case(seed).network), universe_of(seed), Random(seed)
    shares = play.shares[play.honest[0]]
    tables = Tables(Overlay(MemoryRows([TOKEN_BLOCKS.name, TOKEN_RING.name])))
    held = Held(shares, universe.ring, universe.suffixes)
    moved = [TokenMapping(token, random.getrandbits(64)) for token in universe.drawn(random, 40)]
    for mapping in [*moved, *(TokenMapping(random.getrandbits(64), 1) for _ in range(400))]:
        put_token(tables, mapping)
        held.own[mapping.id] = mapping.block
    return LayeredTokens(shares, tables), held


def test_the_judges_proofs_are_those_of_the_nodes() -> None:
    tokens, held = layered()
    random, proven = Random(2), 0
    for token in [*random.sample(universe_of(1).ring, 150), *random.sample(sorted(held.own), 50)]:
        proof = sound(tokens, 7, token)
        assert (None if proof is None else proof[1]) == held.sound_proof(7, token)
        proven += proof is not None
    assert proven > 150


def test_the_judges_find_the_flaws_that_the_nodes_find() -> None:
    tokens, held = layered()
    random, found = Random(3), Counter[bool]()
    for token in random.sample(universe_of(1).ring, 60):
        proof = sound(tokens, 7, token)
        if proof is None:
            continue
        answer, ten = proof
        place = random.randrange(10)
        others = [
            ten,
            ten[:9],
            [*ten[:place], TokenMapping(ten[place].id ^ 1, 0), *ten[place + 1 :]],
            [*ten[:place], TokenMapping(ten[place].id, ten[place].block ^ 1), *ten[place + 1 :]],
            [*ten[:place], TokenMapping(ten[place].id ^ 1024, ten[place].block), *ten[place + 1 :]],
            [*ten[5:], *ten[:5]],
            [TokenMapping(each.id ^ 1 << 30, 1) for each in ten],
            [ten[0]] * 10,
        ]
        for mappings in others:
            mine = flaw_of(mappings, challenger=7, answer=answer, tokens=tokens, familiar_min=3)
            theirs = flaw(held, 7, answer, mappings, familiar=3)
            assert (mine is None) == (theirs == ""), (mine, theirs)
            found[theirs == ""] += 1
    assert min(found.values()) >= 40


def test_figures_are_counted_anew() -> None:
    tally = Tally()
    for number in range(3):
        tally.count(PeerElectionStarted(at_ms=number, token=number, purpose=PeerPurpose.DISCOVER))
    for took_ms in (10, 30):
        tally.count(
            PeerElectionEnded(
                at_ms=1,
                token=1,
                end=PeerElectionEnd.ELECTED,
                winner=1,
                took_ms=took_ms,
                channels=3,
                responses=3,
                split=False,
                cluster=[1, 2],
            )
        )
    told = {"started": 3, "elected": 2, "success_percent": 100, "p50_ms": 10, "p95_ms": 30, "p99_ms": 30}
    nothing = dict.fromkeys(
        ("split", "no_consensus", "abandoned", "split_percent", "channels_opened", "channels_referred", "answers_taken"), 0
    )
    assert tally.disagrees(PeerMeasures(**told, **nothing, refusals=[])) == ""
    assert tally.disagrees(PeerMeasures(**{**told, "p50_ms": 30}, **nothing, refusals=[])) == "p50_ms is 30, counted 10"


def test_of_equally_old_tickets_it_cannot_be_told_which_is_forgotten() -> None:
    tickets = Tickets(2)
    for ticket, until_ms in ((1, 10), (2, 20), (3, 20), (4, 30)):
        tickets.note(ticket, until_ms)
    assert [tickets.keeps(ticket, 5) for ticket in (1, 2, 3, 4, 5)] == [False, None, None, True, False]
    assert tickets.keeps(4, 30) is False


def test_more_rows_than_there_may_be_are_told() -> None:
    rows = Rows(PeersConfig(elections_max=2))
    assert rows.moved([PeerRow(3, 1, b""), PeerRow(3, 2, b"")]) == ""
    assert rows.moved([PeerRow(3, 1, None), PeerRow(3, 3, b"")]) == ""
    assert rows.moved([PeerRow(3, 4, b"")]) == "3 rows of kind 3"
