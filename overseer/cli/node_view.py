"""A node's report as lines of text that fit a terminal: what is wrong on top, then the stream, the processes, the domain.

Columns that do not fit are left out, the least telling first; likewise lines, from the bottom.
"""

import textwrap
from collections.abc import Callable, Mapping, Sequence

import msgspec
from rich.text import Text

from overseer.node.domains import DOMAINS
from overseer.node.figures import Look
from overseer.node.findings import Finding, Severity
from overseer.node.report import NodeReport, ProcessReport, StreamReport, SubsystemReport, Times
from overseer.supervise.status import ChildState

__all__ = ["History", "finding_lines", "fitted", "node_lines", "sparkline"]

SPARKS, PLAIN_SPARKS = " ▁▂▃▄▅▆▇█", " .:-=+*#@"
SPARK_CELLS = 16
_GAP = 2
_STYLES = {Severity.CRITICAL: "bold white on red", Severity.WRONG: "bold red", Severity.WARNING: "bold yellow"}

# Messages a second of late, by subsystem, the newest last.
History = Mapping[str, Sequence[float]]


class _Column(msgspec.Struct, frozen=True):
    """`rank`: 0 is left out last. `cell` makes its text of a row."""

    title: str
    rank: int
    cell: Callable[[SubsystemReport], str]
    right: bool = True


def _number(value: float | None, unit: str = "") -> str:
    if value is None:
        return ""
    return f"{value:.0f}{unit}" if value >= 10 or value == 0 else f"{value:.1f}{unit}"


def _ms(value: float) -> str:
    return f"{value / 1000:.1f}s" if value >= 1_000 else f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def _times(times: Times | None) -> str:
    """Of the time since the process began, where nothing happened of late: in brackets."""
    if times is None:
        return ""
    text = f"{_ms(times.p50_ms)}/{_ms(times.p99_ms)}"
    return text if times.of_late else f"({text})"


def _columns(history: History, sparks: str) -> list[_Column]:
    rates = [_Column("", 11, lambda row: sparkline(history.get(row.name, ()), sparks).ljust(SPARK_CELLS), right=False)]
    return [
        _Column("subsystem", 0, lambda row: row.name, right=False),
        _Column("state", 0, lambda row: row.state if row.consumer == "level" else f"{row.state}, {row.consumer}", right=False),
        _Column("pid", 13, lambda row: str(row.pid or "")),
        _Column("cpu", 4, lambda row: _number(row.cpu_percent, "%")),
        _Column("MB", 5, lambda row: _number(row.memory_mb)),
        _Column("in/s", 2, lambda row: _number(row.per_s)),
        *(rates if history else []),
        _Column("out/s", 8, lambda row: _number(row.published_per_s)),
        _Column("flight ms", 3, lambda row: _times(row.flight)),
        _Column("commit ms", 7, lambda row: _times(row.commit)),
        _Column("waiting", 1, lambda row: str(row.pending)),
        _Column("oldest", 9, lambda row: f"{row.oldest_ms / 1000:.0f} s" if row.oldest_ms >= 1_000 else ""),
        _Column("dead", 6, lambda row: str(row.dead_letters)),
        _Column("restarts", 10, lambda row: str(row.restarts)),
        _Column("processed to", 12, lambda row: str(row.position)),
        _Column("note", 14, lambda row: row.note, right=False),
    ]


def node_lines(report: NodeReport, folder: str, width: int, history: History | None = None, sparks: str = SPARKS) -> list[Text]:
    """Everything but what is wrong, a line each, none wider than `width`."""
    lines = [_head(report, folder), _stream(report.stream)]
    lines += _table(report.subsystems, report.processes, _columns(history or {}, sparks), width)
    lines += [line for look in report.domain if (line := _domain(look)) is not None]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines


def finding_lines(wrong: Sequence[Finding], width: int, most: int) -> list[Text]:
    """What is wrong with what to do, folded to `width`, in at most so many lines; what is left out is counted."""
    lines: list[Text] = []
    for number, finding in enumerate(wrong):
        head = f"{finding.severity.value}:"
        texts = textwrap.wrap(f"{head} {finding.text()}", width, subsequent_indent="  ")
        own = [Text(text) for text in texts]
        own[0].stylize(_STYLES[finding.severity], 0, len(head))
        last = number == len(wrong) - 1
        if len(lines) + len(own) + (not last) > most and lines:
            # The first is always told, however little room there is.
            lines = [*lines[: most - 1], Text(f"and {len(wrong) - number} more: overseer status", style="bold")]
            break
        lines += own
    return lines[:most]


def fitted(report: NodeReport, folder: str, width: int, height: int, history: History, sparks: str = SPARKS) -> list[Text]:
    """The whole report within `height` lines: what is wrong gets what is left, and never less than three lines."""
    rest = node_lines(report, folder, width, history, sparks)
    wrong = finding_lines(report.wrong, width, max(3, height - len(rest)))
    # The head stays on top: where it is read first is what is wrong, right below.
    return [*wrong, *rest][:height]


def sparkline(values: Sequence[float], sparks: str = SPARKS) -> str:
    """The newest values, scaled to the highest of them."""
    shown = list(values)[-SPARK_CELLS:]
    top = max(shown, default=0.0)
    if top <= 0:
        return ""
    # What is more than nothing is seen.
    return "".join(sparks[0] if value <= 0 else sparks[max(1, round(value / top * (len(sparks) - 1)))] for value in shown)


def _head(report: NodeReport, folder: str) -> Text:
    worst = report.wrong[0].severity if report.wrong else None
    state = Text("well", style="bold green") if worst is None else Text(f"{len(report.wrong)} wrong", style=_STYLES[worst])
    place = f" · up {_span(report.up_s)} · {report.url} · http://127.0.0.1:{report.http_port} · {folder}"
    return Text.assemble("node ", (report.node, "bold"), " ", state, place)


def _stream(stream: StreamReport | None) -> Text:
    if stream is None:
        return Text("stream: NATS does not answer", style="bold red")
    rates = "" if stream.per_s is None else f" · {_number(stream.per_s)} messages/s, {_number(stream.commands_per_s)} commands/s"
    full = f"{stream.bytes / 1e6:.1f} of {stream.bytes_max / 1e6:.0f} MB"
    return Text(f"stream {stream.name}: {stream.first} to {stream.last}, {full}{rates}")


def _domain(look: Look) -> Text | None:
    """The figures of one part of the domain; None when there are none."""
    known = next((domain for domain in DOMAINS if domain.title == look.title), None)
    if look.problem:
        return Text.assemble((f"{look.title:<12}", "dim"), (f"no answer of {look.subsystem}: {look.problem}", "yellow"))
    shown = [
        figure.text(look.figures[figure.name]) for figure in (known.figures if known is not None else ()) if figure.name in look.figures
    ]
    return Text.assemble((f"{look.title:<12}", "dim"), " · ".join(shown)) if shown else None


def _span(seconds: int) -> str:
    minutes, hours, days = seconds // 60, seconds // 3_600, seconds // 86_400
    if hours:
        return f"{days} d {hours % 24} h" if days else f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{seconds} s"


# ------------------------------------------------------------------------------------------------ the table


def _table(rows: Sequence[SubsystemReport], own: Sequence[ProcessReport], columns: Sequence[_Column], width: int) -> list[Text]:
    extra = [_as_row(process) for process in own]
    cells = {column: [column.cell(row) for row in (*rows, *extra)] for column in columns}
    for column in columns:
        # Of the overseer and the server: what is not theirs is left empty.
        if column.title not in ("subsystem", "pid", "cpu", "MB"):
            cells[column][len(rows) :] = [""] * len(extra)
    widths = {column: max(len(column.title), *map(len, texts), 0) for column, texts in cells.items()}
    shown: set[_Column] = set()
    room = width
    for column in sorted(columns, key=lambda column: column.rank):
        # An empty column tells nothing, but where one looks for it.
        if column.rank >= 10 and not any(cells[column]):
            continue
        if widths[column] + _GAP > room + _GAP:
            continue
        shown.add(column)
        room -= widths[column] + _GAP
    kept = [column for column in columns if column in shown]
    lines = [Text(_line(kept, widths, [column.title for column in kept]), style="bold")]
    for number, row in enumerate((*rows, *extra)):
        style = "" if number >= len(rows) else _row_style(row)
        lines.append(Text(_line(kept, widths, [cells[column][number] for column in kept]), style=style))
    return lines


def _line(columns: Sequence[_Column], widths: Mapping[_Column, int], texts: Sequence[str]) -> str:
    padded = [
        text.rjust(widths[column]) if column.right else text.ljust(widths[column]) for column, text in zip(columns, texts, strict=True)
    ]
    return (" " * _GAP).join(padded).rstrip()


def _row_style(row: SubsystemReport) -> str:
    if row.state != ChildState.READY.value or row.consumer == "stuck":
        return "red"
    return "yellow" if row.consumer == "slow" or row.note else ""


def _as_row(process: ProcessReport) -> SubsystemReport:
    return SubsystemReport(
        name=process.name,
        state="",
        restarts=0,
        note="",
        position=0,
        pending=0,
        dead_letters=0,
        pid=process.pid,
        cpu_percent=process.cpu_percent,
        memory_mb=process.memory_mb,
    )
