"""What all commands share: options, the configuration in force, output for people or machines, errors without traceback."""

import difflib
import errno
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar, cast, get_args, get_origin

import anyio
import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from messages.codec import BODY_BYTES_MAX, CodecError, decode
from messages.contract import load as load_contract
from messages.message import Kind, Message, Spec
from messages.text import JSON_BYTES_MAX, from_json, to_json
from overseer.backup.manifest import BackupRefused
from overseer.consensus.roster import BadNetwork
from overseer.feeds.files import FeedFileError
from overseer.nats.holding import HeldNoLonger
from overseer.nats.keys import UnusableKey
from overseer.nats.provision import ApiError, DangerousSettings
from overseer.nats.server import ServerError
from overseer.nats.snapshot import BrokenSnapshot
from overseer.nats.tls import UnusableCertificate
from overseer.node.catalogue import SECTIONS, BrokenGraph
from overseer.node.client import Client, Refused
from overseer.node.folder import FolderInUse, HalfRestored, NodeFolder, NotRunning, PastFolder, RunInfo
from overseer.observe.export import TracingNotInstalled, exported
from overseer.ports.bus import BusDenied, BusError
from overseer.ports.store import StoreError, StoreMissing
from overseer.runner.errors import JournalBroken
from overseer.settings import ConfigError, Loaded, load_config
from overseer.sites.layout import ElectionsElsewhere, UnknownLayout
from overseer.supervise.status import GaveUp

__all__ = [
    "USER_ERROR",
    "ConfigFile",
    "DataDir",
    "Insecure",
    "Json",
    "NatsUrl",
    "NodeName",
    "UserError",
    "console",
    "examples",
    "fail",
    "find_message",
    "heed_sigterm",
    "load_settings",
    "near",
    "parse_body",
    "plain_message",
    "print_json",
    "report",
    "run_async",
    "running_client",
    "running_node",
    "say",
    "server_url",
    "stopped",
]

USER_ERROR = 2

ConfigFile = Annotated[Path | None, typer.Option("--config", help="Configuration file (default: overseer.toml here).", show_default=False)]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="The node's folder (default: overseer-data).", show_default=False)]
NodeName = Annotated[str | None, typer.Option("--node", help="The node's name (default: node).", show_default=False)]
NatsUrl = Annotated[str | None, typer.Option("--nats", help="An existing NATS server instead of an embedded one.", show_default=False)]
Insecure = Annotated[bool, typer.Option("--insecure", help="Speak to NATS in clear beyond this machine, without TLS.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]

T = TypeVar("T")

# What is not a terminal is not folded to one: no table cuts a hash short in a pipe.
_PIPE_COLUMNS = 240


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    # None when it was closed before we started.
    terminal = stream is not None and stream.isatty()  # pyright: ignore[reportUnnecessaryComparison]
    return Console(stderr=stderr, highlight=False, width=None if terminal else _PIPE_COLUMNS)


# Results go to stdout, everything else to stderr.
console = _console(stderr=False)
_errors = _console(stderr=True)


class UserError(Exception):
    """A mistake of the user's, or something they can mend: what is wrong and what to do. Never shown with a traceback."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy


# What can go wrong without being a defect: shown as one sentence. These are told by a running node, and end with exit code 1;
_TOLD = (Refused, GaveUp)
# these can be mended by who gave the command, and end with USER_ERROR.
_MENDABLE = (
    UserError,
    ConfigError,
    BrokenGraph,
    NotRunning,
    FolderInUse,
    PastFolder,
    HalfRestored,
    BackupRefused,
    BrokenSnapshot,
    HeldNoLonger,
    JournalBroken,
    UnusableKey,
    UnusableCertificate,
    ServerError,
    DangerousSettings,
    ApiError,
    BusError,
    StoreError,
    CodecError,
    FeedFileError,
    UnknownLayout,
    BadNetwork,
    ElectionsElsewhere,
    TracingNotInstalled,
    OSError,
)


def load_settings(
    config: Path | None = None, data_dir: Path | None = None, node: str | None = None, nats: str | None = None, **flags: object
) -> Loaded:
    """The configuration in force. Further flags by key with `__` for the dot (`feed__source`). Raises ConfigError."""
    given: dict[str, object] = {"data_dir": data_dir, "node": node, "nats.url": nats}
    given |= {key.replace("__", "."): value for key, value in flags.items()}
    loaded = load_config(config, environ=os.environ, flags=given, sections=SECTIONS)
    name = _last_name(loaded)
    return load_config(config, environ=os.environ, flags={**given, "node": name}, sections=SECTIONS) if name else loaded


def _last_name(loaded: Loaded) -> str:
    """Where nobody says what the node is called: as in its last run on that folder (of a testnet, say)."""
    if any(setting.key == "node" and setting.source != "default" for setting in loaded.settings):
        return ""
    try:
        return NodeFolder(loaded.config.data_dir).last_run().node
    except (NotRunning, OSError):
        return ""


def say(text: str) -> None:
    """A line for people, on stdout; rich markup."""
    console.print(text, soft_wrap=True)


def print_json(value: object) -> None:
    """One JSON value on stdout."""
    sys.stdout.write(json.dumps(value, indent=2 if sys.stdout.isatty() else None) + "\n")
    sys.stdout.flush()


_ENDING = (signal.SIGINT, signal.SIGTERM)


def run_async(work: Callable[[], Awaitable[T]]) -> T:
    """Run `work` in an event loop of its own. Of a group of errors the one that tells the cause comes out."""

    async def main() -> T:
        # The loop takes an interrupt by cancelling its main task; raised in the midst of any other it would be told as a defect.
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        return await work()

    # Modules are loaded on the way to the loop: an interrupt in the middle of an import would come out as any error, or not at all.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        return anyio.run(main)
    except BaseExceptionGroup as group:
        raise _cause(group) from group
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        # Who watched signals meanwhile left the system's default behind.
        heed_sigterm()


def heed_sigterm() -> None:
    """SIGTERM as Ctrl-C: what was begun (a temporary folder, a child) is ended in order."""

    def interrupt(_number: int, _frame: object) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def _cause(error: BaseException) -> BaseException:
    """The first error of a group that is known to happen, else its first one."""
    errors, found = [error], list[BaseException]()
    while errors:
        first = errors.pop(0)
        if isinstance(first, BaseExceptionGroup):
            errors = [*cast("BaseExceptionGroup[BaseException]", first).exceptions, *errors]
        else:
            found.append(first)
    return next((each for each in found if isinstance(each, (*_TOLD, *_MENDABLE, KeyboardInterrupt))), found[0])


def report(error: BaseException) -> int:
    """Say what went wrong and return the exit code; raises it again when it is a defect."""
    error = _cause(error)
    if not isinstance(error, (*_TOLD, *_MENDABLE)):
        raise error
    problem, remedy = _words(error)
    _errors.print(f"[bold red]error:[/] {escape(problem)}", soft_wrap=True)
    if remedy:
        _errors.print(escape(remedy), soft_wrap=True)
    return 1 if isinstance(error, _TOLD) else USER_ERROR


def _words(error: BaseException) -> tuple[str, str]:
    """What is wrong, and what to do where the error itself does not say."""
    match error:
        case UserError() | BackupRefused():
            return error.problem, error.remedy
        case BrokenGraph():
            return f"the enabled subsystems do not fit together: {error}", "Enable the one that is missing as well: see `subsystems`."
        case UnusableKey(problem="there is none"):
            return str(error), "The keys lie in the node's folder: name it with --data-dir, and start the node once (`overseer run`)."
        case StoreMissing():
            return str(error), "Name the node's folder with --data-dir; a store is made when the node first runs (`overseer run`)."
        case JournalBroken():
            return f"A journal is damaged: {error}", "See `overseer verify`, and `overseer repair --help`."
        case BusDenied():
            return str(error), "The server runs with other accounts or keys: see `overseer provision --accounts`."
        case BusError():
            return str(error), "See `overseer status`, and the log of `overseer run`."
        case ServerError() if "address already in use" in error.log_tail:
            return f"another program listens on the NATS port ({error.problem})", "Choose another one (nats.port), or 0 for a free one."
        case FileNotFoundError() | PermissionError() | NotADirectoryError() | IsADirectoryError() if error.filename is not None:
            return f"{error.filename}: {error.strerror}", "Check the path and who may use it; --data-dir names the node's folder."
        case OSError() if error.errno == errno.EADDRINUSE:
            return f"the address is taken by another program: {error.strerror}", "Choose another port (http.port), or 0 for a free one."
        case _:
            return str(error) or type(error).__name__, ""


def fail(problem: str, remedy: str = "") -> NoReturn:
    raise UserError(problem, remedy)


def stopped(text: str) -> NoReturn:
    """Ended by who asked for it, before there was a result."""
    _errors.print(escape(text))
    raise KeyboardInterrupt


def near(name: str, known: Iterable[str]) -> str:
    """What may have been meant by an unknown name; else all that there are."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3)
    return f"Did you mean {' or '.join(close)}?" if close else f"There are: {', '.join(names)}."


def examples(*lines: str) -> str:
    """The examples at the end of a command's help, one line each."""
    return "\n\n".join(["[bold]Examples[/]", *(f"  {escape(line)}" for line in lines)])


def find_message(name: str, kind: Kind) -> Spec:
    """The command or query of that name (`register_vote`, `votes_db.register_vote`). Raises UserError."""
    catalog = load_contract()
    found = [spec for spec in catalog.by_name(name.replace("-", "_")) if spec.kind is kind]
    if len(found) == 1:
        return found[0]
    what, other = ("command", "query") if kind is Kind.COMMAND else ("query", "command")
    if found:
        fail(f"{name!r} is ambiguous.", "Use one of: " + ", ".join(f"{s.owner}.{s.name}" for s in found))
    if any(spec.kind in (Kind.COMMAND, Kind.QUERY) for spec in catalog.by_name(name.replace("-", "_"))):
        fail(f"{name} is a {other}, not a {what}.", f"Use `overseer {'query' if kind is Kind.COMMAND else 'send'} {name}`.")
    fail(f"There is no {what} {name!r}.", near(name, (s.name for s in catalog if s.kind is kind)))


def parse_body(spec: Spec, text: str) -> Message:
    """A body from JSON text, `-` (standard input) or `@file`; CBOR bytes are taken from input and files too. Raises UserError."""
    data = _given(text)
    try:
        return from_json(spec, data or b"{}") if data.lstrip()[:1] in (b"{", b"") else decode(spec, data)
    except CodecError as error:
        raise UserError(f"This is no {spec.name}: {error.detail}", f"Its fields: {_fields(spec)}") from None


def _given(text: str) -> bytes:
    if text == "-":
        # None when it was closed before we started.
        if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]
            fail("Standard input is closed.", "Pipe the body into this command, or give it as an argument.")
        data = sys.stdin.buffer.read(JSON_BYTES_MAX + 1)
    elif text.startswith("@"):
        try:
            with Path(text[1:]).open("rb") as file:
                data = file.read(JSON_BYTES_MAX + 1)
        except OSError as error:
            fail(f"{text[1:]} cannot be read: {error.strerror}.", "After @ comes the path of a file with the body.")
    else:
        return text.encode("utf-8", "surrogateescape")
    if len(data) > JSON_BYTES_MAX:
        fail(f"The body is larger than {JSON_BYTES_MAX} bytes.", f"A message's body is at most {BODY_BYTES_MAX} bytes of CBOR.")
    return data


def _fields(spec: Spec) -> str:
    """The message's fields with their types, the optional ones in brackets."""
    shown = [
        f"{field.name} ({_type_name(field.type)})" if field.required else f"[{field.name} ({_type_name(field.type)})]"
        for field in msgspec.structs.fields(spec.body)
    ]
    return ", ".join(shown) or "none"


def _type_name(kind: Any) -> str:
    """A field's type in a word or two."""
    if get_origin(kind) is Annotated:
        return _type_name(get_args(kind)[0])
    inner = [_type_name(each) for each in get_args(kind) if each is not type(None)]
    if get_origin(kind) in (list, tuple):
        return f"list of {inner[0]}"
    if inner:
        return " or ".join(inner)
    name = str(getattr(kind, "__name__", kind))
    return {"bytes": "0x-hex", "int": "number", "bool": "true or false", "str": "text"}.get(name, name)


def plain_message(message: Message) -> Any:
    """A message as plain JSON data, bytes as 0x-hex."""
    return json.loads(to_json(message))


def clock(ms: int) -> str:
    """The time of day of so many milliseconds since 1970, UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]


def running_node(loaded: Loaded) -> RunInfo:
    """The node that runs on the configured folder. Raises NotRunning."""
    return NodeFolder(loaded.config.data_dir).running()


def server_url(loaded: Loaded) -> str:
    """The configured server, else that of the node running on the folder. Raises NotRunning."""
    return loaded.config.nats.url or running_node(loaded).url


def _traces_not_taken(endpoint: str, _: int) -> None:
    """Beside the result, which does not depend on it."""
    _errors.print(f"warning: {escape(endpoint)} does not take traces (trace.endpoint)", soft_wrap=True)


@asynccontextmanager
async def running_client(loaded: Loaded, *, wait_ms: int = 10_000) -> AsyncGenerator[Client]:
    """A `Client` of the running node, which is waited for at most so long."""
    url = server_url(loaded)
    async with (
        exported(loaded.config, service="operator", warn=_traces_not_taken) as spans,
        Client.connected(loaded.config, url, "operator", wait_ms=wait_ms, spans=spans) as client,
    ):
        yield client
