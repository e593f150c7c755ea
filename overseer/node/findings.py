"""What can be wrong with a running node: one catalogue, each finding with what to do about it. Pure: facts in, findings out.

A finding more is one more function in CATALOGUE, and a test of it in tests/node/test_findings.py.
"""

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from overseer.supervise.lag import Lag, LagState
from overseer.supervise.status import ChildState

__all__ = ["CATALOGUE", "ChildFacts", "Facts", "Finding", "Severity", "found"]

# More waiting than this is called wrong: at ordinary rates it is seconds of work.
PENDING_WARN = 10_000
FULL_WARN = 0.9
# Free space on the disk of the stores: a checkpoint and a log of each fit into the first, nothing does into the second.
DISK_WARN_BYTES = 2 * 1024**3
DISK_WRONG_BYTES = 256 * 1024**2
# A dead letter is news for so long; older ones are only counted.
FRESH_S = 600
# Blocks that may be missing, at the feed's pace, before the chain is called still; and never less than so long.
BLOCKS_MISSED = 10
STILL_S_MIN = 30.0
SKEW_S_MAX = 5.0
# An attempt may fail by one member that is away; so many do not.
ATTEMPTS_FAILED = 2


class Severity(enum.StrEnum):
    """`critical`: the node does not work. `wrong`: a part of it does not. `warning`: it works, and will not for ever."""

    CRITICAL = "critical"
    WRONG = "wrong"
    WARNING = "warning"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """`code`: its name in the catalogue. `about`: a subsystem, `node`, or what else it concerns. `remedy`: what to do."""

    severity: Severity
    code: str
    about: str
    what: str
    remedy: str

    def text(self) -> str:
        return f"{self.what}. {self.remedy}"


class ChildFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A process as the overseer sees it, and its part of the stream. `dead_letter_age_s`: of the last one."""

    name: str
    state: str
    restarts: int = 0
    note: str = ""
    last_failure: str = ""
    lag: Lag = Lag()
    pending: int = 0
    position: int = 0
    dead_letters: int = 0
    dead_letter_age_s: float | None = None


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that is judged.

    `server`, `feed`: what keeps them from going on, "" when nothing does. `bus`: why NATS could not be asked. `page`: the overseer
    answered. `figures`: of the domain, by name; `silent`: subsystems that did not tell theirs, with why. `feed_ms`: between two
    blocks, None without a feed that goes on for ever. `networked`: there are other nodes. `keys`: what is wrong, and what to do.
    """

    pid: int = 0
    page: bool = True
    bus: str = ""
    server: str = ""
    feed: str = ""
    children: Sequence[ChildFacts] = ()
    sites: Sequence[str] = ()
    stream_bytes: int = 0
    stream_bytes_max: int = 0
    disk_free: int | None = None
    disk: str = ""
    skew_s: float | None = None
    feed_ms: int | None = None
    networked: bool = False
    figures: Mapping[str, float] = {}
    silent: Mapping[str, str] = {}
    keys: Sequence[tuple[str, str]] = ()


def found(facts: Facts) -> list[Finding]:
    """The worst first; of the same severity in the order of the catalogue."""
    every = [finding for rule in CATALOGUE for finding in rule(facts)]
    return sorted(every, key=lambda finding: list(Severity).index(finding.severity))


def _no_page(facts: Facts) -> Iterator[Finding]:
    if not facts.page:
        yield Finding(
            severity=Severity.CRITICAL,
            code="overseer_silent",
            about="overseer",
            what=f"the overseer (pid {facts.pid}) does not answer on its page of health",
            remedy=f"See its log. If it is stopped: kill -CONT {facts.pid}; if it hangs: end it, and start the node again",
        )


def _bus_away(facts: Facts) -> Iterator[Finding]:
    if facts.bus:
        yield Finding(
            severity=Severity.CRITICAL,
            code="nats_away",
            about="nats-server",
            what=f"NATS does not answer: {facts.bus}",
            remedy="The overseer restarts its own server (see its log); bring yours (--nats) back. Nothing acknowledged is lost",
        )


def _cannot_write(facts: Facts) -> Iterator[Finding]:
    if facts.server:
        yield Finding(
            severity=Severity.CRITICAL,
            code="nats_cannot_write",
            about="nats-server",
            what=f"nats-server: {facts.server}",
            remedy="Free space on the disk of the NATS data; it goes on by itself then",
        )


def _disk(facts: Facts) -> Iterator[Finding]:
    free = facts.disk_free
    if free is not None and free < DISK_WARN_BYTES:
        yield Finding(
            severity=Severity.WRONG if free < DISK_WRONG_BYTES else Severity.WARNING,
            code="disk_low",
            about="node",
            what=f"{free / 1e6:.0f} MB are free on the disk of {facts.disk}",
            remedy="Free space, or lower nats.history_messages; old *.aside-* folders can go (overseer doctor lists them)",
        )


_REMEDY_BY_STATE = {
    ChildState.STARTING: "Wait a moment; if it stays so, its note and the overseer's log say what it waits for",
    ChildState.WAITING: "It is restarted by itself; the overseer's log has its last words. A damaged store: overseer repair {name}",
    ChildState.STALLED: "It is killed and restarted by itself; report it if it happens again",
    ChildState.GAVE_UP: "Mend the cause (the overseer's log names the first failure), then start the node again",
    ChildState.STOPPING: "The node is ending; start it again when it has",
    ChildState.ENDED: "The node is ending; start it again when it has",
}


def _not_ready(facts: Facts) -> Iterator[Finding]:
    for child in facts.children:
        if child.state == ChildState.READY or not facts.page:
            continue
        known = child.state in list(ChildState)
        remedy = _REMEDY_BY_STATE[ChildState(child.state)] if known else "See the overseer's log"
        is_site = child.name in facts.sites
        if is_site:
            remedy = f"The other sites answer for it meanwhile. {remedy}"
        cause = child.note or (child.last_failure if child.state in (ChildState.WAITING, ChildState.GAVE_UP) else "")
        yield Finding(
            severity=Severity.WARNING if is_site else Severity.WRONG,
            code="site_down" if is_site else "given_up" if child.state == ChildState.GAVE_UP else "not_ready",
            about=child.name,
            what=f"{child.name} is {child.state}{': ' + cause if cause else ''}",
            remedy=remedy.format(name=child.name),
        )


def _in_trouble(facts: Facts) -> Iterator[Finding]:
    for child in facts.children:
        if child.state == ChildState.READY and child.note:
            is_site = child.name in facts.sites
            yield Finding(
                severity=Severity.WARNING if is_site else Severity.WRONG,
                code="in_trouble",
                about=child.name,
                what=f"{child.name}: {child.note}",
                remedy="The other sites write and answer for it meanwhile; it comes back by itself"
                if is_site
                else "It waits for that and goes on by itself; bring back what it waits for",
            )


def _behind(facts: Facts) -> Iterator[Finding]:
    for child in facts.children:
        match child.lag.state:
            case LagState.LEVEL if child.pending > PENDING_WARN:
                # Too short a time for the overseer to call it slow, or nobody there to ask.
                what, remedy = f"{child.name} has {child.pending} messages waiting", "It catches up by itself unless that only grows"
                yield Finding(severity=Severity.WARNING, code="much_waits", about=child.name, what=what, remedy=remedy)
            case LagState.LEVEL:
                continue
            case state:
                what, _, remedy = f"{child.name} is {child.lag.text()}".partition(". ")
                severity = Severity.WRONG if state is LagState.STUCK else Severity.WARNING
                yield Finding(severity=severity, code=state.value, about=child.name, what=what, remedy=remedy)


def _stream_full(facts: Facts) -> Iterator[Finding]:
    if facts.stream_bytes_max > 0 and facts.stream_bytes > FULL_WARN * facts.stream_bytes_max:
        slowest = min(facts.children, key=lambda child: child.position, default=None)
        behind = f"; {slowest.name} is furthest behind (at {slowest.position})" if slowest is not None else ""
        yield Finding(
            severity=Severity.WRONG,
            code="stream_full",
            about="node",
            what=f"the stream is {100 * facts.stream_bytes // facts.stream_bytes_max} % full{behind}",
            remedy="Commands are refused until what is processed is trimmed; see to the one that is behind, or raise nats.stream_bytes_max",
        )


def _governance(facts: Facts) -> Iterator[Finding]:
    if facts.figures.get("governance_mode"):
        yield Finding(
            severity=Severity.WRONG,
            code="governance_mode",
            about="chain_api",
            what="governance mode is on: there is no finality and no new best chain",
            remedy="See `overseer governance status`; its authority ends it with `overseer governance resume`",
        )


def _feed_waits(facts: Facts) -> Iterator[Finding]:
    if facts.feed:
        yield Finding(
            severity=Severity.WRONG,
            code="feed_waits",
            about="feed",
            what=f"feed: {facts.feed}",
            remedy="This node itself is ready: see to the nodes that are missing, or to the one that it follows (`overseer feed check`)",
        )


def _no_blocks(facts: Facts) -> Iterator[Finding]:
    age_s = facts.figures.get("best_block_age_seconds")
    if facts.feed_ms is None or age_s is None or facts.feed or facts.figures.get("governance_mode"):
        return
    if age_s > max(STILL_S_MIN, BLOCKS_MISSED * facts.feed_ms / 1000):
        yield Finding(
            severity=Severity.WRONG,
            code="no_blocks",
            about="chain_api",
            what=f"there was no new best block for {age_s:.0f} s",
            remedy="See the overseer's log for `feed`; commands that wait before the blocks show as `waiting` of chain_api",
        )


def _groups(facts: Facts) -> Iterator[Finding]:
    figures = facts.figures
    if not facts.networked:
        return
    failed = figures.get("group_attempts_failed", 0)
    if failed >= ATTEMPTS_FAILED:
        yield Finding(
            severity=Severity.WARNING,
            code="attempts_fail",
            about="consensus_manager",
            what=f"{failed:.0f} attempts at electing the next consensus group failed",
            remedy="See `overseer query attempts`: who dealt and confirmed; bring back the nodes that are missing",
        )
    due, start, best = (figures.get(name) for name in ("election_due_block", "epoch_start_block", "best_block"))
    if due is not None and start is not None and best is not None and due > start and best - due > due - start:
        yield Finding(
            severity=Severity.WRONG,
            code="group_overdue",
            about="consensus_manager",
            what=f"the next consensus group is overdue by {best - due:.0f} blocks; epoch {figures.get('epoch', 0):.0f} goes on",
            remedy="See `overseer query attempts`; with more than a third of the members away no group can be elected",
        )


def _peers(facts: Facts) -> Iterator[Finding]:
    if facts.figures.get("peer_elections_alert"):
        yield Finding(
            severity=Severity.WARNING,
            code="peers_split",
            about="elections",
            what="too many elections of peers were split of late",
            remedy="See `overseer peers history`: nodes disagree about what is stored where",
        )


def _silent(facts: Facts) -> Iterator[Finding]:
    ready = {child.name for child in facts.children if child.state == ChildState.READY and child.lag.state is LagState.LEVEL}
    for name, why in facts.silent.items():
        # One that is not ready, slow or stuck is named for that.
        if name in ready and not facts.bus:
            yield Finding(
                severity=Severity.WARNING,
                code="no_answer",
                about=name,
                what=f"{name} does not answer: {why}",
                remedy="Ask again; if it stays so, see the overseer's log",
            )


def _dead_letters(facts: Facts) -> Iterator[Finding]:
    for child in facts.children:
        if child.dead_letter_age_s is not None and child.dead_letter_age_s < FRESH_S:
            count = "a dead letter" if child.dead_letters == 1 else f"{child.dead_letters} dead letters"
            yield Finding(
                severity=Severity.WARNING,
                code="dead_letters",
                about=child.name,
                what=f"{child.name} has {count}, the last one {child.dead_letter_age_s:.0f} s ago",
                remedy=f"See why, and who sent it: overseer journal {child.name} --event rejected",
            )


def _skew(facts: Facts) -> Iterator[Finding]:
    if facts.skew_s is not None and abs(facts.skew_s) > SKEW_S_MAX:
        yield Finding(
            severity=Severity.WARNING,
            code="clock_skew",
            about="node",
            what=f"the clock of the NATS server is {facts.skew_s:+.0f} s from the clock here",
            remedy="Have both machines' clocks set by NTP; ages shown here are wrong by as much",
        )


def _keys(facts: Facts) -> Iterator[Finding]:
    for problem, remedy in facts.keys:
        yield Finding(severity=Severity.WRONG, code="keys", about="keys", what=problem, remedy=remedy)


CATALOGUE: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    _no_page,
    _bus_away,
    _cannot_write,
    _not_ready,
    _in_trouble,
    _feed_waits,
    _behind,
    _stream_full,
    _disk,
    _governance,
    _no_blocks,
    _groups,
    _keys,
    _silent,
    _dead_letters,
    _peers,
    _skew,
)
