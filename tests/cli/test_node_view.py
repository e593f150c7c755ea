"""A node's report as lines that fit: what is wrong on top, the least telling left out first."""

import pytest

from overseer.cli.node_view import PLAIN_SPARKS, finding_lines, fitted, node_lines, sparkline
from overseer.node.domains import DOMAINS
from overseer.node.figures import Look
from overseer.node.findings import Finding, Severity
from overseer.node.report import NodeReport, ProcessReport, StreamReport, SubsystemReport, Times

NAMES = ("votes_db", "dispute_conclusion", "chain_api", "elections", "consensus_manager")


def subsystem(name: str) -> SubsystemReport:
    return SubsystemReport(
        name=name,
        state="ready",
        restarts=0,
        note="",
        position=123_456,
        pending=3,
        dead_letters=0,
        pid=4_321,
        cpu_percent=12.5,
        memory_mb=71.4,
        per_s=17.2,
        published_per_s=3.25,
        flight=Times(p50_ms=3.2, p99_ms=1_800.0, of_late=True),
        commit=Times(p50_ms=2.5, p99_ms=24.0, of_late=False),
    )


def finding(number: int, severity: Severity = Severity.WRONG) -> Finding:
    what = f"thing {number} does not what it should, and that in a few words more than fit into the line of a narrow terminal"
    return Finding(severity=severity, code="thing", about="node", what=what, remedy="Do what is to be done about it")


def report(*wrong: Finding) -> NodeReport:
    figures = {figure.name: 7.0 for domain in DOMAINS for figure in domain.figures}
    looks = [Look(title=domain.title, subsystem=domain.subsystem, figures=figures) for domain in DOMAINS[:-1]]
    return NodeReport(
        node="alice",
        run_id="0123",
        pid=17,
        url="nats://127.0.0.1:4222",
        http_port=8080,
        up_s=3_700,
        stream=StreamReport(
            name="OVERSEER_alice", first=1, last=9, messages=9, bytes=10**6, bytes_max=10**9, per_s=20.0, commands_per_s=0.5
        ),
        processes=[ProcessReport(name="overseer", pid=17, cpu_percent=2.0, memory_mb=80.0)],
        subsystems=[subsystem(name) for name in NAMES],
        domain=[*looks, Look(title="peers", subsystem="elections", problem="no answer within 3 s")],
        wrong=list(wrong),
    )


HISTORY = {name: [0.0, 1.0, 5.0, 20.0] for name in NAMES}


@pytest.mark.parametrize(("width", "height"), [(40, 10), (80, 24), (120, 40), (200, 50)])
@pytest.mark.parametrize("troubles", [0, 1, 9])
def test_a_frame_fits_its_terminal_with_what_is_wrong_on_top(width: int, height: int, troubles: int) -> None:
    lines = fitted(report(*(finding(number) for number in range(troubles))), "/var/lib/overseer", width, height, HISTORY)
    assert len(lines) <= height
    assert max(len(line) for line in lines) <= width
    assert lines[0].plain.startswith("wrong: thing 0" if troubles else "node alice well · up 1 h 1 min")
    if height >= 24:
        text = "\n".join(line.plain for line in lines)
        assert all(name in text for name in NAMES)


def test_a_narrow_terminal_keeps_what_tells_most() -> None:
    def header(width: int) -> list[str]:
        return next(line.plain for line in node_lines(report(), "", width, HISTORY) if line.plain.startswith("subsystem")).split()

    assert header(80) == ["subsystem", "state", "cpu", "MB", "in/s", "flight", "ms", "commit", "ms", "waiting", "dead"]
    assert header(43) == ["subsystem", "state", "in/s", "waiting"]
    assert set(header(200)) >= {"pid", "out/s", "oldest", "restarts", "processed", "to"}


def test_what_is_told_is_rates_times_and_the_domain() -> None:
    text = "\n".join(line.plain for line in node_lines(report(), "data", 200, HISTORY))
    assert "20 messages/s, 0.5 commands/s" in text
    assert "3.2/1.8s" in text
    # Nothing was committed of late.
    assert "(2.5/24)" in text
    assert "▁▂█" in text
    assert "best 7 · final 7" in text
    assert "no answer of elections: no answer within 3 s" in text
    assert "overseer" in text


def test_what_is_left_out_of_what_is_wrong_is_counted() -> None:
    many = [finding(number) for number in range(9)]
    lines = [line.plain for line in finding_lines(many, 80, 5)]
    assert len(lines) == 5
    assert lines[0].startswith("wrong: thing 0")
    assert "more: overseer status" in lines[-1]
    assert finding_lines(many[:1], 200, 5)[0].plain.endswith("Do what is to be done about it")


def test_sparks_are_scaled_to_the_highest_and_anything_is_more_than_nothing() -> None:
    assert sparkline([0, 0.001, 50, 100]) == " ▁▄█"
    assert sparkline([0, 0.001, 50, 100], PLAIN_SPARKS) == " .=@"
    assert sparkline([]) == sparkline([0, 0]) == ""
    assert len(sparkline(range(1, 100))) == 16
