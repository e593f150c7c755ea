"""A virtual overseer: the real runner with one subsystem, and a test that plays everybody else (docs/testing.md).

    async with MemoryWorld() as world, VirtualOverseer(VotesDb(), world) as overseer:
        await overseer.start()
        await overseer.signal(SessionChange(index=5, validators=[...]))
        await overseer.inject(RegisterVote(...), sender="op_alice", command_id="c1")
        told = await overseer.expect(Detection)
        await overseer.kill()                      # as SIGKILL: nothing is concluded
        await overseer.restart()                   # on the same store
        assert (await overseer.verify()).ok

What is injected passes the stream and the codec as any message; what the subsystem sends is read from the stream.
"""

import contextlib
from collections.abc import Callable, Generator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
import anyio.abc
import msgspec

from messages.codec import CodecError, decode, encode
from messages.message import CATALOG, Kind, Message, Rejection, Spec
from messages.overseer import CommandOutcome
from messages.subjects import HEADER_COMMAND_ID, HEADER_SCHEMA, SubjectError, build, net_stream, node_stream, parse, request_subject
from overseer.checks import InlineVerifier, Verifier
from overseer.graph import filters, net_filters, networked
from overseer.limits import Limits
from overseer.memory.bus import LineFaults, MemoryLine
from overseer.ports.bus import Line, Outgoing, Response, StoredMessage
from overseer.ports.store import Store
from overseer.ports.tracer import Tracer
from overseer.runner import journal
from overseer.runner.observer import Step
from overseer.runner.runner import Ports, Runner
from overseer.runner.schema import Head, Record
from overseer.runner.trust import Trust
from overseer.runner.verify import Verdict, base_of, verify
from overseer.subsystem import Subsystem
from overseer.tables import View
from overseer.testing.intercepted import InterceptedLine, Interception
from overseer.testing.voices import Voice
from overseer.testing.witness import Killed, Witness
from overseer.testing.worlds import Disk, Session, World

__all__ = ["Sent", "VirtualOverseer"]

M = TypeVar("M", bound=Message)

_LOOK_S = 0.002
_WITHIN_S = 10.0
_REQUEST_MS = 5_000


class Sent(msgspec.Struct, frozen=True):
    """A message of the subsystem as the stream holds it. `message` is None when it cannot be decoded (a malicious one)."""

    stream: str
    stored: StoredMessage
    message: Message | None


class VirtualOverseer:
    """One subsystem under test. Enter it, `start` it, talk to it; several may share a world (and a node)."""

    def __init__(
        self,
        subsystem: Subsystem,
        world: World,
        *,
        node: str = "test",
        limits: Limits | None = None,
        run_id: str = "run",
        verifier: Verifier | None = None,
        extra_filters: Sequence[str] = (),
        trust: Trust | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """`extra_filters`: subjects that its consumer delivers besides what it declares (an older or newer release's).

        `tracer` is told of every message.
        """
        self._tracer = tracer
        self._trust = trust
        self.subsystem = subsystem
        self.world = world
        self.node = node
        self.limits = limits or Limits(reconnect_ms=2, reconnect_ms_max=10)
        self.witness = Witness()
        # Why the runner ended by itself, if it did.
        self.failure: BaseException | None = None
        self.runner: Runner | None = None
        self._run_id = run_id
        self._verifier = verifier or InlineVerifier()
        self._extra = tuple(extra_filters)
        self._entropy = world.entropy(f"{node} {subsystem.declaration.name}")
        self._disk = world.disk(node, subsystem.declaration)
        self._store: Store | None = None
        self._session: Session | None = None
        self._voices: dict[tuple[str, str], Voice] = {}
        self._interception: Interception | None = None
        self._tasks: anyio.abc.TaskGroup | None = None
        self._scope = anyio.CancelScope()
        self._ended = anyio.Event()
        self._ended.set()
        # Where reading goes on, by stream; what was read and not yet expected.
        self._next = {node_stream(node): 1, net_stream(): 1}
        self._unexpected: list[Sent] = []

    @property
    def name(self) -> str:
        return self.subsystem.declaration.name

    @property
    def running(self) -> bool:
        return not self._ended.is_set()

    @property
    def streams(self) -> list[str]:
        """The streams it takes part in, the node's first."""
        return [node_stream(self.node), *([net_stream()] if networked(self.subsystem.declaration) else [])]

    async def __aenter__(self) -> Self:
        await self.world.provide(self.node, self.subsystem.declaration, self._extra)
        self._tasks = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._tasks is not None
        with anyio.CancelScope(shield=True):
            await self.kill()
        await self._tasks.__aexit__(kind, error, trace)

    # -------------------------------------------------------------------------------------------- life

    async def start(self, *, within_s: float = _WITHIN_S, ready: bool = True) -> None:
        """Start the runner on the store as it is. Raises what it ended with; TimeoutError when it is not ready in time.

        `ready=False` returns at once (when there is no bus yet, say).
        """
        if self.running:
            raise RuntimeError(f"{self.name} is running: kill or conclude it first")
        if self._tasks is None:
            raise RuntimeError("use it within `async with`")
        self.failure, self.runner, self._ended, self._scope = None, None, anyio.Event(), anyio.CancelScope()
        self._tasks.start_soon(self._run)
        if ready:
            await self.until(lambda: not self.running or (self.runner is not None and self.runner.progress.ready), within_s=within_s)
        if self.failure is not None:
            raise self.failure

    async def restart(self, *, within_s: float = _WITHIN_S, ready: bool = True) -> None:
        """Kill it if it runs, and start it on the same store: a new process of the same subsystem."""
        await self.kill()
        await self.start(within_s=within_s, ready=ready)

    async def kill(self, *, keep_unsynced: bool = False) -> None:
        """As SIGKILL: nothing is concluded or told any more; a memory store loses what it had not synced, or keeps it."""
        running = self.running
        if running and not self.world.real and self._store is not None:
            # Before anything of the process can react to its end.
            self._disk.crash(keep_unsynced=keep_unsynced)
        self._scope.cancel()
        await self._ended.wait()
        if running:
            self.failure = None

    async def conclude(self, *, within_s: float = _WITHIN_S) -> None:
        """End it in order, and wait for the end."""
        if self.runner is not None:
            self.runner.conclude()
        await self.ended(within_s=within_s)

    async def ended(self, *, within_s: float = _WITHIN_S) -> BaseException | None:
        """Wait until the runner ended; returns the fault that it ended with."""
        with anyio.fail_after(within_s):
            await self._ended.wait()
        return self.failure

    def kill_at(self, step: Step, times: int = 1) -> None:
        """Kill it when it passes `step` for the `times`-th time from now. Wait for it with `ended`."""
        self.witness.kill_at(step, times)

    async def _run(self) -> None:
        try:
            with self._scope:
                await self._serve()
        except Killed:
            pass
        except Exception as error:
            self.failure = error
        finally:
            self._ended.set()

    async def _serve(self) -> None:
        self._store = store = self._disk.open()
        try:
            async with self.world.session(self.node, self.subsystem.declaration) as session:
                self._session = session
                lines: dict[str, Line] = {name: InterceptedLine(line, lambda: self._interception) for name, line in session.lines.items()}
                ports = Ports(
                    store=store,
                    lines=lines,
                    exchange=session.exchange,
                    clock=self.world.clock,
                    entropy=self._entropy,
                    verifier=self._verifier,
                    trust=self._trust,
                    tracer=self._tracer,
                )
                self.runner = Runner(self.subsystem, self.node, ports, limits=self.limits, run_id=self._run_id, observer=self.witness)
                try:
                    await self.runner.run()
                except Killed:
                    self._disk.crash()
                    raise
        finally:
            store.close()
            self._store = self._session = None

    # -------------------------------------------------------------------------------------------- talking to it

    def voice(self, sender: str, *, node: str | None = None) -> Voice:
        """A sender: another subsystem, `op_<name>`, `overseer`; of this node or (for network messages) of another."""
        key = (node or self.node, sender)
        if key not in self._voices:
            self._voices[key] = Voice(self.world, *key, self.world.entropy(f"voice {key}"))
        return self._voices[key]

    async def inject(
        self,
        message: Message,
        *,
        sender: str = "op_test",
        command_id: str = "",
        headers: Mapping[str, str | None] | None = None,
        body: bytes | None = None,
        subject: str | None = None,
        from_node: str | None = None,
    ) -> int:
        """Put a message into the stream; returns its sequence. It is handled in its turn: see `settled`, `expect`.

        A subsystem as `sender` announces its incarnation and numbers its messages. For hostile input give `body`, `subject` or
        single `headers` (None removes one), which are taken as they are.
        """
        voice = self.voice(sender, node=from_node)
        return await voice.say(message, command_id=command_id, headers=headers, body=body, subject=subject)

    async def signal(self, message: Message) -> int:
        """Put a signal into the stream, sent by its owner."""
        return await self.inject(message, sender=message.spec.owner)

    async def repeat(self, sequence: int, *, body: bytes | None = None) -> int:
        """Store a message once more, headers and all, as a sender that retries does (with another `body`: a liar)."""
        stored = await self.world.message_at(self.streams[0], sequence)
        assert stored is not None, f"there is no message {sequence}"
        return await self.world.append(Outgoing(stored.subject, stored.headers, stored.body if body is None else body))

    async def ask(self, query: Message) -> Message:
        """Its answer: the reply, or a Rejection as a value."""
        response = await self.call(build(self.node, "op_test", query.spec), encode(query), {HEADER_SCHEMA: str(query.spec.version)})
        return _answer(query.spec, response, query.spec.reply)

    async def request(self, command: Message, *, command_id: str = "", timeout_ms: int = _REQUEST_MS) -> CommandOutcome | Rejection:
        """Send a command through its endpoint and await the outcome; a Rejection when it was not taken (Busy, Timeout, ...)."""
        headers = {HEADER_SCHEMA: str(command.spec.version), **({HEADER_COMMAND_ID: command_id} if command_id else {})}
        response = await self.call(request_subject(self.node, command.spec), encode(command), headers, timeout_ms=timeout_ms)
        answer = _answer(command.spec, response, CommandOutcome)
        assert isinstance(answer, CommandOutcome | Rejection)
        return answer

    async def call(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None, *, timeout_ms: int = _REQUEST_MS) -> Response:
        """A request with these very bytes (JSON, say). Without a content type, CBOR is declared. Raises BusUnavailable."""
        return await self.world.request(subject, body, dict(headers or {}), timeout_ms)

    def intercept(self, change: Interception | None) -> None:
        """From now on have what it sends altered, dropped (None) or doubled on its way out; None ends that."""
        self._interception = change

    async def advance(self, ms: int) -> None:
        """Let time pass (in memory at once), then let it settle."""
        await self.world.advance(ms)
        await self.settled()

    # -------------------------------------------------------------------------------------------- what it does

    async def settled(self, *, within_s: float = _WITHIN_S) -> None:
        """Return when all that was injected is handled, all that follows published, and no timer due. Raises what it ended with.

        Raises AssertionError when it does not settle in time, or was killed.
        """
        declared = self.subsystem.declaration
        patterns = {"node": [*filters(declared, self.node), *self._extra], "net": net_filters(declared)}

        async def idle() -> bool:
            if self.failure is not None:
                raise self.failure
            if not self.running:
                raise AssertionError(f"{self.name} is not running")
            runner = self.runner
            if runner is None or not runner.settled():
                return False
            wanted = {
                name: await self.world.last_matching(stream, patterns[name]) for name, stream in zip(patterns, self.streams, strict=False)
            }
            return runner.settled() and all(runner.positions().get(name, 0) >= sequence for name, sequence in wanted.items())

        with anyio.move_on_after(within_s):
            while True:
                if await idle():
                    return
                await anyio.sleep(_LOOK_S)
        raise AssertionError(f"{self.name} has not settled within {within_s} s; troubles: {self.witness.troubles[-5:]}")

    async def sent(self, *kinds: type[Message]) -> list[Message]:
        """Everything of these types (all, without any) that it has in the streams now, in order."""
        found = [entry for stream in self.streams for entry in await self._read(stream, 1)]
        return [entry.message for entry in found if entry.message is not None and (not kinds or isinstance(entry.message, kinds))]

    async def sent_raw(self) -> list[Sent]:
        """Everything it has in the streams now, with headers and bodies as stored."""
        return [entry for stream in self.streams for entry in await self._read(stream, 1)]

    async def expect(self, kind: type[M], where: Callable[[M], bool] | None = None, *, within_s: float = 5.0) -> M:
        """The next message of this type that it sends and `where` accepts; what it sent before that counts as seen.

        Raises AssertionError when none comes in time, telling what came instead.
        """
        passed: list[str] = []
        with anyio.move_on_after(within_s):
            while True:
                for stream in self.streams:
                    new = await self._read(stream, self._next[stream])
                    if new:
                        self._next[stream] = new[-1].stored.sequence + 1
                        self._unexpected += new
                while self._unexpected:
                    message = self._unexpected.pop(0).message
                    if isinstance(message, kind) and (where is None or where(message)):
                        return message
                    passed.append(message.spec.key if message is not None else "(undecodable)")
                if self.failure is not None:
                    raise self.failure
                await anyio.sleep(_LOOK_S)
        troubles = self.witness.troubles[-5:]
        raise AssertionError(f"no {kind.spec.key} within {within_s} s; instead: {passed or 'nothing'}; troubles: {troubles}")

    async def _read(self, stream: str, start: int) -> list[Sent]:
        state = await self.world.state(stream)
        found: list[Sent] = []
        for sequence in range(max(start, state.first_sequence), state.last_sequence + 1):
            stored = await self.world.message_at(stream, sequence)
            if stored is not None and (entry := self._own(stream, stored)) is not None:
                found.append(entry)
        return found

    def _own(self, stream: str, stored: StoredMessage) -> Sent | None:
        try:
            address = parse(stored.subject)
        except SubjectError:
            return None
        if (address.node, address.sender) != (self.node, self.name):
            return None
        spec = address.spec()
        try:
            version = int(stored.headers.get(HEADER_SCHEMA, "1"))
            return Sent(stream, stored, decode(spec, stored.body, version=version) if spec is not None else None)
        except (CodecError, ValueError):
            return Sent(stream, stored, None)

    async def until(self, condition: Callable[[], bool], *, within_s: float = _WITHIN_S) -> None:
        """Return when `condition` holds, looking again and again. Raises TimeoutError."""
        with anyio.fail_after(within_s):
            while True:
                if condition():
                    return
                await anyio.sleep(_LOOK_S)

    # -------------------------------------------------------------------------------------------- its store

    def line(self, name: str = "node") -> MemoryLine:
        """Its line to the node's stream or the network's ("net"): to be cut and healed. In memory, while it runs."""
        line = self._session.lines[name] if self._session is not None else None
        assert isinstance(line, MemoryLine), "a line can be had in memory and while it runs"
        return line

    @property
    def faults(self) -> LineFaults:
        """What goes wrong on its line to the node's stream. In memory, while it runs."""
        return self.line().faults

    @property
    def disk(self) -> Disk:
        return self._disk

    @contextlib.contextmanager
    def stored(self) -> Generator[Store, None, None]:
        """Its store: the running one, else opened for the moment (to look at, or to damage)."""
        if self._store is not None:
            yield self._store
            return
        store = self._disk.open()
        try:
            yield store
        finally:
            store.close()

    def journal(self) -> list[Record]:
        """All records, checked along their chain. Raises JournalBroken."""
        with self.stored() as store:
            oldest = max(1, journal.first_index(store))
            return [record for record, _ in journal.records(store, after=oldest - 1)]

    def events(self, *kinds: type[Message]) -> list[Message]:
        """The recorded events of these types (all, without any), in order."""
        with self.stored() as store:
            found = [event for record in self.journal() for event in journal.events_of(store, record)]
        return [event for event in found if not kinds or isinstance(event, kinds)]

    def head(self) -> Head:
        """Where the store stands."""
        with self.stored() as store:
            head = journal.read_head(store)
        assert head is not None, "nothing was ever committed"
        return head

    def view(self) -> View:
        """Its tables, while it runs."""
        assert self._store is not None, f"{self.name} is not running: use `stored`"
        return View(self._store)

    async def verify(self) -> Verdict:
        """Rebuild everything from the journal and compare; from the oldest checkpoint when the journal was shortened."""
        with self.stored() as store, base_of(store) as base:
            return await verify(self.subsystem, self.node, store, base)

    async def new_store(self) -> None:
        """Kill it and delete its store."""
        await self.kill()
        self._disk.wipe()

    async def backup(self) -> Disk:
        """Kill it and copy its store."""
        await self.kill()
        return self._disk.backup()

    async def restore_backup(self, backup: Disk) -> None:
        """Kill it and put the copy in its store's place."""
        await self.kill()
        self._disk.restore(backup)

    # -------------------------------------------------------------------------------------------- its streams

    async def truncate_stream(self, count: int, *, stream: str | None = None) -> None:
        """The node's stream (or `stream`) loses its last `count` messages."""
        stream = stream or self.streams[0]
        await self.world.truncate(stream, count)
        self._next[stream] = min(self._next[stream], (await self.world.state(stream)).last_sequence + 1)

    async def replace_stream(self, *, stream: str | None = None) -> None:
        """The node's stream (or `stream`) was deleted and made anew."""
        stream = stream or self.streams[0]
        await self.world.replace(stream)
        self._next[stream] = 1


def _answer(spec: Spec, response: Response, kind: type[Message] | None) -> Any:
    """What a response holds: the reply, the outcome, or a refusal by the code in its error headers."""
    if response.error is not None:
        code = response.error[1]
        refusal = CATALOG.find(Kind.REJECTION, "overseer", code) or CATALOG.find(Kind.REJECTION, spec.owner, code)
        if refusal is not None:
            with contextlib.suppress(CodecError):
                return decode(refusal, response.body)
        if kind is not CommandOutcome or not response.body:
            raise AssertionError(f"{spec.key} failed: {response.error}")
    assert kind is not None
    return decode(kind.spec, response.body)
