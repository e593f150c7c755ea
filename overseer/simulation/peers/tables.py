"""Tables of simulated networks (docs/peers.md); `overseer peers tables` makes them."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from overseer.simulation.peers.attackers import Attack
from overseer.simulation.peers.network import simulated
from overseer.simulation.peers.plan import NetworkPlan, NetworkReport
from overseer.simulation.peers.universe import Holding, Universe
from subsystems.elections.peers.config import ElectionConfig, PeersConfig, Strategy
from subsystems.elections.peers.proof import prove

__all__ = ["DENSITIES", "TABLES", "Row", "Table", "agreeing", "agreements", "compared", "markdown", "pairs", "results"]

DENSITIES = (80, 85, 90, 95, 99)
# What columns are called.
_NAMES = {
    "elections": "elections",
    "success_percent": "success %",
    "messages_per_election": "messages",
    "responders": "responders",
    "winners_percent": "winners %",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "split_percent": "split %",
    "elected_attackers_percent": "attackers %",
    "connected": "connected",
    "churn_percent_hour": "churn %/h",
    "present_percent": "present %",
    "listed_attackers_percent": "in lists %",
    "eclipsed_percent": "in victims' lists %",
    "verified_minutes": "verified min ago",
    "covered_percent": "ring covered %",
}


class Row(msgspec.Struct, frozen=True):
    """A network, the minute from which on it is looked at, and its place on the axis of a picture."""

    name: str
    plan: NetworkPlan
    since_minutes: int = 0
    at: int = 0


class Table(msgspec.Struct, frozen=True):
    """`columns`: fields of the report."""

    rows: Callable[[], Iterator[Row]]
    columns: tuple[str, ...]


def compared(plan: NetworkPlan) -> dict[Strategy, NetworkReport]:
    """The same network under each forwarding strategy."""
    return {
        strategy: simulated(msgspec.structs.replace(plan, config=msgspec.structs.replace(plan.config, strategy=strategy)))
        for strategy in Strategy
    }


# ------------------------------------------------------------------------------------------------ rows


def _densities() -> Iterator[Row]:
    for density in DENSITIES:
        yield Row(f"30 peers, density {density} %", NetworkPlan(seed=1, peers=30, density_percent=density), at=density)


def _loosened() -> Iterator[Row]:
    loose = PeersConfig(election=ElectionConfig(consensus_threshold=6, majority_percent=10))
    for density in (80, 95):
        yield Row(f"30 peers, density {density} %", NetworkPlan(seed=1, density_percent=density, config=loose))


def _adaptive() -> Iterator[Row]:
    config = PeersConfig(adaptive_threshold=True)
    for density in DENSITIES[:-1]:
        yield Row(f"30 peers, density {density} %", NetworkPlan(seed=1, density_percent=density, config=config, minutes=60))


def _large() -> Iterator[Row]:
    yield Row("96 peers, a list of 50, an hour", NetworkPlan(seed=1, peers=96, minutes=60))
    for hours in (1, 3):
        plan = NetworkPlan(seed=1, peers=96, minutes=60 * hours, config=PeersConfig(list_max=96))
        yield Row(f"96 peers, a list of 96, {hours} h", plan)


def _growth() -> Iterator[Row]:
    for minutes in (5, 10, 20, 30, 60):
        yield Row(f"96 peers after {minutes} min", NetworkPlan(seed=1, peers=96, minutes=minutes), at=minutes)


def _scale() -> Iterator[Row]:
    for density in (80, 90, 95, 99):
        # Ten hops' gaps, 10 240 tokens, must lie well within what a peer holds.
        plan = NetworkPlan(seed=1, peers=500, contacts=50, reach_percent=20, tokens=1 << 20, density_percent=density, minutes=5)
        yield Row(f"500 peers, each holds {density} % of a fifth of the ring", plan)
    for density in (90, 95, 99):
        plan = NetworkPlan(seed=1, peers=2_000, contacts=50, reach_percent=20, tokens=1 << 20, density_percent=density, minutes=3)
        yield Row(f"2 000 peers, each holds {density} % of a fifth of the ring", plan)


def _genesis() -> Iterator[Row]:
    plan = NetworkPlan(seed=1, peers=2_000, contacts=50, minutes=4)
    yield Row("2 000 peers, shared genesis", plan)
    yield Row("2 000 peers, none shared", msgspec.structs.replace(plan, shared_genesis=False))
    filling = msgspec.structs.replace(plan, peers=96, shared_genesis=False, fill_minutes=30)
    for since, minutes in ((0, 10), (10, 20), (20, 30), (30, 40)):
        name = f"96 peers, none shared, stores fill within 30 min: minutes {since} to {minutes}"
        yield Row(name, msgspec.structs.replace(filling, minutes=minutes), since)


def _latency() -> Iterator[Row]:
    for hop_ms in (50, 100, 250, 500, 1_000):
        yield Row(f"hops of {hop_ms} ms", NetworkPlan(seed=1, peers=30, hop_ms=hop_ms), at=hop_ms)
    yield Row("hops of 100 ms, a tenth is lost", NetworkPlan(seed=1, peers=30, loss_percent=10))


def _strategies() -> Iterator[Row]:
    for reach in (100, 60):
        for strategy in Strategy:
            config = PeersConfig(strategy=strategy)
            plan = NetworkPlan(seed=1, peers=96, contacts=24, reach_percent=reach, minutes=4, config=config)
            yield Row(f"{strategy}, each holds {reach} % of the ring", plan, at=reach)


def _attackers() -> Iterator[Row]:
    for attack in (Attack.FORGED, Attack.SHARED):
        for share in (10, 20, 30, 40, 50):
            yield Row(f"{share} % {attack}", NetworkPlan(seed=1, peers=48, attackers_percent=share, attack=attack), at=share)


def _poisoned() -> Iterator[Row]:
    for attack in (Attack.REFERRING, Attack.MISLEADING):
        for share in (10, 30, 50):
            yield Row(f"{share} % {attack}", NetworkPlan(seed=1, peers=48, attackers_percent=share, attack=attack))
        plan = NetworkPlan(seed=1, peers=48, attackers_percent=30, attack=attack, minutes=60)
        yield Row(f"30 % {attack}, the last half of an hour", plan, 30)


def _eclipse() -> Iterator[Row]:
    for attack in Attack:
        plan = NetworkPlan(seed=1, peers=48, attackers_percent=25, victims=4, attack=attack, minutes=40)
        yield Row(f"12 of 48 beside 4 victims, {attack}", plan)
    plan = NetworkPlan(seed=1, peers=48, attackers_percent=50, victims=1, attack=Attack.SHARED, minutes=40)
    yield Row(f"24 of 48 beside one victim, {Attack.SHARED}", plan)


def _churn() -> Iterator[Row]:
    for percent in (0, 10, 25, 50, 100):
        plan = NetworkPlan(seed=1, peers=32, churn_percent_hour=percent, minutes=90)
        yield Row(f"{percent} % leave within an hour", plan, 30, at=percent)


def _partitioned() -> Iterator[Row]:
    for channels in (3, 4, 5):
        config = PeersConfig(initial_channels=channels)
        yield Row(f"30 peers, halves, {channels} channels", NetworkPlan(seed=1, density_percent=99, torn_percent=60, config=config))


def _cut() -> Iterator[Row]:
    for name, since, minutes in (("while cut", 0, 20), ("the ten minutes after", 20, 30), ("the half hour after", 20, 50)):
        yield Row(f"48 peers, cut into halves: {name}", NetworkPlan(seed=1, peers=48, cut_minutes=20, minutes=minutes), since)


_PLAIN = ("elections", "success_percent", "messages_per_election", "responders", "p50_ms", "p99_ms", "connected", "churn_percent_hour")
_STRATEGY = ("success_percent", "responders", "winners_percent", "messages_per_election", "p50_ms", "p99_ms")
_ATTACK = ("success_percent", "elected_attackers_percent", "listed_attackers_percent", "messages_per_election")
_LISTS = ("success_percent", "messages_per_election", "connected", "churn_percent_hour", "present_percent", "verified_minutes")

TABLES: Mapping[str, Table] = {
    "densities": Table(_densities, _PLAIN),
    "loosened": Table(_loosened, _PLAIN),
    "adaptive": Table(_adaptive, ("elections", "success_percent", "messages_per_election", "connected")),
    "large": Table(_large, _PLAIN),
    "growth": Table(_growth, ("success_percent", "connected", "covered_percent", "winners_percent")),
    "scale": Table(_scale, ("elections", "success_percent", "messages_per_election", "responders", "p99_ms", "connected")),
    "genesis": Table(_genesis, ("elections", "success_percent", "messages_per_election", "responders", "connected")),
    "latency": Table(_latency, ("success_percent", "messages_per_election", "p50_ms", "p95_ms", "p99_ms")),
    "strategies": Table(_strategies, _STRATEGY),
    "attackers": Table(_attackers, _ATTACK),
    "poisoned": Table(_poisoned, ("success_percent", "messages_per_election", "p99_ms", "elected_attackers_percent")),
    "eclipse": Table(_eclipse, (*_ATTACK[:3], "eclipsed_percent", "messages_per_election")),
    "churn": Table(_churn, _LISTS),
    "partitioned": Table(_partitioned, ("success_percent", "split_percent", "messages_per_election", "p99_ms")),
    "cut": Table(_cut, _LISTS),
}


# ------------------------------------------------------------------------------------------------ telling


def agreeing(density_percent: int, pairs: int = 2_000) -> list[float]:
    """Of pairs of peers that both hold a share of a universe and both prove a token: how many percent agree on 7, 8 and 9 of ten."""
    universe = Universe(1, 65_536)
    shared: list[int] = []
    for n in range(pairs):
        holdings = [Holding(universe, salt=2 * n + side, density_percent=density_percent) for side in (1, 2)]
        one, other = (prove(holding, 7, universe.ring[n * 31 % len(universe.ring)]) for holding in holdings)
        if one is not None and other is not None:
            shared.append(len({*one[1]} & {*other[1]}))
    return [round(100 * sum(each >= threshold for each in shared) / len(shared), 1) for threshold in (7, 8, 9)]


def agreements() -> dict[int, list[float]]:
    """By density; see agreeing."""
    return {density: agreeing(density) for density in DENSITIES}


def pairs(shares: Mapping[int, Sequence[float]]) -> Iterator[str]:
    """How many pairs agree, by density and threshold, as the lines of a table."""
    yield "| density | 7 of 10 | 8 of 10 | 9 of 10 |"
    yield "|---|---|---|---|"
    for density, each in shares.items():
        yield f"| {density} % | " + " | ".join(f"{share} %" for share in each) + " |"


def results(table: Table) -> Iterator[tuple[Row, NetworkReport]]:
    """What came of each network, as soon as it has run."""
    for row in table.rows():
        yield row, simulated(row.plan, row.since_minutes)


def markdown(columns: Sequence[str], rows: Iterator[tuple[Row, NetworkReport]]) -> Iterator[str]:
    """The lines of a table."""
    yield "| | " + " | ".join(_NAMES.get(column, column.replace("_", " ")) for column in columns) + " |"
    yield "|---" * (len(columns) + 1) + "|"
    for row, report in rows:
        yield f"| {row.name} | " + " | ".join(str(getattr(report, column)) for column in columns) + " |"
