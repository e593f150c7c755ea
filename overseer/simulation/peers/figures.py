"""Pictures of simulated networks, as PNG. Needs matplotlib (the extra `plots`), which is loaded with the first picture."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from overseer.simulation.peers.plan import NetworkReport
from overseer.simulation.peers.tables import DENSITIES, Row, agreeing

__all__ = ["FIGURES", "drawn"]

# Matplotlib has no types, and is not loaded here.
Axes = Any
Reports = Sequence[tuple[Row, NetworkReport]]

# One hue for each thing, in all pictures; told apart in grey as well, by their marks.
_OURS, _REFERENCE, _THEORY, _THIRD = "#1f5fa8", "#b8462c", "#6b6b6b", "#3c8d5a"
_INCHES, _DPI = (6.4, 3.6), 110


def drawn(table: str, reports: Reports, folder: Path) -> list[Path]:
    """The pictures of a table, in a folder; none where the table has none. Raises ImportError without matplotlib."""
    paths: list[Path] = []
    for name, draw in FIGURES.get(table, {}).items():
        figure = import_module("matplotlib.figure").Figure(figsize=_INCHES, dpi=_DPI, layout="constrained")
        axes = figure.subplots()
        axes.grid(visible=True, axis="y", color="#dddddd", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes, reports)
        path = folder / f"peers_{name}.png"
        # Without a date in it, the same figures give the same file.
        figure.savefig(path, metadata={"Software": None})
        paths.append(path)
    return paths


def _by_density(axes: Axes, reports: Reports) -> None:
    eight = [agreeing(density)[1] for density in DENSITIES]
    axes.plot(DENSITIES, [report.success_percent for _, report in reports], "o-", color=_OURS, label="elections that elect, 8 of 10")
    axes.plot(DENSITIES, eight, "s--", color=_THEORY, label="pairs that agree on 8 of 10")
    axes.plot([95], [83], "X", color=_REFERENCE, markersize=10, label="reference, loosened to 6 of 10 and 0.1")
    axes.set(xlabel="density: share of the tokens that each peer holds, %", ylabel="%", ylim=(0, 103), title="30 peers, ten minutes")
    axes.set_xticks(DENSITIES)
    axes.legend(loc="lower right", frameon=False)


def _by_strategy(axes: Axes, reports: Reports) -> None:
    half = len(reports) // 2
    for n, (rows, label, color) in enumerate(((reports[:half], "100 % of the ring", _OURS), (reports[half:], "60 %", _THIRD))):
        places = [place + (n - 0.5) * 0.38 for place in range(half)]
        bars = axes.bar(places, [report.messages_per_election for _, report in rows], 0.36, color=color, label=f"each holds {label}")
        axes.bar_label(
            bars,
            [f"{report.success_percent:.0f} %" for _, report in rows],
            fontsize=8,
            padding=3,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
    axes.axhline(8.3, color=_REFERENCE, linestyle="--", linewidth=1, label="most that the target allows (8.3)")
    axes.set_xticks(range(half), [row.plan.config.strategy.replace("_", "\n") for row, _ in reports[:half]])
    axes.set(ylabel="messages of an election", ylim=(0, 20), title="96 peers; above the bars: elections that elect")
    axes.legend(loc="upper right", frameon=False, fontsize=8)


def _by_attackers(axes: Axes, reports: Reports) -> None:
    half = len(reports) // 2
    shares = [row.at for row, _ in reports[:half]]
    axes.plot(shares, shares, ":", color=_THEORY, label="as often as there are attackers")
    axes.plot(shares, [r.elected_attackers_percent for _, r in reports[half:]], "s-", color=_REFERENCE, label="one store among them all")
    axes.plot(shares, [r.elected_attackers_percent for _, r in reports[:half]], "o-", color=_OURS, label="forgers, who hold nothing")
    axes.set(xlabel="attackers, % of the peers", ylabel="elected peers that are attackers, %", xticks=shares, title="48 peers, ten minutes")
    axes.legend(loc="upper left", frameon=False)


def _by_minutes(axes: Axes, reports: Reports) -> None:
    minutes = [row.at for row, _ in reports]
    axes.plot(minutes, [report.covered_percent for _, report in reports], "o-", color=_OURS, label="segments with a listed peer, %")
    axes.plot(minutes, [report.connected for _, report in reports], "s-", color=_THIRD, label="connected peers (of 50 at most)")
    axes.set(xlabel="minutes", ylim=(0, 103), xlim=(0, None), title="96 peers: ring coverage and list")
    axes.legend(loc="lower right", frameon=False)


def _by_latency(axes: Axes, reports: Reports) -> None:
    lossless = [(row.at, report) for row, report in reports if row.at]
    hops = [hop for hop, _ in lossless]
    for field, mark, color in (("p50_ms", "o-", _OURS), ("p95_ms", "^-", _THIRD), ("p99_ms", "s-", _REFERENCE)):
        axes.plot(hops, [getattr(report, field) / 1000 for _, report in lossless], mark, color=color, label=field.removesuffix("_ms"))
    axes.axhline(2, color=_THEORY, linestyle=":", linewidth=1, label="least time to collect")
    axes.axhline(8, color=_THEORY, linestyle="--", linewidth=1, label="timeout")
    axes.set(xlabel="mean delay of a hop, ms", ylabel="seconds", ylim=(0, 8.6), xlim=(0, None), title="30 peers: time to completion")
    axes.legend(loc="center left", frameon=False, fontsize=8)


def _by_churn(axes: Axes, reports: Reports) -> None:
    shares = [row.at for row, _ in reports]
    axes.plot(shares, [report.success_percent for _, report in reports], "o-", color=_OURS, label="elections that elect, %")
    axes.plot(shares, [report.present_percent for _, report in reports], "s-", color=_THIRD, label="listed peers that are there, %")
    axes.set(xlabel="peers that leave within an hour, %", ylim=(0, 103), title="32 peers, the last hour of an hour and a half")
    axes.legend(loc="lower left", frameon=False)


# By table: the name of a picture, and who draws it.
FIGURES: Mapping[str, Mapping[str, Callable[[Axes, Reports], None]]] = {
    "densities": {"density": _by_density},
    "strategies": {"strategies": _by_strategy},
    "attackers": {"attackers": _by_attackers},
    "growth": {"coverage": _by_minutes},
    "latency": {"completion": _by_latency},
    "churn": {"churn": _by_churn},
}
