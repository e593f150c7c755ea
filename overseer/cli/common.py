"""What all commands share: options, the configuration in force, output for people or machines, errors without traceback."""

import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import anyio
import typer
from rich.console import Console

from messages.codec import CodecError
from messages.contract import load as load_contract
from messages.message import Kind, Message, Spec
from messages.text import from_json, to_json
from overseer.failures import lone
from overseer.nats.keys import UnusableKey
from overseer.nats.provision import ApiError, DangerousSettings
from overseer.nats.server import ServerError
from overseer.node.catalogue import SECTIONS, BrokenGraph
from overseer.node.client import Client, Refused
from overseer.node.folder import FolderInUse, NodeFolder, NotRunning, RunInfo
from overseer.ports.bus import BusError
from overseer.ports.store import StoreError
from overseer.settings import ConfigError, Loaded, load_config
from overseer.supervise.status import GaveUp

__all__ = [
    "USER_ERROR",
    "ConfigFile",
    "DataDir",
    "Json",
    "NatsUrl",
    "NodeName",
    "UserError",
    "console",
    "find_message",
    "load_settings",
    "parse_body",
    "plain_message",
    "print_json",
    "run_async",
    "running_client",
    "say",
]

USER_ERROR = 2

ConfigFile = Annotated[Path | None, typer.Option("--config", help="Configuration file (default: overseer.toml here).", show_default=False)]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="The node's folder (default: overseer-data).", show_default=False)]
NodeName = Annotated[str | None, typer.Option("--node", help="The node's name (default: node).", show_default=False)]
NatsUrl = Annotated[str | None, typer.Option("--nats", help="An existing NATS server instead of an embedded one.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]

T = TypeVar("T")

# Results go to stdout, everything else to stderr.
console = Console(highlight=False)
_errors = Console(stderr=True, highlight=False)


class UserError(Exception):
    """A mistake of the user's, or something they can mend: what is wrong and what to do. Never shown with a traceback."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy


# What can go wrong without being a defect: shown as one sentence.
_EXPECTED = (
    UserError,
    ConfigError,
    NotRunning,
    FolderInUse,
    Refused,
    UnusableKey,
    ServerError,
    DangerousSettings,
    ApiError,
    BusError,
    StoreError,
    GaveUp,
    BrokenGraph,
    CodecError,
)


def load_settings(
    config: Path | None = None, data_dir: Path | None = None, node: str | None = None, nats: str | None = None, **flags: object
) -> Loaded:
    """The configuration in force. Further flags by key with `__` for the dot (`feed__source`). Raises ConfigError."""
    given: dict[str, object] = {"data_dir": data_dir, "node": node, "nats.url": nats}
    given |= {key.replace("__", "."): value for key, value in flags.items()}
    return load_config(config, environ=os.environ, flags=given, sections=SECTIONS)


def say(text: str) -> None:
    """A line for people, on stdout; rich markup."""
    console.print(text, soft_wrap=True)


def print_json(value: object) -> None:
    """One JSON value on stdout."""
    sys.stdout.write(json.dumps(value, indent=2 if sys.stdout.isatty() else None) + "\n")
    sys.stdout.flush()


def run_async(work: Callable[[], Awaitable[T]]) -> T:
    """Run `work` in an event loop of its own; a lone error in a task group comes out as itself."""

    async def main() -> T:
        return await work()

    try:
        return anyio.run(main)
    except BaseExceptionGroup as group:
        raise lone(group) from group


def report(error: BaseException) -> int:
    """Say what went wrong and return the exit code; raises it again when it is a defect."""
    error = lone(error)
    if not isinstance(error, _EXPECTED):
        raise error
    _errors.print(f"[bold red]error:[/] {_escaped(str(error))}", soft_wrap=True)
    remedy = error.remedy if isinstance(error, UserError) else ""
    if remedy:
        _errors.print(_escaped(remedy), soft_wrap=True)
    return USER_ERROR if isinstance(error, UserError | ConfigError | NotRunning | FolderInUse | CodecError) else 1


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")


def fail(problem: str, remedy: str = "") -> NoReturn:
    raise UserError(problem, remedy)


def find_message(name: str, kind: Kind) -> Spec:
    """The command or query of that name (`register_vote`, `votes_db.register_vote`). Raises UserError."""
    catalog = load_contract()
    found = [spec for spec in catalog.by_name(name.replace("-", "_")) if spec.kind is kind]
    if len(found) == 1:
        return found[0]
    what = "command" if kind is Kind.COMMAND else "query"
    if found:
        fail(f"{name!r} is ambiguous", "use one of: " + ", ".join(f"{s.owner}.{s.name}" for s in found))
    known = ", ".join(sorted(s.name for s in catalog if s.kind is kind))
    fail(f"there is no {what} {name!r}", f"there are: {known}")


def parse_body(spec: Spec, text: str) -> Message:
    """A body from JSON text, `-` (standard input) or `@file`; CBOR bytes are taken from input and files too. Raises UserError."""
    if text == "-":
        data = sys.stdin.buffer.read()
    elif text.startswith("@"):
        try:
            data = Path(text[1:]).read_bytes()
        except OSError as error:
            fail(f"{text[1:]} cannot be read: {error.strerror}")
    else:
        data = text.encode()
    from messages.codec import decode

    if data.lstrip()[:1] in (b"{", b""):
        return from_json(spec, data or b"{}")
    return decode(spec, data)


def plain_message(message: Message) -> Any:
    """A message as plain JSON data, bytes as 0x-hex."""
    return json.loads(to_json(message))


def running_node(loaded: Loaded) -> RunInfo:
    """The node that runs on the configured folder. Raises NotRunning."""
    return NodeFolder(loaded.config.data_dir).running()


def server_url(loaded: Loaded) -> str:
    """The configured server, else that of the node running on the folder. Raises NotRunning."""
    return loaded.config.nats.url or running_node(loaded).url


def running_client(loaded: Loaded, user: str = "operator") -> Any:
    """An async context of a `Client` of the running node."""
    return Client.connected(loaded.config, server_url(loaded), user)
