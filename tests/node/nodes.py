"""A node as its user runs it: the command line as a process, its children found, and what it leaves behind."""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any, NamedTuple, TypeVar

import anyio
import pytest

from messages.chain_api import ImportBlock
from messages.message import Message
from messages.overseer import CommandOutcome
from messages.polkadot import VoteKind
from messages.scale import candidate_hash
from messages.subjects import HEADER_ID, MessageId, node_stream
from messages.votes_db import QueryVotes, RegisterVote, VotesSnapshot
from overseer.cli.common import load_settings
from overseer.feeds.author import genesis_of
from overseer.feeds.keyring import Keyring
from overseer.feeds.make import make_block, make_bundle, make_receipt, make_validators
from overseer.node.client import Client, Refused
from overseer.node.folder import NodeFolder, RunInfo
from overseer.node.report import NodeReport, node_report
from overseer.observe.http import fetch
from overseer.ports.bus import BusError
from overseer.settings import Loaded
from overseer.sites.client import SitesClient

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60.0
# A killed subsystem answers nobody: asked again after this long.
ANSWER_MS = 3_000
# Children inherit it: by it a test finds every process it has started, however it went.
MARK = "OVERSEER_TEST_MARK"
# Those that blocks and votes keep at work, and all there are.
DISPUTE_PATH = ("chain_api", "votes_db", "dispute_conclusion")
SUBSYSTEMS = (*DISPUTE_PATH, "elections", "consensus_manager")


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def die_with_the_tests() -> None:
    """In the child: end in order when the tests are killed."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Done(NamedTuple):
    """A finished command."""

    code: int
    out: str
    error: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Place:
    """A folder in which commands are given: a node's data, a folder for temporary files, an environment of its own."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True, exist_ok=True)
        self.mark = token_hex(8)
        self.settings: dict[str, object] = {"feed.source": "none", "verification.workers": 0, "log.format": "json", **settings}

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OVERSEER_")}
        told = {f"OVERSEER_{key.replace('.', '_').upper()}": str(value) for key, value in self.settings.items()}
        own = {"PYTHONPATH": str(ROOT), "TMPDIR": str(self.temporary), "OVERSEER_DATA_DIR": str(self.data), MARK: self.mark}
        return {**kept, **told, **own}

    def start(self, *argv: str, env: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[bytes]:
        """`overseer` with these arguments; stdin is /dev/null unless given."""
        return subprocess.Popen(
            [sys.executable, "-m", "overseer.cli.entry", *argv],
            cwd=self.folder,
            env={**self.environment, **(env or {})},
            **{"stdin": subprocess.DEVNULL, "start_new_session": True, "preexec_fn": die_with_the_tests, **options},
        )

    def run(self, *argv: str, stdin: bytes | None = None, env: Mapping[str, str] | None = None, timeout: float = DEADLINE_S) -> Done:
        """`overseer` with these arguments, to its end."""
        given = {} if stdin is None else {"stdin": subprocess.PIPE}
        process = self.start(*argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **given)
        try:
            out, error = process.communicate(stdin, timeout=timeout)
        finally:
            process.kill()
        return Done(process.returncode, out.decode(), error.decode())

    def loaded(self) -> Loaded:
        return load_settings(data_dir=self.data)

    def processes(self) -> list[int]:
        """Everything alive that this place has started."""
        found: list[int] = []
        needle = f"{MARK}={self.mark}".encode()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if needle in (entry / "environ").read_bytes() and b") Z " not in (entry / "stat").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def kill_everything(self) -> None:
        """At one instant, as nearly as signals go; returns when all are gone."""
        deadline = time.monotonic() + 30
        while left := self.processes():
            for pid in left:
                _kill(pid)
            if time.monotonic() > deadline:
                raise TimeoutError(f"processes {left} do not end")
            time.sleep(0.002)

    def clean(self) -> None:
        """Assert that nothing is left: no process, no temporary file. What is left is ended all the same."""
        deadline = time.monotonic() + 10
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.02)
        shown = {pid: _command_line(pid) for pid in left}
        for pid in left:
            _kill(pid)
        assert not shown, f"left running: {shown}"
        assert not list(self.temporary.iterdir()), "temporary files are left"


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _command_line(pid: int) -> str:
    """What a process is; "" when it has just gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@contextmanager
def place(folder: Path, **settings: object) -> Iterator[Place]:
    """A place that must be left clean, also when the test fails. Settings are keys with `__` for the dot."""
    made = Place(folder, **{key.replace("__", "."): value for key, value in settings.items()})
    try:
        yield made
    finally:
        made.clean()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    """The test's place. A conftest imports it."""
    with place(tmp_path) as made:
        yield made


class Node:
    """A node that runs, and its processes. Made by `Node.up`."""

    def __init__(self, place: Place, process: subprocess.Popen[bytes], log: Path) -> None:
        self.place = place
        self.process = process
        self.log = log
        self.info: RunInfo

    @staticmethod
    @asynccontextmanager
    async def up(place: Place, *argv: str, env: Mapping[str, str] | None = None, ready: bool = True) -> AsyncIterator["Node"]:
        """Start a node; ended in order afterwards, if it still runs."""
        node = Node.start(place, *argv, env=env)
        try:
            if ready:
                await node.ready()
            yield node
        finally:
            await node.stop()

    @staticmethod
    def start(place: Place, *argv: str, env: Mapping[str, str] | None = None) -> "Node":
        log = place.folder / f"run-{time.monotonic_ns()}.log"
        with log.open("wb") as file:
            process = place.start("run", "--json", *argv, env=env, stdout=subprocess.DEVNULL, stderr=file)
        return Node(place, process, log)

    async def ready(self) -> None:
        """Wait until all subsystems are ready. Raises AssertionError with the log when it ends instead."""
        await self.logged("ready")
        self.info = NodeFolder(self.place.data).last_run()

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return await self.ended()

    async def ended(self) -> int:
        """Wait for its end; the exit code."""
        try:
            await eventually(lambda: self.process.poll() is not None, "the node ends", log=self.text)
        finally:
            self.process.kill()
            self.process.wait()
        return self.process.returncode

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def text(self) -> str:
        """All it wrote to stderr."""
        return self.log.read_text(errors="replace")

    def events(self, name: str) -> list[dict[str, Any]]:
        """Log lines of that event, in order."""
        lines = (line for line in self.text().splitlines() if line.startswith("{") and line.endswith("}"))
        return [event for event in map(json.loads, lines) if event.get("event") == name]

    async def logged(self, name: str, *, times: int = 1, **fields: object) -> dict[str, Any]:
        """Wait for that log event (the `times`-th with these fields)."""

        def found() -> list[dict[str, Any]]:
            return [e for e in self.events(name) if all(e.get(key) == value for key, value in fields.items())]

        await eventually(
            lambda: len(found()) >= times or self.process.poll() is not None, f"{name} {fields} is logged {times} times", log=self.text
        )
        assert len(found()) >= times, f"the node ended with {self.process.returncode}:\n{self.text()[-4000:]}"
        return found()[times - 1]

    def pid(self, name: str) -> int:
        """The process of a subsystem, of `nats-server`, or of the `overseer` itself."""
        if name == "overseer":
            return self.process.pid
        if name == "nats-server":
            return self.events("nats_started")[-1]["server_pid"]
        return [event["child_pid"] for event in self.events("child_started") if event["child"] == name][-1]

    def client(self, user: str = "operator") -> AbstractAsyncContextManager[Client]:
        return Client.connected(self.place.loaded().config, NodeFolder(self.place.data).last_run().url, user)

    async def report(self, client: Client) -> NodeReport:
        """What `overseer status` tells."""
        return await node_report(self.place.loaded().config, self.info, client.connection)


async def eventually(condition: Callable[[], bool], what: str, *, log: Callable[[], str] = str, seconds: float = DEADLINE_S) -> None:
    """Wait for something that the system does by itself."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        await anyio.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what}\n{log()[-4000:]}")


async def readiness(node: Node, wanted: bool) -> None:
    """Wait until the node says that it is, or is not, ready: its processes tell it how they are once in a while."""
    with anyio.fail_after(DEADLINE_S):
        while ((await fetch(node.info.http_port, "/readyz", timeout_ms=3_000)).status == 200) is not wanted:
            assert node.process.poll() is None, node.text()[-4000:]
            await anyio.sleep(0.05)


# ------------------------------------------------------------------------------------------------ talking


async def told(client: Client, command: Message, command_id: str, *, seconds: float = DEADLINE_S) -> CommandOutcome:
    """The outcome of an accepted command, whatever is killed meanwhile: asked again under the same id until it is known."""
    attempt = 0
    with anyio.fail_after(seconds):
        while True:
            try:
                return await client.request(command, command_id=f"{command_id}.{attempt}", timeout_ms=ANSWER_MS)
            except Refused as refused:
                # A refusal is this id's outcome for good; where it may pass, another command is needed.
                if not refused.retriable:
                    raise
                attempt += refused.code not in ("timeout", "busy")
            except BusError:
                pass
            await anyio.sleep(0.02)


async def persistently(ask: Callable[[], Awaitable[T]], *, seconds: float = DEADLINE_S) -> T:
    """What it comes to, whatever is killed meanwhile: asked again where it is refused for now, or nobody answers."""
    with anyio.fail_after(seconds):
        while True:
            try:
                return await ask()
            except Refused as refused:
                if not refused.retriable:
                    raise
            except BusError:
                pass
            await anyio.sleep(0.02)


async def answered(client: Client | SitesClient, query: Message, *, seconds: float = DEADLINE_S) -> Message:
    """The answer, whatever is killed meanwhile."""
    return await persistently(lambda: client.query(query), seconds=seconds)


class Stored(NamedTuple):
    """A message of the node's stream."""

    sequence: int
    subject: str
    headers: dict[str, str]
    body: bytes = b""


async def history(client: Client) -> list[Stored]:
    """The whole of the node's stream as the operator sees it, headers decoded."""
    import base64

    stream = node_stream(client.node)
    answer = await client.connection.request(f"$JS.API.STREAM.INFO.{stream}", b"", timeout_ms=5_000)
    state = json.loads(answer.body)["state"]
    found: dict[int, Stored] = {}

    async def get(sequence: int) -> None:
        reply = await client.connection.request(
            f"$JS.API.STREAM.MSG.GET.{stream}", json.dumps({"seq": sequence}).encode(), timeout_ms=10_000
        )
        message = json.loads(reply.body).get("message")
        if message is not None:
            lines = base64.b64decode(message.get("hdrs", "")).decode().split("\r\n")[1:]
            headers = dict(line.split(": ", 1) if ": " in line else line.split(":", 1) for line in lines if line)
            found[sequence] = Stored(sequence, message["subject"], headers, base64.b64decode(message.get("data", "")))

    for first in range(state["first_seq"], state["last_seq"] + 1, 64):
        async with anyio.create_task_group() as tasks:
            for sequence in range(first, min(first + 64, state["last_seq"] + 1)):
                tasks.start_soon(get, sequence)
    return [found[sequence] for sequence in sorted(found)]


def said_once(messages: list[Stored]) -> None:
    """Assert: what every subsystem says carries an id, each once, in order (per incarnation)."""
    last: dict[tuple[str, str], tuple[int, int]] = {}
    for message in messages:
        sender = message.subject.split(".")[2]
        if sender.startswith(("op_", "req_")) or sender == "overseer":
            continue
        id = MessageId.parse(message.headers[HEADER_ID])
        at = (id.sequence, id.index)
        assert id.sender == sender
        assert at > last.get((sender, id.incarnation), (0, -1)), f"{message} is said twice or out of order"
        last[sender, id.incarnation] = at


# ------------------------------------------------------------------------------------------------ votes

SEED = "0"


class Ballots(NamedTuple):
    """A session with its validators, and signed bundles for it."""

    opening: ImportBlock
    bundles: list[RegisterVote]

    @property
    def votes(self) -> int:
        return sum(len(bundle.explicit_votes) for bundle in self.bundles)


def ballots(bundles: int, validators: int) -> Ballots:
    """Each bundle is a whole dispute, decided for its candidate: all validators vote, one of them against."""
    keys: Keyring = make_validators(SEED, validators)
    genesis = genesis_of(SEED)
    opening = make_block(genesis, 1, session=1, epoch_start=1, session_start=keys.validators)
    made: list[RegisterVote] = []
    for number in range(bundles):
        receipt = make_receipt(f"{SEED}/{number}", para_id=1000 + number, relay_parent=genesis)
        kinds = [VoteKind.EXPLICIT_VALID] * (validators - 1) + [VoteKind.EXPLICIT_INVALID]
        made.append(make_bundle(keys, receipt, list(enumerate(kinds)), session=1, block_number=1))
    return Ballots(opening, made)


async def votes_of(client: Client, bundle: RegisterVote) -> VotesSnapshot:
    answer = await answered(client, QueryVotes(session=1, candidate=candidate_hash(bundle.candidate)))
    assert isinstance(answer, VotesSnapshot)
    return answer


def verified(place: Place) -> None:
    """`overseer verify`: all three stores equal."""
    done = place.run("verify", "--json", timeout=300)
    assert done.code == 0, done
    assert {verdict["subsystem"]: verdict["ok"] for verdict in done.json} == dict.fromkeys(SUBSYSTEMS, True), done.out


def copied(source: Path, target: Path) -> None:
    """Replace `target` by a copy of `source`."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
