"""Commands that go back in time: `replay`, `diff`; and what `query` answers from the past."""

import json as json_module
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import anyio
import typer
from rich.markup import escape

from messages.message import Message, Rejection
from overseer.cli import common
from overseer.cli.common import ConfigFile, DataDir, Json, load_settings, print_json, run_async, say
from overseer.cli.stored import no_journal, subsystems_with_journal
from overseer.history.differences import (
    Change,
    Kind,
    TableDifference,
    changed_fields,
    differences,
    plain_key,
    plain_value,
    recorded_between,
)
from overseer.history.journals import Place, StoredJournal, places
from overseer.history.moments import AtIndex, BadMoment, Moment, Now, read_moment, time_text
from overseer.history.past import PastState, answer_from, rebuilt, row_counts, stored_state
from overseer.history.scratch import NoPast, Scratch
from overseer.history.stored import StoredNode
from overseer.node.catalogue import CATALOGUE, build_subsystem
from overseer.node.client import Refused
from overseer.runner.errors import RunnerFault
from overseer.settings import Loaded
from overseer.sites.layout import site_stores
from overseer.subsystem import Subsystem

__all__ = ["answer_of_the_past", "diff", "replay"]

# How much of a value is shown to people; machines get all of it.
VALUE_CHARACTERS = 200
SIGNS = {Kind.ADDED: "[green]+[/]", Kind.REMOVED: "[red]-[/]", Kind.CHANGED: "[yellow]~[/]"}

Until = Annotated[
    str, typer.Option("--until", help="The moment: a position of the stream (25), votes_db:120, 14:05, 2026-11-22T14:05:00Z, 5m ago.")
]


class History:
    """The journals of one node, open as of one moment."""

    def __init__(self, loaded: Loaded, subsystems: dict[str, Subsystem], journals: dict[str, StoredJournal]) -> None:
        self.loaded = loaded
        self.subsystems = subsystems
        self.journals = journals

    def moment(self, text: str) -> Moment:
        """Raises BadMoment."""
        moment = read_moment(text, int(time.time() * 1000))
        if isinstance(moment, AtIndex) and moment.subsystem not in self.journals:
            no_journal(self.loaded, moment.subsystem)
        return moment

    def places(self, moment: Moment, names: Sequence[str]) -> list[Place]:
        """Raises BadMoment, JournalBroken."""
        return places(moment, [self.journals[name] for name in names], list(self.journals.values()))


@contextmanager
def _history(loaded: Loaded) -> Generator[History, None, None]:
    """Raises UserError for what a person can mend, StoreError."""
    stored, names = StoredNode(loaded.config.data_dir), subsystems_with_journal(loaded)
    subsystems = {name: build_subsystem(name, loaded) for name in names}
    with ExitStack() as stack:
        readers = {name: stack.enter_context(stored.reader(name)) for name in names}
        journals: dict[str, StoredJournal] = {}
        try:
            for name, reader in readers.items():
                version = subsystems[name].declaration.evolve_version
                if StoredJournal.is_begun(reader):
                    journals[name] = StoredJournal(name, reader, evolve_version=version)
            yield History(loaded, subsystems, journals)
        except (BadMoment, NoPast) as error:
            raise common.UserError(error.problem, error.remedy) from None
        except RunnerFault as error:
            raise common.UserError(str(error)) from None


def _names(history: History, wanted: Sequence[str], *moments: Moment) -> list[str]:
    """Which subsystems are meant: those named, else the one whose records the moments are, else all. Raises UserError."""
    for name in wanted:
        if name not in history.journals:
            no_journal(history.loaded, name)
    whose = sorted({moment.subsystem for moment in moments if isinstance(moment, AtIndex)})
    if len(whose) > 1 or (whose and set(wanted) - set(whose)):
        common.fail(
            f"A record of {whose[0]} is a moment of {whose[0]} alone.",
            "Give a position of the stream, or a time, for several subsystems.",
        )
    return whose or list(dict.fromkeys(wanted)) or list(history.journals)


# ------------------------------------------------------------------------------------------------ replay


def replay(
    until: Until,
    subsystems: Annotated[list[str] | None, typer.Argument(help="Which (default: all that have a journal).", show_default=False)] = None,
    into: Annotated[Path | None, typer.Option("--into", help="Keep the state in this new folder, for `query --past`.")] = None,
    config: ConfigFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Rebuild a past state from the journals, from the nearest checkpoint on. Works while the node runs, and after."""
    loaded = load_settings(config, data_dir)
    with _history(loaded) as history:
        moment = history.moment(until)
        found = history.places(moment, _names(history, subsystems or [], moment))
        told: list[dict[str, Any]] = []

        async def main() -> None:
            for place in found:
                subsystem = history.subsystems[place.subsystem]
                state = await rebuilt(subsystem, history.journals[place.subsystem], place)
                if scratch is not None:
                    await scratch.keep(subsystem.declaration, state)
                told.append(_state_told(subsystem, state))
                if not json:
                    _show_state(told[-1])

        with ExitStack() as stack:
            scratch: Scratch | None = None
            if into is not None:
                made = Scratch.being_made(into, node=loaded.config.node, source=loaded.config.data_dir, moment=until)
                scratch = stack.enter_context(made)
            run_async(main)
    sites = [] if subsystems else site_stores(loaded.config.data_dir / "stores")
    if json:
        print_json({"until": until, "states": told, "into": None if into is None else str(into.absolute()), "without_journal": sites})
        return
    if sites:
        say(f"[dim]without {', '.join(sites)}: sites of the elections keep no journal (`overseer election history KEY`)[/]")
    if into is not None:
        say(f"kept in {escape(str(into))}; ask it:  overseer query best --past {escape(str(into))}")


def _place_told(place: Place) -> dict[str, Any]:
    return {
        "index": place.index,
        "recorded": time_text(place.recorded_ms) if place.index else None,
        "position": place.position,
        "now_ms": place.now_ms,
    }


def _state_told(subsystem: Subsystem, state: PastState) -> dict[str, Any]:
    tables = row_counts(subsystem.declaration, state.rows)
    return {
        "subsystem": state.place.subsystem,
        **_place_told(state.place),
        "rows": sum(tables.values()),
        "tables": tables,
        "from_index": state.from_index,
        "records": state.records,
        "seconds": round(state.seconds, 3),
    }


def _show_state(told: dict[str, Any]) -> None:
    begun = f"from the checkpoint at {told['from_index']}" if told["from_index"] else "from the first record"
    say(
        f"[bold]{told['subsystem']}[/]  {_where(told)}: {told['rows']} rows"
        f"  [dim]{told['records']} records {begun}, in {told['seconds']:.2f} s[/]"
    )
    if told["tables"]:
        say("  " + ", ".join(f"{name} {count}" for name, count in told["tables"].items()))


def _where(told: dict[str, Any]) -> str:
    if not told["index"]:
        return "before its first record"
    return f"record {told['index']} of {told['recorded']}, position {told['position']}"


# ------------------------------------------------------------------------------------------------ diff


def diff(
    moments: Annotated[
        list[str],
        typer.Argument(metavar="MOMENT [MOMENT] [SUBSYSTEM]...", help="From, to (default: now), and of which (default: all)."),
    ],
    limit: Annotated[int, typer.Option(min=0, help="At most so many rows of each table; the numbers are of all.")] = 10,
    config: ConfigFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """What changed between two moments: rows added, removed and changed in each table. Works while the node runs, and after."""
    loaded = load_settings(config, data_dir)
    words = [_no_option(word) for word in moments]
    ends = words[: 1 if len(words) < 2 or words[1] in (*CATALOGUE, *site_stores(loaded.config.data_dir / "stores")) else 2]
    with _history(loaded) as history:
        first, second = history.moment(ends[0]), history.moment(ends[1] if len(ends) > 1 else "now")
        names = _names(history, words[len(ends) :], first, second)
        before, after = history.places(first, names), history.places(second, names)
        told: list[dict[str, Any]] = []

        async def main() -> None:
            for old, new in zip(before, after, strict=True):
                subsystem, stored = history.subsystems[old.subsystem], history.journals[old.subsystem]
                start = await rebuilt(subsystem, stored, old)
                end = stored_state(stored, new) if isinstance(second, Now) else await rebuilt(subsystem, stored, new, start=start)
                found = differences(subsystem.declaration.tables, start.rows, end.rows, limit=limit)
                events = recorded_between(stored.store, *sorted((old.index, new.index)))
                if json:
                    told.append(_difference_told(old, new, events, found))
                else:
                    _show_difference(old, new, events, found)
                await anyio.lowlevel.checkpoint()

        run_async(main)
    if json:
        print_json(told)


def _no_option(word: str) -> str:
    """Moments such as -5m look like options, so unknown ones arrive here. Raises UserError."""
    if word.startswith("-") and not word[1:2].isdigit():
        common.fail(f"There is no option {word}.", "See `overseer diff --help`.")
    return word


def _difference_told(old: Place, new: Place, events: dict[str, int], found: Sequence[TableDifference]) -> dict[str, Any]:
    tables = [
        {
            "table": each.table.name,
            "added": each.added,
            "removed": each.removed,
            "changed": each.changed,
            "rows": [_change_told(each, change) for change in each.rows],
            "more": each.count - len(each.rows),
        }
        for each in found
    ]
    return {"subsystem": old.subsystem, "from": _place_told(old), "to": _place_told(new), "events": events, "tables": tables}


def _change_told(of: TableDifference, change: Change) -> dict[str, Any]:
    values = {"before": change.before, "after": change.after}
    return {
        "kind": change.kind.value,
        "key": plain_key(of.table, change.key),
        **{name: plain_value(of.table, data) for name, data in values.items() if data is not None},
    }


def _show_difference(old: Place, new: Place, events: dict[str, int], found: Sequence[TableDifference]) -> None:
    say(f"[bold]{old.subsystem}[/]  {_where(_place_told(old))}  ->  {_where(_place_told(new))}")
    if events:
        back = "  (backwards)" if new.index < old.index else ""
        say("  recorded: " + ", ".join(f"{name} {count}" for name, count in events.items()) + back)
    if not found:
        say("  [dim]no table differs[/]")
    for each in found:
        numbers = ((each.added, "added"), (each.removed, "removed"), (each.changed, "changed"))
        say(f"  [cyan]{each.table.name}[/]: " + ", ".join(f"{count} {what}" for count, what in numbers if count))
        for change in each.rows:
            say(f"    {SIGNS[change.kind]} {escape(_change_text(each, change))}")
        if each.rows and each.count > len(each.rows):
            say(f"    [dim]and {each.count - len(each.rows)} more (--limit)[/]")


def _change_text(of: TableDifference, change: Change) -> str:
    """One row on one line: its key, and its value or what changed in it."""
    key = " ".join(map(_text, plain_key(of.table, change.key)))
    before, after = (None if data is None else plain_value(of.table, data) for data in (change.before, change.after))
    if change.kind is Kind.CHANGED:
        fields = changed_fields(before, after)
        shown = "; ".join(f"{name + ': ' if name else ''}{_short(was)} -> {_short(now)}" for name, was, now in fields)
    else:
        shown = _short(after if before is None else before)
    return f"{key}  {shown}"


def _short(value: Any) -> str:
    text = _text(value)
    return text if len(text) <= VALUE_CHARACTERS else text[:VALUE_CHARACTERS] + "…"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json_module.dumps(value, ensure_ascii=False)


# ------------------------------------------------------------------------------------------------ query


def answer_of_the_past(config: Path | None, data_dir: Path | None, query: Message, *, until: str, kept_in: Path | None) -> Message:
    """What was answered at the moment `until`, or is by the rebuilt past in `kept_in`. Raises Refused, UserError."""
    if until and kept_in is not None:
        common.fail("Give --until or --past, not both.", "A rebuilt past is of one moment: that of its replay.")
    name = query.spec.owner
    if kept_in is not None:
        answer = _answer_kept(config, data_dir, kept_in, query)
    else:
        loaded = load_settings(config, data_dir)
        with _history(loaded) as history:
            moment = history.moment(until)
            (place,) = history.places(moment, _names(history, [name], moment))
            subsystem, stored = history.subsystems[name], history.journals[name]
            answer = answer_from(subsystem, run_async(lambda: rebuilt(subsystem, stored, place)), query)
    if isinstance(answer, Rejection):
        raise Refused(query, answer.code, answer, retriable=answer.retriable)
    return answer


def _answer_kept(config: Path | None, data_dir: Path | None, kept_in: Path, query: Message) -> Message | Rejection:
    try:
        scratch = Scratch.at(kept_in)
        loaded = load_settings(config, data_dir or Path(scratch.note.source), scratch.note.node)
        with scratch.state(query.spec.owner) as state:
            return answer_from(build_subsystem(query.spec.owner, loaded), state, query)
    except NoPast as error:
        raise common.UserError(error.problem, error.remedy) from None
