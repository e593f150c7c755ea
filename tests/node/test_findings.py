"""What is called wrong with a running node: every finding of the catalogue, with what to do, the worst first."""

import re
from pathlib import Path

import msgspec
import pytest

from overseer.node.findings import ChildFacts, Facts, Finding, Severity, found
from overseer.supervise.lag import Lag, LagState

MB = 1_000_000
READY = ChildFacts(name="votes_db", state="ready")
STUCK = Lag(state=LagState.STUCK, pending=7, oldest_ms=30_000, still_ms=12_000)
SLOW = Lag(state=LagState.SLOW, pending=7, oldest_ms=6_000, per_s=3.5)


def child(**fields: object) -> ChildFacts:
    return msgspec.structs.replace(READY, **fields)


def facts(*children: ChildFacts, **fields: object) -> Facts:
    return msgspec.structs.replace(Facts(pid=17, children=children or (READY,)), **fields)


# By the finding's code: what there must be for it, how bad it is, and what its remedy says.
CASES: dict[str, tuple[Facts, Severity, str]] = {
    "overseer_silent": (facts(page=False), Severity.CRITICAL, "kill -CONT 17"),
    "nats_away": (facts(bus="nobody is there"), Severity.CRITICAL, "Nothing acknowledged is lost"),
    "nats_cannot_write": (facts(server="write error: no space left"), Severity.CRITICAL, "Free space"),
    "not_ready": (facts(child(state="waiting", last_failure="exit code 3")), Severity.WRONG, "overseer repair votes_db"),
    "given_up": (facts(child(state="gave_up", last_failure="exit code 3")), Severity.WRONG, "start the node again"),
    "site_down": (
        facts(child(name="elections_dc1", state="waiting"), sites=("elections_dc1",)),
        Severity.WARNING,
        "The other sites answer",
    ),
    "in_trouble": (facts(child(note="the outbox cannot drain")), Severity.WRONG, "goes on by itself"),
    "feed_waits": (facts(feed="waits for parts: 2 of 3"), Severity.WRONG, "nodes that are missing"),
    "much_waits": (facts(child(pending=10_001)), Severity.WARNING, "catches up"),
    "slow": (facts(child(lag=SLOW)), Severity.WARNING, "It catches up by itself"),
    "stuck": (facts(child(lag=STUCK)), Severity.WRONG, "restarted by itself"),
    "stream_full": (facts(child(position=9), stream_bytes=91, stream_bytes_max=100), Severity.WRONG, "nats.stream_bytes_max"),
    "disk_low": (facts(disk_free=1000 * MB, disk="data"), Severity.WARNING, "Free space"),
    "governance_mode": (facts(figures={"governance_mode": 1}), Severity.WRONG, "overseer governance resume"),
    "no_blocks": (facts(figures={"best_block_age_seconds": 61.0}, feed_ms=6_000), Severity.WRONG, "log for `feed`"),
    "attempts_fail": (facts(figures={"group_attempts_failed": 2}, networked=True), Severity.WARNING, "overseer query attempts"),
    "group_overdue": (
        facts(figures={"best_block": 91, "epoch_start_block": 30, "election_due_block": 60, "epoch": 2}, networked=True),
        Severity.WRONG,
        "a third of the members",
    ),
    "keys": (facts(keys=[("keys/votes_db.nk: others can read it", "run: chmod 600 keys/votes_db.nk")]), Severity.WRONG, "chmod 600"),
    "no_answer": (facts(silent={"votes_db": "no answer within 3 s"}), Severity.WARNING, "Ask again"),
    "dead_letters": (facts(child(dead_letters=2, dead_letter_age_s=599.0)), Severity.WARNING, "overseer journal votes_db --event rejected"),
    "peers_split": (facts(figures={"peer_elections_alert": 1}), Severity.WARNING, "overseer peers history"),
    "clock_skew": (facts(skew_s=-5.1), Severity.WARNING, "NTP"),
}

# Nearly the same, and nothing wrong.
WELL: dict[str, Facts] = {
    "a node at rest": facts(child(dead_letters=3, dead_letter_age_s=601.0, pending=10_000), disk_free=3000 * MB, skew_s=4.9),
    "blocks as they come": facts(figures={"best_block_age_seconds": 59.0}, feed_ms=6_000),
    "no feed, no blocks": facts(figures={"best_block_age_seconds": 1e6}),
    "a group that is due": facts(figures={"best_block": 89, "epoch_start_block": 30, "election_due_block": 60}, networked=True),
    "alone, no group is elected": facts(figures={"best_block": 900, "epoch_start_block": 0, "election_due_block": 30}),
    "governance mode is over": facts(figures={"governance_mode": 0, "peer_elections_alert": 0, "group_attempts_failed": 1}),
    "a stream with room": facts(stream_bytes=89, stream_bytes_max=100),
}


@pytest.mark.parametrize("code", CASES)
def test_what_is_wrong_is_found_alone_and_says_what_to_do(code: str) -> None:
    given, severity, remedy = CASES[code]
    (finding,) = found(given)
    assert (finding.code, finding.severity) == (code, severity)
    assert remedy in finding.remedy
    assert finding.what
    assert "{" not in finding.text()


@pytest.mark.parametrize("name", WELL)
def test_what_is_well_is_not_called_wrong(name: str) -> None:
    assert found(WELL[name]) == []


def test_every_finding_of_the_catalogue_has_a_case_here() -> None:
    source = (Path(__file__).parents[2] / "overseer/node/findings.py").read_text()
    named = set(re.findall(r'"([a-z_]+)"', "".join(re.findall(r"code=(.*)", source)))) | {"slow", "stuck"}
    assert named == set(CASES)


def test_every_finding_is_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs/operating.md").read_text()
    assert not [code for code in CASES if f"`{code}`" not in text]


def test_the_worst_is_first_and_what_follows_from_another_is_not_told_twice() -> None:
    everything = facts(
        child(name="a", state="ready", dead_letters=1, dead_letter_age_s=1.0),
        child(name="b", state="ready", lag=STUCK),
        bus="away",
        figures={"governance_mode": 1, "best_block_age_seconds": 1e6},
        feed_ms=1_000,
        silent={"b": "no answer"},
    )
    assert [finding.code for finding in found(everything)] == ["nats_away", "stuck", "governance_mode", "dead_letters"]
    # Without the overseer's word nobody knows how its children are.
    assert [finding.code for finding in found(facts(child(state="unknown"), page=False))] == ["overseer_silent"]


def test_a_site_that_is_away_is_no_more_than_a_warning() -> None:
    (finding,) = found(facts(child(name="elections_dc1", note="recorded as away"), sites=("elections_dc1",)))
    assert (finding.severity, finding.code) == (Severity.WARNING, "in_trouble")
    assert "The other sites" in finding.remedy


def test_a_finding_is_data_for_machines() -> None:
    (finding,) = found(facts(bus="away"))
    assert msgspec.convert(msgspec.to_builtins(finding), Finding) == finding
