"""What a run of kills did and found, as one row of figures."""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import anyio
import msgspec

from overseer.node.client import Client
from tests.crash.queues_reckoning import course_problems
from tests.crash.reckoning import reckon
from tests.crash.traffic import Traffic
from tests.node.nodes import Place, Stored, place

__all__ = ["Report", "Struck", "kill_command", "leaves", "show", "tell"]

# Of each kind of problem, so many are shown.
SHOWN_MAX = 20


class Struck(msgspec.Struct, kw_only=True):
    """What was done in one run, and what is wrong after it. Times in the unit of their name."""

    seed: int
    # By victim, or by victim and step.
    kills: dict[str, int] = {}
    kills_total: int = 0
    strokes: dict[str, int] = {}
    seconds: float = 0.0
    kills_per_minute: float = 0.0
    # Until all is well again, by stroke.
    recovery_ms_median: dict[str, int] = {}
    recovery_ms_worst: dict[str, int] = {}
    lost: int = 0
    doubled: int = 0
    problems: list[str] = []

    @property
    def clean(self) -> bool:
        return not self.problems

    def struck(self, kills: dict[str, int], seconds: float) -> None:
        """Note the kills, and how long they took."""
        self.kills, self.kills_total = kills, sum(kills.values())
        self.seconds = round(seconds, 1)
        self.kills_per_minute = round(60 * self.kills_total / max(seconds, 0.1), 1)


class Crash(Protocol):
    """A crash loop: at least `kills` kills, or for so many seconds; then everything is counted."""

    async def __call__(self, here: Place, *, kills: int, seed: int, seconds: float) -> Struck: ...


class Report(Struck, kw_only=True):
    """Figures of one node's run."""

    # Commands, by receiver; and those that the bus alone acknowledged.
    acknowledged: dict[str, int] = {}
    votes_acknowledged: int = 0
    votes_stored: int = 0
    transactions_once: int = 0
    # Of elections held beside: all of them, and their ballots.
    elections: int = 0
    ballots_acknowledged: int = 0
    ballots_counted: int = 0
    # Of the gateway queue: commands that were accepted, those that are there as acknowledged, refusals; rounds; requests executed.
    queue_accepted: int = 0
    queue_counted: int = 0
    queue_refused: dict[str, int] = {}
    rounds_closed: int = 0
    rounds_revoked: int = 0
    executed: int = 0
    blocks: int = 0
    blacklisted: int = 0
    messages: int = 0
    # Facts of elections that were told more than once, under one id (several sites only).
    told_again: int = 0

    def sent(self, traffic: Traffic) -> None:
        """Note what was acknowledged."""
        self.acknowledged, self.votes_acknowledged = dict(traffic.acknowledged), traffic.votes
        self.elections, self.ballots_acknowledged = len(traffic.polls.elections), traffic.polls.ballots
        self.queue_accepted, self.queue_refused = len(traffic.queue.accepted), dict(traffic.queue.refused)
        self.blocks = len(traffic.main) + len(traffic.beside)

    async def count(self, client: Client, traffic: Traffic) -> list[Stored]:
        """The reckoning. Returns all of the node's stream."""
        found = await reckon(client, traffic)
        self.votes_stored, self.transactions_once = found.votes_stored, found.transactions
        self.blacklisted, self.messages = found.blacklisted, len(found.messages)
        self.ballots_counted = found.ballots
        queue = found.queue
        self.queue_counted, self.executed, self.rounds_closed, self.rounds_revoked = (
            queue.commands,
            queue.executed,
            queue.closed,
            queue.revoked,
        )
        self.lost, self.doubled = len(found.lost), len(found.doubled)
        for problems in (found.lost, found.doubled, found.wrong):
            self.problems += problems[:SHOWN_MAX]
        return found.messages

    def course(self, here: Place, traffic: Traffic, messages: Sequence[Stored]) -> None:
        """The reckoning of the queue's journal, after the node's end."""
        self.problems += course_problems(here, traffic.queue, messages, traffic.main[-1].hash)[:SHOWN_MAX]


def leaves(error: BaseException) -> list[BaseException]:
    """The errors inside groups of groups."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for inner in error.exceptions for leaf in leaves(inner)]


def show(figures: msgspec.Struct, *, as_json: bool) -> None:
    """Print figures: one line of JSON, or a line each."""
    shown = msgspec.to_builtins(figures)
    print(json.dumps(shown) if as_json else "\n".join(f"{key}: {value}" for key, value in shown.items()), flush=True)


def kill_command(module: str, about: str | None, crash: Crash, *, kills: int, argv: Sequence[str] | None = None) -> int:
    """The command line of a crash loop: `python -m tests.crash.<module>`. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog=f"python -m tests.crash.{module}", description=about, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=kills, help=f"at least so many (default {kills})")
    parser.add_argument("--seconds", type=float, default=3_600, help="strike for at most so long")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    given = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix=f"overseer-{module}-"))
    with place(folder) as here:
        report = anyio.run(partial(crash, here, kills=given.kills, seed=given.seed, seconds=given.seconds))
    return tell([report], folder, as_json=given.json)


def tell(reports: Sequence[Struck], folder: Path, *, as_json: bool) -> int:
    """Print the reports; the exit code. The folder is kept when something is wrong."""
    for report in reports:
        show(report, as_json=as_json)
    if all(report.clean for report in reports):
        shutil.rmtree(folder)
        return 0
    print(f"kept for a look: {folder}", file=sys.stderr)
    return 1
