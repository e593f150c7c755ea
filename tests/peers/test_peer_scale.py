"""Networks under attack, in motion and at scale, in virtual time; the tables of docs/peers.md are the same at full length."""

from random import Random

import pytest

from messages.peers import PeerElectionEnded
from overseer.simulation.peers.attackers import Attack
from overseer.simulation.peers.coming import Coming, churned
from overseer.simulation.peers.network import PeerNetwork, simulated
from overseer.simulation.peers.plan import NetworkPlan
from overseer.simulation.peers.tables import TABLES
from subsystems.elections.peers.config import PeersConfig
from subsystems.elections.peers.participant import Start
from subsystems.elections.peers.ring import distance
from subsystems.elections.peers.roster import PeerState

HOUR_MS = 3_600_000


# ------------------------------------------------------------------------------------------------ who comes and goes


def test_churn_takes_as_many_as_it_says_and_every_second_one_returns() -> None:
    changes = churned(Random(1), first=5, peers=105, percent_hour=50, away_ms=60_000, until_ms=2 * HOUR_MS)
    by = {what: [change for change in changes if change.what is what] for what in Coming}
    assert len(by[Coming.LEAVES]) == 100
    assert len(by[Coming.RETURNS]) == len(by[Coming.ARRIVES]) == 50
    assert [change.number for change in by[Coming.ARRIVES]] == list(range(105, 155))
    assert all(change.number >= 5 for change in changes), "the first ones stay"
    here = set(range(5, 105))
    for change in sorted(changes, key=lambda each: each.at_ms):
        assert (change.number in here) == (change.what is Coming.LEAVES)
        (here.discard if change.what is Coming.LEAVES else here.add)(change.number)


def test_peers_that_leave_lose_their_places_and_newcomers_get_some() -> None:
    network = PeerNetwork(NetworkPlan(seed=1, peers=16, density_percent=99, churn_percent_hour=50, minutes=60))
    network.run(60 * 60_000)
    report = network.report(20)
    assert len(network.ids) == 16 + 4
    assert report.success_percent > 75
    assert report.present_percent > 75, "half of the peers left"
    lively = [peer for peer in network.gone if any(fact.at_ms > network.now_ms - 2 * 60_000 for fact in network.facts[peer])]
    assert len(lively) <= 1 < len(network.gone), "who is gone does nothing; one may have left just now"
    newcomers = set(network.ids[16:]) - network.gone
    listed = {peer.id for each in network.honest if each not in network.gone for peer in network.nodes[each].peer_list}
    assert len(newcomers & listed) > len(newcomers) // 2
    assert all(len(network.facts[peer]) > 0 for peer in newcomers), "and hold elections themselves"


def test_a_cut_network_goes_on_in_its_halves_and_recovers_at_once() -> None:
    plan = NetworkPlan(seed=1, peers=24, density_percent=99, cut_minutes=10, minutes=20)
    network = PeerNetwork(plan)
    network.run(10 * 60_000)
    during = network.report()
    network.run(20 * 60_000)
    after = network.report(10)
    assert 60 < during.success_percent < 95, "of three that are asked one or two cannot answer"
    assert after.success_percent > 97
    assert after.churn_percent_hour < 10


# ------------------------------------------------------------------------------------------------ attackers


@pytest.mark.parametrize("attack", [Attack.REFERRING, Attack.MISLEADING])
def test_poisoned_referrals_lead_nowhere_and_are_asked_less_and_less(attack: Attack) -> None:
    network = PeerNetwork(NetworkPlan(seed=1, peers=24, density_percent=99, attackers_percent=30, attack=attack))
    network.run(5 * 60_000)
    first = network.report()
    network.run(30 * 60_000)
    then = network.report(25)
    assert first.elected_attackers_percent == then.elected_attackers_percent == 0
    assert first.success_percent > 60
    assert then.success_percent > 90
    assert then.messages_per_election < min(8.3, first.messages_per_election)
    known = {peer for each in network.honest for peer in network.nodes[each].roster.ids}
    assert known <= set(network.ids), "nobody keeps names of peers that do not exist"


def test_attackers_that_hold_nothing_take_no_place_of_a_victim_they_stand_around() -> None:
    plan = NetworkPlan(seed=1, peers=32, density_percent=99, attackers_percent=50, victims=1, minutes=20)
    network = PeerNetwork(plan)
    (victim,) = network.victims
    nearest = sorted((peer for peer in network.ids if peer != victim), key=lambda peer: distance(peer, victim))
    assert set(nearest[:16]) == network.attackers
    assert network.attackers <= set(network.nodes[victim].roster.ids)
    network.run(20 * 60_000)
    assert network.report().eclipsed_percent == 0
    assert any(peer.state is PeerState.CONNECTED for peer in network.nodes[victim].peer_list)


def test_attackers_with_real_storage_around_a_victim_take_no_more_places_than_their_share() -> None:
    """Their ids are in one segment of the ring, and elections are about tokens everywhere."""
    plan = NetworkPlan(seed=1, peers=32, density_percent=99, attackers_percent=50, victims=2, attack=Attack.SHARED, minutes=40)
    report = simulated(plan)
    assert 0 < report.eclipsed_percent <= 60
    assert report.success_percent > 90


# ------------------------------------------------------------------------------------------------ scale


def test_peers_that_share_no_token_elect_nobody() -> None:
    """A node challenges with what it could prove itself: of its own few tokens none. And nobody else holds one of them."""
    network = PeerNetwork(NetworkPlan(seed=1, peers=100, shared_genesis=False, minutes=2))
    for peer in network.ids:
        token = next(
            token for token in network.universe.ring if network.nodes[peer].election(token) is None and _holds(network, peer, token)
        )
        network.step(peer, Start(token))
    network.run(3 * 60_000)
    report = network.report()
    assert report.elections == 100, "none but those that were asked for"
    assert (report.success_percent, report.responders) == (0, 0)
    ended = [fact for facts in network.facts.values() for fact in facts if isinstance(fact, PeerElectionEnded)]
    assert all(end.took_ms <= 8_000 for end in ended)


def _holds(network: PeerNetwork, peer: int, token: int) -> bool:
    return network.holdings[peer].holds(token)


def test_success_comes_with_the_tokens_that_are_taken_over() -> None:
    network = PeerNetwork(NetworkPlan(seed=1, peers=24, density_percent=99, shared_genesis=False, fill_minutes=10))
    network.run(5 * 60_000)
    before = network.report().success_percent
    network.run(15 * 60_000)
    assert before < 10
    assert network.report(11).success_percent > 95


def test_peers_that_hold_a_fifth_of_the_ring_elect_as_those_that_hold_all() -> None:
    plan = NetworkPlan(seed=1, peers=120, contacts=30, reach_percent=20, tokens=1 << 18, minutes=2)
    report = simulated(plan)
    assert report.success_percent > 80
    assert report.messages_per_election < 10


@pytest.mark.slow
def test_five_hundred_peers_elect() -> None:
    plan = NetworkPlan(seed=1, peers=500, contacts=50, reach_percent=20, tokens=1 << 20, minutes=2)
    report = simulated(plan)
    assert report.elections > 900
    assert report.success_percent > 85
    assert report.p99_ms < 8_000


@pytest.mark.full
def test_two_thousand_peers_with_a_shared_genesis_beat_the_reference() -> None:
    """The reference: 65 %."""
    report = simulated(NetworkPlan(seed=1, peers=2_000, contacts=50, minutes=2))
    assert report.elections > 3_500
    assert report.success_percent > 90


@pytest.mark.full
def test_ninety_six_peers_with_a_list_for_all_of_them_connect_more_than_the_reference() -> None:
    """The reference: 64 connected, with 29.7 messages for each peer and round."""
    report = simulated(NetworkPlan(seed=1, peers=96, minutes=180, config=PeersConfig(list_max=96)))
    assert report.connected > 64
    assert report.messages_per_election < 8.3


def test_every_table_names_each_of_its_networks_once_and_asks_for_what_there_is() -> None:
    for name, table in TABLES.items():
        rows = list(table.rows())
        assert len({row.name for row in rows}) == len(rows) > 1, name
        assert all(row.since_minutes < row.plan.minutes for row in rows)
