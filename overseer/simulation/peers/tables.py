"""Tables of simulated networks, as Markdown: `python -m overseer.simulation.peers.tables [table ...]`."""

import sys
from collections.abc import Callable, Iterator, Mapping

import msgspec

from overseer.simulation.peers.attackers import Attack
from overseer.simulation.peers.network import NetworkPlan, NetworkReport, simulated
from overseer.simulation.peers.universe import Holding, Universe
from subsystems.elections.peers.config import ElectionConfig, PeersConfig, Strategy
from subsystems.elections.peers.proof import prove

__all__ = ["TABLES", "agreeing", "compared", "markdown"]

_COLUMNS = {
    "success %": "success_percent",
    "messages": "messages_per_election",
    "responders": "responders",
    "p50 ms": "p50_ms",
    "p99 ms": "p99_ms",
    "split %": "split_percent",
    "attackers %": "elected_attackers_percent",
    "connected": "connected",
    "churn %/h": "churn_percent_hour",
}
Rows = Iterator[tuple[str, NetworkPlan]]


def compared(plan: NetworkPlan) -> dict[Strategy, NetworkReport]:
    """The same network under each forwarding strategy."""
    return {
        strategy: simulated(msgspec.structs.replace(plan, config=msgspec.structs.replace(plan.config, strategy=strategy)))
        for strategy in Strategy
    }


def _densities() -> Rows:
    for density in (80, 85, 90, 95, 99):
        yield f"30 peers, density {density} %", NetworkPlan(seed=1, peers=30, density_percent=density)


def _loosened() -> Rows:
    loose = PeersConfig(election=ElectionConfig(consensus_threshold=6, majority_percent=10))
    for density in (80, 95):
        yield f"30 peers, density {density} %, 6 of 10, majority 10 %", NetworkPlan(seed=1, density_percent=density, config=loose)


def _adaptive() -> Rows:
    config = PeersConfig(adaptive_threshold=True)
    for density in (80, 85, 90, 95):
        yield f"30 peers, density {density} %, adaptive", NetworkPlan(seed=1, density_percent=density, config=config, minutes=60)


def _attackers() -> Rows:
    for share in (10, 20, 30, 40, 50):
        for attack in Attack:
            yield f"{share} % {attack}", NetworkPlan(seed=1, peers=48, attackers_percent=share, attack=attack)


def _strategies() -> Rows:
    for reach in (100, 60):
        for strategy in Strategy:
            config = PeersConfig(strategy=strategy)
            plan = NetworkPlan(seed=1, peers=96, contacts=24, reach_percent=reach, minutes=4, config=config)
            yield f"{strategy}, each holds {reach} % of the ring", plan


def _large() -> Rows:
    yield "96 peers, density 95 %, an hour", NetworkPlan(seed=1, peers=96, minutes=60)


def _partitioned() -> Rows:
    for channels in (3, 4, 5):
        config = PeersConfig(initial_channels=channels)
        yield f"30 peers, halves, {channels} channels", NetworkPlan(seed=1, density_percent=99, torn_percent=60, config=config)


TABLES: Mapping[str, Callable[[], Rows]] = {
    "densities": _densities,
    "loosened": _loosened,
    "adaptive": _adaptive,
    "attackers": _attackers,
    "strategies": _strategies,
    "partitioned": _partitioned,
    "large": _large,
}


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


def _pairs() -> Iterator[str]:
    yield "| density | 7 of 10 | 8 of 10 | 9 of 10 |"
    yield "|---|---|---|---|"
    for density in (80, 85, 90, 95, 99):
        yield f"| {density} % | " + " | ".join(f"{each} %" for each in agreeing(density)) + " |"


def markdown(rows: Rows) -> Iterator[str]:
    """The lines of a table, each as soon as its network has run."""
    yield "| | elections | " + " | ".join(_COLUMNS) + " |"
    yield "|---" * (len(_COLUMNS) + 2) + "|"
    for name, plan in rows:
        report = simulated(plan)
        yield f"| {name} | {report.elections} | " + " | ".join(str(getattr(report, field)) for field in _COLUMNS.values()) + " |"


def main() -> None:
    for name in sys.argv[1:] or ["pairs", *TABLES]:
        print(f"\n{name}\n", flush=True)
        for line in _pairs() if name == "pairs" else markdown(TABLES[name]()):
            print(line, flush=True)


if __name__ == "__main__":
    main()
