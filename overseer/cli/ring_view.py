"""A ring of peers for the terminal: who is on it, where, and how well each part of it is covered. Pure: data in, a renderable out."""

import math
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from messages.peers import RING

__all__ = ["ring_view"]

# A terminal's cell is about twice as high as wide.
_ROWS, _COLUMNS = 17, 45
_INNER, _OUTER = 0.72, 0.97
# How a state is drawn, and which is drawn over which where two peers share a cell.
_MARKS: dict[str, tuple[str, str]] = {"identified": ("·", "dim"), "pending": ("○", "yellow"), "connected": ("●", "green")}
_SELF = ("◆", "bold cyan")
_UNCOVERED, _THIN, _COVERED = ("╌", "red"), ("─", "yellow"), ("━", "green")
_IDS_MAX = 12


def ring_view(self_id: int, peers: Sequence[tuple[int, str]], coverage: Sequence[int]) -> RenderableType:
    """The ring, id 0 on top and clockwise up from there.

    `peers`: (id, state) with the state `identified`, `pending` or `connected`; what is none of them is drawn as identified. `coverage`:
    listed peers in each of equal segments, the first one beginning at 0. The inner ring shows how well each is covered.
    """
    cells = _segments(coverage) | _peers(self_id, peers)
    lines: list[Text] = []
    for row in range(_ROWS):
        line = Text()
        for column in range(_COLUMNS):
            mark, style = cells.get((row, column), (" ", ""))
            line.append(mark, style)
        lines.append(line)
    _write_middle(lines, peers, coverage)
    return Group(*lines, Text(), _legend(), _nearest(self_id, peers))


def _cell(place: int, radius: float) -> tuple[int, int]:
    angle = 2 * math.pi * (place % RING) / RING
    row = round((_ROWS - 1) / 2 * (1 - radius * math.cos(angle)))
    return row, round((_COLUMNS - 1) / 2 * (1 + radius * math.sin(angle)))


def _segments(coverage: Sequence[int]) -> dict[tuple[int, int], tuple[str, str]]:
    cells: dict[tuple[int, int], tuple[str, str]] = {}
    # Finer than the cells are.
    steps = 8 * _COLUMNS
    for step in range(steps if coverage else 0):
        count = coverage[step * len(coverage) // steps]
        drawn = _UNCOVERED if count == 0 else _THIN if count * len(coverage) < sum(coverage) else _COVERED
        cells.setdefault(_cell(step * RING // steps, _INNER), drawn)
    return cells


def _peers(self_id: int, peers: Sequence[tuple[int, str]]) -> dict[tuple[int, int], tuple[str, str]]:
    order = list(_MARKS)
    cells: dict[tuple[int, int], tuple[str, str]] = {}
    for peer, state in sorted(peers, key=lambda each: order.index(each[1]) if each[1] in order else 0):
        cells[_cell(peer, _OUTER)] = _MARKS.get(state, _MARKS["identified"])
    cells[_cell(self_id, _OUTER)] = _SELF
    return cells


def _write_middle(lines: list[Text], peers: Sequence[tuple[int, str]], coverage: Sequence[int]) -> None:
    """Numbers in the middle of the ring."""
    covered = sum(count > 0 for count in coverage)
    told = [
        *(f"{sum(each == state for _, each in peers)} {state}" for state in reversed(_MARKS)),
        f"{covered} of {len(coverage)} segments",
    ]
    for n, text in enumerate(told):
        line = lines[(_ROWS - len(told)) // 2 + n]
        start = (_COLUMNS - len(text)) // 2
        lines[(_ROWS - len(told)) // 2 + n] = line[:start] + Text(text) + line[start + len(text) :]


def _legend() -> Text:
    legend = Text()
    shown: list[tuple[str, tuple[str, str]]] = [
        ("this node", _SELF),
        *reversed(_MARKS.items()),
        ("covered", _COVERED),
        ("thin", _THIN),
        ("nobody", _UNCOVERED),
    ]
    for name, (mark, style) in shown:
        legend.append(f"{mark} ", style)
        legend.append(f"{name}   ")
    return legend


def _nearest(self_id: int, peers: Sequence[tuple[int, str]]) -> Text:
    """The listed peers in their order around the ring, from this node on, as far as they fit."""
    listed = sorted((peer for peer, state in peers if state in ("pending", "connected")), key=lambda peer: (peer - self_id) % RING)
    shown = Text(f"{self_id:016x}", _SELF[1])
    for peer in listed[:_IDS_MAX]:
        shown.append(f" → {peer:016x}", "")
    return shown.append(f" and {len(listed) - _IDS_MAX} more" if len(listed) > _IDS_MAX else "", "dim")
