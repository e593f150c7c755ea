"""`overseer journal`: what subsystems recorded, and why; and what they go on to record."""

import json as json_module
import select
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Annotated

import typer
from rich.markup import escape

from messages.text import to_json
from overseer.cli import common
from overseer.cli.common import ConfigFile, DataDir, Json, load_settings, plain_message, say
from overseer.cli.stored import no_journal, subsystems_with_journal
from overseer.history.following import Follower, Merged, Recorded
from overseer.history.stored import StoredNode
from overseer.node.catalogue import CATALOGUE
from overseer.sites.layout import site_stores

__all__ = ["journal"]

# A follower looks for new records this often; while nothing is written it only looks at the files' sizes.
FOLLOW_S = 0.5
BODY_CHARACTERS = 160
STYLES = {"accepted": "green", "rejected": "yellow", "parked": "red"}


def journal(
    subsystems: Annotated[
        list[str] | None, typer.Argument(help="Whose journal (default: all, by time): " + ", ".join(CATALOGUE), show_default=False)
    ] = None,
    config: ConfigFile = None,
    data_dir: DataDir = None,
    after: Annotated[int | None, typer.Option(min=0, help="Only records behind this index; of one subsystem.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many (the newest, unless --after is given).")] = 50,
    event: Annotated[str, typer.Option(help="Only records with an event or input of this name.")] = "",
    cause: Annotated[int, typer.Option(min=0, help="Only what this sequence of the stream caused (0: any).")] = 0,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Then go on with what comes, until Ctrl-C; with --after from there on.")
    ] = False,
    json: Json = False,
) -> None:
    """Show what subsystems recorded, and why: input, cause, sender, events, outcome. Works while the node runs, and after."""
    loaded = load_settings(config, data_dir)
    for name in subsystems or []:
        if name not in CATALOGUE or (name == "elections" and site_stores(loaded.config.data_dir / "stores")):
            no_journal(loaded, name)
    names = list(dict.fromkeys(subsystems or subsystems_with_journal(loaded)))
    if after is not None and len(names) > 1:
        common.fail("--after is the index of a record of one subsystem.", "Name the one: overseer journal votes_db --after 120")

    def wanted(recorded: Recorded) -> bool:
        record = recorded.record
        if cause and (record.cause.stream, record.cause.sequence) != ("node", cause):
            return False
        keys = [record.input, *(row.key for row in record.events)]
        return not event or any(event in (key, key.rpartition(".")[2]) for key in keys)

    with ExitStack() as stack:
        followers = [Follower(StoredNode(loaded.config.data_dir), name, after=after or 0) for name in names]
        for follower in followers:
            stack.callback(follower.close)
            if after is None and not event and not cause:
                # The newest alone: without a filter their number is known.
                follower.after = max(0, follower.last_index() - limit)
        shown = _Shown(several=len(names) > 1, as_json=json)
        journals = Merged(followers)
        found = filter(wanted, journals.look())
        if after is None:
            found = iter(deque(found, maxlen=limit))
        shown.all(found, limit if after is not None and not follow else None)
        if follow:
            _follow(journals, wanted, shown)


def _follow(journals: Merged, wanted: Callable[[Recorded], bool], shown: "_Shown") -> None:
    """For ever, or as long as anybody reads. Raises BrokenPipeError."""
    while True:
        time.sleep(FOLLOW_S)
        shown.all(filter(wanted, journals.look()), None)
        for follower in journals.followers:
            while follower.notes:
                typer.echo(follower.notes.pop(0), err=True)
        if _reader_gone():
            raise BrokenPipeError


def _reader_gone() -> bool:
    """Whether standard output is a pipe that nobody reads any more: without this it shows at the next record only."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(state & select.POLLERR for _, state in poll.poll(0))
    except (OSError, ValueError, AttributeError):
        return False


class _Shown:
    """Records on standard output; with the subsystem's name where there are several."""

    def __init__(self, *, several: bool, as_json: bool) -> None:
        self._several = several
        self._as_json = as_json

    def all(self, found: Iterator[Recorded], limit: int | None) -> None:
        """The first `limit` of them (None: all)."""
        for count, recorded in enumerate(found, 1):
            if self._as_json:
                _print_record(recorded)
            else:
                _say_record(recorded, f"{recorded.subsystem:<18} " if self._several else "")
            if count == limit:
                return


def _print_record(recorded: Recorded) -> None:
    record, cause = recorded.record, recorded.record.cause
    told = {
        "subsystem": recorded.subsystem,
        "index": record.index,
        "time_ms": record.time_ms,
        "input": record.input,
        "cause": {"stream": cause.stream, "sequence": cause.sequence, "sender": cause.sender, "id": cause.id},
        "correlation": cause.correlation,
        "result": record.result.status,
        "code": record.result.code,
        "events": [{"event": event.spec.key, **plain_message(event)} for event in recorded.events],
        "timers": [{"key": t.key, "at_ms": t.at_ms, "message": t.message} for t in record.timers],
    }
    typer.echo(json_module.dumps(told))


def _say_record(recorded: Recorded, whose: str) -> None:
    record, cause = recorded.record, recorded.record.cause
    at = common.clock(record.time_ms)
    where = f"{cause.stream} {cause.sequence} from {cause.sender}" if cause.stream else (cause.id or "own")
    style = STYLES.get(record.result.status, "dim")
    code = f" {record.result.code}" if record.result.code else ""
    head = f"[cyan]{whose}[/]" if whose else ""
    say(
        f"{head}[bold]{record.index:>6}[/] {at}  {escape(record.input or '-')}  [dim]{escape(where)}[/]"
        f"  [{style}]{record.result.status}{code}[/]"
    )
    for event in recorded.events:
        body = to_json(event).decode()
        shown = body if len(body) <= BODY_CHARACTERS else body[:BODY_CHARACTERS] + "…"
        say(f"         [cyan]{event.spec.key}[/] {escape(shown)}")
