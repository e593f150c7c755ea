"""Everybody outside: asks for commands and asks again, publishes, and remembers what it was told."""

from collections.abc import Mapping, Sequence
from random import Random

import anyio
import msgspec

from messages.codec import CodecError, decode, encode
from messages.message import CATALOG, Kind, Message
from messages.overseer import CommandOutcome, IncarnationStarted, OutcomeStatus
from messages.subjects import HEADER_COMMAND_ID, HEADER_ID, MessageId, build, headers_of, request_subject
from overseer.ports.bus import BusUnavailable, OutcomeUnknown, Outgoing, Response, StoredMessage, StreamFull
from overseer.runner.intake import is_outside
from overseer.simulation.network import SimulatedNetwork
from overseer.simulation.scenario import CALLER, Answer, Submission, Violation
from overseer.simulation.watch import Watch
from overseer.simulation.wires import Pace

__all__ = ["Clients"]

# How long one asking is waited for; more than the endpoint itself waits.
_PATIENCE_S = 7.0
_PAUSES_S = (0.05, 0.3, 1.0, 3.0)
# A refusal that may pass is asked about again so often, with growing pauses; at the end once more.
_REFUSALS_MAX = 6
# One in so many callers asks again after it was told, under the same id: it must hear the same.
_FORGETFUL = 5


class _Told(msgspec.Struct, frozen=True):
    """An outcome: `code` as in `Answer`."""

    code: str
    retriable: bool
    reply: bytes | None
    raw: bytes


class Clients:
    """`open` are the submissions that nobody was told the end of. Implements `overseer.simulation.scenario.Outside`."""

    def __init__(self, network: SimulatedNetwork, watch: Watch, traffic: Sequence[Submission]) -> None:
        self.open: dict[int, str] = {}
        # How many there were.
        self.submitted = 0
        # How often somebody who knew the outcome asked again under the same id.
        self.asked_again = 0
        self.network = network.network
        self._network = network
        self._watch = watch
        self._traffic = traffic
        self._voices: dict[tuple[str, str], _Voice] = {}
        self._queries = Random(f"{self.network.seed} queries")
        self._requestable = frozenset(body for process in network.processes for body in process.declaration.requests)

    async def submit_all(self) -> None:
        """Everybody in his time; returns when all have ended."""
        async with anyio.create_task_group() as tasks:
            for submission in self._traffic:
                await anyio.sleep(max(0.0, submission.at_ms / 1000 - self._network.loop.time()))
                tasks.start_soon(self.submit, submission)

    def now_s(self) -> float:
        return self._network.loop.time()

    def stream(self, node: str) -> Sequence[StoredMessage]:
        bus = self._network.bus(node)
        return bus.stream.messages() if bus is not None else ()

    async def submit(self, submission: Submission) -> str:
        place, self.submitted = self.submitted, self.submitted + 1
        what = submission.message.spec.key if submission.message is not None else submission.subject
        self.open[place] = f"input {place} ({what} {submission.command_id}) of {submission.node} was never answered"
        self._watch.submitted(submission)
        client = _Client(self._network, submission.node, submission.sender, Random(f"{self.network.seed} client {place}"))
        code = ""
        if submission.command_id and submission.message is not None and type(submission.message) in self._requestable:
            code = await self._ask(client, submission)
        else:
            await self._publish(client, submission)
        del self.open[place]
        return code

    async def query(self, node: str, query: Message) -> Message | None:
        return await _Client(self._network, node, CALLER, self._queries).answer(query)

    def violated(self, violation: Violation) -> None:
        self._watch.violated(violation)

    async def _ask(self, client: "_Client", submission: Submission) -> str:
        """What was told last."""
        until_s = self._network.loop.time() + submission.patience_ms / 1000
        command_id, refusals = submission.command_id, 0
        while True:
            told = await client.outcome(submission, command_id, until_s)
            self._tell(submission, command_id, told)
            if told is not None and client.random.randrange(_FORGETFUL) == 0:
                self.asked_again += 1
                again = await client.outcome(submission, command_id, until_s)
                if again is not None:
                    self._tell(submission, command_id, again)
            if told is None or not told.retriable or refusals >= _REFUSALS_MAX or self._network.loop.time() >= until_s:
                return "" if told is None else told.code
            refusals += 1
            command_id = f"{submission.command_id}.{refusals}"
            await anyio.sleep(min(0.5 * 3**refusals, 60))

    def _tell(self, submission: Submission, command_id: str, told: _Told | None) -> None:
        node = self._network.nodes[submission.node]
        self._watch.answered(
            Answer(
                submission=submission,
                command_id=command_id,
                at_ms=node.clock.now_ms(),
                code="" if told is None else told.code,
                reply=None if told is None else told.reply,
            )
        )

    async def _publish(self, client: "_Client", submission: Submission) -> None:
        """Until the stream has it. What came of it is not told, and without a command id an unknown outcome stays so."""
        until_s = self._network.loop.time() + submission.patience_ms / 1000
        message = submission.message
        if message is not None and not is_outside(submission.sender):
            key = (submission.node, submission.sender)
            if key not in self._voices:
                self._voices[key] = _Voice(self._network, *key)
            await self._voices[key].say(client, message, until_s)
            return
        await client.publish(_outgoing(submission), until_s, again=bool(submission.command_id))


class _Client:
    """One caller at one node."""

    def __init__(self, network: SimulatedNetwork, node: str, account: str, random: Random) -> None:
        self.random = random
        self.node = network.nodes[node]
        self._loop = network.loop
        self._pace = Pace(random)
        self._exchange = self.node.broker.exchange(account=account)

    async def outcome(self, submission: Submission, command_id: str, until_s: float) -> _Told | None:
        """Ask under this id until an outcome comes; None when the patience ends first."""
        message = submission.message
        assert message is not None
        subject = request_subject(self.node.name, message.spec)
        headers = {**headers_of(message.spec), HEADER_COMMAND_ID: command_id, **(submission.headers or {})}
        body = encode(message)
        while self._loop.time() < until_s:
            told = None
            with anyio.move_on_after(_PATIENCE_S):
                told = await self._once(subject, body, headers, message)
            if told is not None:
                return told
            await anyio.sleep(self.random.choice(_PAUSES_S))
        return None

    async def answer(self, query: Message) -> Message | None:
        """Of a query, asked once."""
        response = None
        with anyio.move_on_after(_PATIENCE_S):
            response = await self._response(build(self.node.name, "", query.spec), encode(query), headers_of(query.spec))
        if response is None or response.error is not None or query.spec.reply is None:
            return None
        return decode(query.spec.reply.spec, response.body)

    async def _once(self, subject: str, body: bytes, headers: Mapping[str, str], message: Message) -> _Told | None:
        response = await self._response(subject, body, headers)
        return None if response is None else _told(message, response)

    async def _response(self, subject: str, body: bytes, headers: Mapping[str, str]) -> Response | None:
        try:
            await self._pace.pass_by()
            # The time-out is ours: the bus's own goes by a clock that may jump.
            response = await self._exchange.request(subject, body, headers, 10**9)
            await self._pace.pass_by()
        except BusUnavailable:
            return None
        return response

    async def publish(self, message: Outgoing, until_s: float, *, again: bool) -> bool:
        """Store it; `again` also when it may be there already. False: not, or nobody knows."""
        while self._loop.time() < until_s:
            try:
                await self._pace.pass_by()
                await self._exchange.publish(message)
                return True
            except (BusUnavailable, StreamFull):
                pass
            except OutcomeUnknown:
                if not again:
                    return False
            await anyio.sleep(self.random.choice(_PAUSES_S))
        return False


class _Voice:
    """A subsystem that is played: it announces itself, numbers its messages and sends them one after the other."""

    def __init__(self, network: SimulatedNetwork, node: str, sender: str) -> None:
        self._node = node
        self._sender = sender
        self._entropy = network.entropy.fork(f"voice {node} {sender}")
        self._incarnation = b""
        self._index = 0
        self._generation = ""
        self._network = network
        self._turn = anyio.Lock()

    async def say(self, client: _Client, message: Message, until_s: float) -> None:
        async with self._turn:
            if message.spec.kind is not Kind.NETWORK and not self._is_known():
                previous, self._incarnation, self._index = self._incarnation or None, self._entropy.draw(16), 0
                await self._put(client, IncarnationStarted(incarnation=self._incarnation, previous=previous), until_s)
            await self._put(client, message, until_s)

    def _is_known(self) -> bool:
        """Whether the stream holds what we said last; after a loss we begin again, having no journal."""
        stream = self._network.nodes[self._node].stream
        last = stream.last_under(f"overseer.{self._node}.{self._sender}.>")
        return bool(self._incarnation) and last is not None and last.headers.get(HEADER_ID) == self._id()

    def _id(self) -> str:
        return MessageId(self._sender, self._incarnation.hex(), self._index, 0).text()

    async def _put(self, client: _Client, message: Message, until_s: float) -> None:
        self._index += 1
        headers = {**headers_of(message.spec), HEADER_ID: self._id()}
        await client.publish(Outgoing(build(self._node, self._sender, message.spec), headers, encode(message)), until_s, again=True)


def _outgoing(submission: Submission) -> Outgoing:
    message = submission.message
    if message is None:
        return Outgoing(submission.subject, dict(submission.headers or {}), submission.body)
    headers = headers_of(message.spec)
    if submission.command_id:
        headers[HEADER_COMMAND_ID] = submission.command_id
    headers.update(submission.headers or {})
    return Outgoing(
        submission.subject or build(submission.node, submission.sender, message.spec), headers, submission.body or encode(message)
    )


def _told(command: Message, response: Response) -> _Told | None:
    """What a response says of the command; None when it says nothing yet (busy, not in time, the endpoint failed)."""
    try:
        outcome = decode(CommandOutcome.spec, response.body)
    except CodecError:
        return _refused(response)
    assert isinstance(outcome, CommandOutcome)
    code = "accepted" if outcome.status is OutcomeStatus.ACCEPTED else outcome.code or outcome.status.value
    return _Told(code, outcome.retriable, outcome.reply, response.body)


def _refused(response: Response) -> _Told | None:
    """A refusal before the command was taken: retriable ones are no outcome."""
    refusal = CATALOG.find(Kind.REJECTION, "overseer", response.error[1]) if response.error is not None else None
    if refusal is None:
        return None
    try:
        refused = decode(refusal, response.body)
    except CodecError:
        return None
    return None if getattr(refused, "retriable", False) else _Told(refusal.name, False, None, response.body)
