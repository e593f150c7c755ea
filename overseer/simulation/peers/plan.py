"""What a simulated network of peers is, and what is told of it."""

import msgspec

from overseer.simulation.peers.attackers import Attack
from subsystems.elections.peers.config import PeersConfig

__all__ = ["NetworkPlan", "NetworkReport"]


class NetworkPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One run. Peers count attackers; `contacts`: how many others each knows at the beginning (0: all)."""

    seed: int
    peers: int = 30
    density_percent: int = 95
    reach_percent: int = 100
    attackers_percent: int = 0
    attack: Attack = Attack.FORGED
    # So many honest peers are victims of an eclipse: attackers share them out, stand nearest to them on the ring, and are known to them.
    victims: int = 0
    contacts: int = 0
    hop_ms: int = 100
    loss_percent: int = 0
    minutes: int = 10
    tokens: int = 65_536
    # A partition: so many percent of the tokens are known to one half of the peers alone, and so long no message crosses.
    torn_percent: int = 0
    cut_minutes: int = 0
    # So many of the peers leave within an hour; every second one comes back after a while, in place of the others come new ones.
    churn_percent_hour: int = 0
    away_minutes: int = 10
    # Without it every token is one peer's alone at first. Within so many minutes peers take over what they will hold from each other
    # (0: they never do).
    shared_genesis: bool = True
    fill_minutes: int = 0
    config: PeersConfig = PeersConfig()


class NetworkReport(msgspec.Struct, frozen=True, kw_only=True):
    """What honest peers' elections came to. Shares in percent with two decimals; messages and responses are means."""

    elections: int
    success_percent: float
    split_percent: float
    elected_attackers_percent: float
    # Queries, forwards, answers and referrals, for each election; and those of introductions, for each peer and hour.
    messages_per_election: float
    introductions_per_peer_hour: float
    # Distinct responders that counted, for each election.
    responders: float
    # Different winners, of the peers that there are.
    winners_percent: float
    p50_ms: int
    p95_ms: int
    p99_ms: int
    # Mean of the peers' lists at the end, and the moves into or out of them in the last half, of the list's length, for each hour.
    connected: float
    listed: float
    churn_percent_hour: float
    # Of the places in these lists: those of peers that are there, those of attackers, and in the lists of victims those of attackers.
    present_percent: float
    listed_attackers_percent: float
    eclipsed_percent: float
    # How long ago a listed peer was verified, on average.
    verified_minutes: float
    # Segments of the ring with a listed peer in them.
    covered_percent: float
    refusals: dict[str, int]
