"""The pages of docs/reference that follow from the code: every command from its help, every message from its type."""

import enum
import inspect as python_inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import typer
from msgspec import inspect

from messages.contract import own
from messages.message import Kind, Rejection, Spec
from overseer.cli.app import app
from overseer.graph import Graph
from overseer.node.catalogue import SECTIONS, build_subsystems
from overseer.settings import load_config
from tests.docs.fields import Words, about, remarks

__all__ = ["cli_page", "command_names", "graph", "message_pages"]

# How the values of options are called.
KINDS = {int: "number", float: "number", str: "text", Path: "path"}
# Those that mean the same wherever they stand.
COMMON = {
    "--config": ("path", "Configuration file (default: overseer.toml here)."),
    "--data-dir": ("path", "The node's folder (default: overseer-data)."),
    "--node": ("text", "The node's name (default: node)."),
    "--nats": ("text", "An existing NATS server instead of an embedded one."),
    "--insecure": ("", "Speak to NATS in clear beyond this machine, without TLS."),
    "--json": ("", "Print JSON for machines."),
}
HEAD = "<!-- Generated from the code. Do not edit: python -m tests.docs.generated -->\n"


def graph() -> Graph:
    """The messages between the subsystems of a node."""
    loaded = load_config(environ={"OVERSEER_CONFIG": ""}, sections=SECTIONS)
    return Graph.of(subsystem.declaration for subsystem in build_subsystems(loaded).values())


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    titles = list(head)
    return "".join(_row(cells) for cells in (titles, ["---"] * len(titles), *rows))


def _row(cells: Iterable[str]) -> str:
    return "|" + "".join(f" {' '.join(cell.split())} |" if cell else " |" for cell in cells) + "\n"


# ------------------------------------------------------------------------------------------------ commands


def commands(found: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every command below this one, with its full name; groups before what is in them."""
    yield name, found
    for inner in getattr(found, "commands", {}):
        if not found.commands[inner].hidden:
            yield from commands(found.commands[inner], f"{name} {inner}")


def command_names() -> list[str]:
    """The full names of all commands, without groups."""
    return [name for name, each in commands(typer.main.get_command(app), "overseer") if not hasattr(each, "commands")]


def cli_page() -> str:
    """Every command with its arguments, options and examples."""
    every = list(commands(typer.main.get_command(app), "overseer"))
    singles = [(name, each) for name, each in every if not hasattr(each, "commands")]
    panels: dict[str, list[tuple[str, str]]] = {}
    for name, each in singles:
        top = next(group for full, group in every if full == " ".join(name.split()[:2]))
        panels.setdefault(getattr(top, "rich_help_panel", "") or "Others", []).append((name, _plain(each.help).split("\n")[0]))
    parts = [
        f"# Commands\n\n{HEAD}",
        "What `overseer COMMAND --help` says, on one page. Exit codes: 0 it is so; 1 something is wrong, and it is said what; 2 a\n"
        "mistake in the command or the configuration. A setting comes from the command line, else from the environment,\n"
        "else from `overseer.toml` ([configuration](../configuration.md)).\n",
    ]
    for panel, listed in panels.items():
        rows = [(f"[`{name}`](#{name.replace(' ', '-')})", what) for name, what in listed]
        parts.append(f"**{panel}**\n\n{table(('command', ''), rows)}")
    rows = [(f"`{flag}`", value, what) for flag, (value, what) in COMMON.items()]
    parts.append(f"## Options of most commands\n\n{table(('', 'value', ''), rows)}")
    parts += [_command(name, each) for name, each in singles]
    return "\n".join(parts)


def _command(name: str, command: Any) -> str:
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    # `argument` or `[argument]`, as `--help` shows it.
    words = [each.name.upper() if each.required else f"[{each.name.upper()}]" for each in arguments]
    parts = [
        f"## {name}\n",
        f"{_plain(command.help)}\n",
        "```text\n" + " ".join([name, *words, "[OPTIONS]" if options else ""]).rstrip() + "\n```\n",
    ]
    rows = [(f"`{each.name.upper()}`", "", _cell(each.help)) for each in arguments if each.help]
    told = [
        (", ".join(f"`{flag}`" for flag in (*each.opts, *each.secondary_opts)), _value(command, each), _cell(each.help)) for each in options
    ]
    common = [flag for flag, *rest in told if COMMON.get(flag.strip("`")) == tuple(rest)]
    rows += [row for row in told if row[0] not in common]
    if rows:
        parts.append(table(("", "value", ""), rows))
    if common:
        parts.append(f"And {', '.join(common)}: see [above](#options-of-most-commands).\n")
    if command.epilog:
        parts.append(f"```sh\n{_examples(command.epilog)}\n```\n")
    return "\n".join(parts)


def _plain(text: str | None) -> str:
    """Without rich's marks; paragraphs stay."""
    return re.sub(r"\[/?(?:bold|dim|italic|green|red|yellow)?(?: \w+)*\]", "", (text or "").replace("\b\n", "")).strip()


def _cell(text: str | None) -> str:
    return " ".join(_plain(text).split()).replace("|", "\\|").replace("<", "&lt;")


def _value(command: Any, option: Any) -> str:
    """What an option takes: a kind with its limits, and its default if it has one that is worth telling."""
    if option.is_flag:
        return ""
    # As the function declares it: what the library makes of it differs between its releases.
    hint = get_type_hints(python_inspect.unwrap(command.callback))[option.name]
    several = get_origin(hint) is list
    plain = next(iter(get_args(hint)), str) if several or get_origin(hint) in (Union, UnionType) else hint
    if isinstance(plain, type) and issubclass(plain, enum.Enum):
        words = " \\| ".join(str(member.value) for member in plain)
    else:
        words = KINDS.get(plain, "text")
    low, high = option.min, option.max
    limits = f", {low} to {high}" if None not in (low, high) else f", at least {low}" if low is not None else ""
    default = None if callable(option.default) else getattr(option.default, "value", option.default)
    shown = "" if default in (None, "", 0, 0.0, [], ()) else f" (`{default}`)"
    return f"{words}{limits}{', several times' if several else ''}{shown}"


def _examples(epilog: str) -> str:
    """The lines of the examples; what stands in brackets behind one is a comment."""
    lines = [_plain(line).replace("\\[", "[") for line in epilog.split("\n\n")[1:]]
    return "\n".join(re.sub(r"\s{2,}\((.+)\)$", r"   # \1", line) for line in lines)


# ------------------------------------------------------------------------------------------------ messages

SECTION = {
    Kind.COMMAND: ("Commands", "Asked of {owner}, through the node's stream."),
    Kind.QUERY: ("Queries", "Answered by {owner} from what is committed."),
    Kind.SIGNAL: ("Signals", "Told by {owner} to all."),
    Kind.FACT: ("Facts", "Told by {owner}, and recorded in its journal."),
    Kind.NETWORK: ("Between nodes", "Told by {owner} of one node to that of the others."),
    Kind.PAIR: ("Between sites", "From a site of {owner} to the others that hold the same election."),
    Kind.PARKED: ("Dead letters", "What could not be taken."),
    Kind.REPLY: ("Replies", "What accepted commands and answered queries carry."),
    Kind.REJECTION: ("Rejections", "Refusals by {owner}. The name is the code that a caller sees."),
    Kind.EVENT: ("Journal events", "Recorded by {owner}, never sent."),
    Kind.TIMER: ("Timers", "What {owner} sets for itself."),
}
# Which page tells of the messages of an owner; the rest have one of their own.
PAGE_OF = {"feed": "overseer"}
SUBJECTS = {
    Kind.COMMAND: "overseer.<node>.<sender>.cmd.{owner}.{name}",
    Kind.QUERY: "overseer.<node>.{owner}.qry.{name}",
    Kind.SIGNAL: "overseer.<node>.{owner}.sig.{name}",
    Kind.FACT: "overseer.<node>.{owner}.evt.{name}",
    Kind.NETWORK: "overseer.net.<node>.{owner}.{name}",
    Kind.PARKED: "overseer.<node>.<subsystem>.rejected",
}


def message_pages() -> dict[str, str]:
    """File below docs/reference/messages -> text."""
    specs = own()
    pages: dict[str, list[Spec]] = {}
    for spec in specs:
        pages.setdefault(PAGE_OF.get(spec.owner, spec.owner), []).append(spec)
    writer = _Writer(specs)
    made = {f"{page}.md": writer.page(page, sorted(of, key=lambda s: s.name)) for page, of in sorted(pages.items())}
    return {"index.md": writer.index(pages), **made, "types.md": writer.types()}


class _Writer:
    """All pages of messages; they refer to each other."""

    def __init__(self, specs: list[Spec]) -> None:
        self._specs = {spec.body: spec for spec in specs}
        self._shared: dict[type, None] = {}
        self._graph = graph()
        self._words = Words(self._link)
        self._page = ""

    def index(self, pages: dict[str, list[Spec]]) -> str:
        rows = [(f"[{page}]({page}.md)", *(_count(of, kinds) for _, kinds in COLUMNS)) for page, of in sorted(pages.items())]
        return "\n".join(
            [
                f"# Messages\n\n{HEAD}",
                "Every message of the contract, from its type in `messages/`: where it goes, who says it, who hears it, its fields with\n"
                "their limits, and what it is for. [The protocol](../../protocol.md) tells what all have in common; the types as CDDL are\n"
                "in [messages.cddl](../../../tests/golden/messages.cddl).\n",
                table(("owner", *(title for title, _ in COLUMNS)), rows),
                "The owner of a command or a query is who handles it; of anything else, who says it. Numbers are unsigned; `u8`, `u16`,\n"
                "`u32` and `u64` tell how many bits they have. Byte strings are `0x...` in JSON. A field that *may be absent* has a\n"
                "default. [Types](types.md) are those that several messages share.\n",
                "Which subsystem sends what to which (full lines are commands; dotted ones facts, signals, and messages between nodes):\n",
                f"```mermaid\n{self._graph.mermaid()}```\n",
            ]
        )

    def page(self, page: str, specs: list[Spec]) -> str:
        self._page = page
        parts = [f"# Messages of `{page}`\n\n{HEAD}"]
        described = next((d.description for d in self._graph.declarations if d.name == page), "")
        parts += [f"{described}.\n"] if described else []
        for kind, (title, what) in SECTION.items():
            listed = [spec for spec in specs if spec.kind is kind]
            if listed:
                parts.append(f"## {title}\n\n{what.format(owner=f'`{page}`')}\n")
                parts += [self._message(spec) for spec in listed]
        return "\n".join(parts)

    def types(self) -> str:
        self._page = "types"
        told: dict[str, str] = {}
        while left := [kind for kind in self._shared if _anchor(kind) not in told]:
            for kind in left:
                told[_anchor(kind)] = self._type(kind)
        return "\n".join(
            [f"# Types\n\n{HEAD}", "What messages are made of besides numbers, text and bytes.\n", *(told[name] for name in sorted(told))]
        )

    def _message(self, spec: Spec) -> str:
        rows = [(name, value) for name, value in self._facts(spec) if value]
        parts = [f"### `{spec.name}`\n", _text(about(spec.body)), table(("", ""), rows) if rows else "", self._fields(spec.body)]
        return "\n".join(part for part in parts if part)

    def _facts(self, spec: Spec) -> Iterator[tuple[str, str]]:
        if spec.kind in SUBJECTS:
            yield "subject", f"`{SUBJECTS[spec.kind].format(owner=spec.owner, name=spec.name)}`"
        yield "from", self._senders(spec)
        yield "to", ", ".join(f"`{d.name}`" for d in self._graph.declarations if spec.body in d.consumes)
        if any(spec.body in d.requests for d in self._graph.declarations):
            yield "outcome may be awaited", f"yes: `overseer.<node>.{spec.owner}.req.{spec.name}`"
        if spec.reply is not None:
            yield "reply", self._link(spec.reply)
        if spec.kind is Kind.REPLY:
            yield "answers", ", ".join(self._link(each.body) for each in self._specs.values() if each.reply is spec.body)
        if spec.version > 1:
            yield "version", f"{spec.version}; older ones are brought up to date"

    def _senders(self, spec: Spec) -> str:
        if spec.kind is Kind.QUERY:
            return "anybody who may ask"
        if spec.kind not in (Kind.COMMAND, Kind.NETWORK, Kind.FACT, Kind.SIGNAL):
            return ""
        senders = self._graph.senders(spec.body)
        named = [f"`{name}`" for name in senders.subsystems] or ([f"`{spec.owner}`"] if spec.kind is not Kind.COMMAND else [])
        return ", ".join([*named, *(["operators and feeds"] if senders.operators else [])])

    def _fields(self, kind: type) -> str:
        rows = [(f"`{name}`", words, _text(what).strip()) for name, words, what in self._words.fields(kind)]
        retry = f"\nA retry may help: {_retriable(kind)}.\n" if issubclass(kind, Rejection) and _retriable(kind) else ""
        return (table(("field", "type and limits", "meaning"), rows) if rows else "No fields.\n") + retry

    def _type(self, kind: type) -> str:
        info = inspect.type_info(kind)
        if isinstance(info, inspect.EnumType):
            rows = [(f"`{name.lower()}`", what) for name, what in ((m.value, remarks(kind).get(m.name, "")) for m in kind)]  # type: ignore[attr-defined]
            body = table(("value", ""), rows)
        else:
            assert isinstance(info, inspect.StructType)
            body = ("On the wire an array, the fields in this order.\n\n" if info.array_like else "") + self._fields(kind)
        return "\n".join(part for part in (f"## {_anchor(kind)}\n", _text(about(kind)), body) if part)

    def _link(self, kind: type) -> str:
        """A link to where a message or type is told."""
        spec = self._specs.get(kind)
        if spec is None:
            self._shared[kind] = None
            page, name, anchor = "types", kind.__name__, _anchor(kind).lower()
        else:
            page, name, anchor = PAGE_OF.get(spec.owner, spec.owner), f"`{spec.name}`", _heading_anchor(spec, self._specs.values())
        return f"[{name}]({'' if page == self._page else page + '.md'}#{anchor})"


COLUMNS = (
    ("commands", (Kind.COMMAND,)),
    ("queries", (Kind.QUERY,)),
    ("facts and signals", (Kind.FACT, Kind.SIGNAL)),
    ("between nodes and sites", (Kind.NETWORK, Kind.PAIR)),
    ("replies", (Kind.REPLY,)),
    ("rejections", (Kind.REJECTION, Kind.PARKED)),
    ("journal events and timers", (Kind.EVENT, Kind.TIMER)),
)


def _count(specs: list[Spec], kinds: tuple[Kind, ...]) -> str:
    return str(sum(spec.kind in kinds for spec in specs) or "")


def _anchor(kind: type) -> str:
    return kind.__name__


def _heading_anchor(spec: Spec, every: Iterable[Spec]) -> str:
    """Where a page has several messages of one name, later ones are numbered, in the order of the sections."""
    order = list(SECTION)
    page = PAGE_OF.get(spec.owner, spec.owner)
    same = sorted((s for s in every if s.name == spec.name and PAGE_OF.get(s.owner, s.owner) == page), key=lambda s: order.index(s.kind))
    place = same.index(spec)
    return spec.name if place == 0 else f"{spec.name}_{place}"


def _text(text: str) -> str:
    """Prose of a docstring as Markdown in a page or a cell."""
    return re.sub(r"(?<!`)<(?=\w)", "&lt;", text).replace("|", "\\|") + "\n" if text else ""


def _retriable(kind: type[Rejection]) -> str:
    """What the type says of a retry: "" when never."""
    its_own = next((c.__dict__["retriable"] for c in kind.__mro__ if "retriable" in c.__dict__), None)
    if its_own is None or its_own is Rejection.__dict__["retriable"]:
        return ""
    returned = re.search(r"return (.+)", python_inspect.getsource(its_own.fget))
    words = returned[1] if returned else ""
    return "yes" if words == "True" else "" if words == "False" else f"where `{words.replace('self.', '')}`"
