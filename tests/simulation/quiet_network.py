"""A network without a fault: engines over memory, one message after the other, in a loop of a few milliseconds.

For the scenario and its checkers alone; the real runner with everything that goes wrong is overseer/simulation.
"""

from collections.abc import Callable, Sequence
from random import Random

from messages.codec import decode_value, encode
from messages.message import Message
from messages.overseer import CommandOutcome, IncarnationStarted
from messages.subjects import HEADER_COMMAND_ID
from overseer.graph import filters, net_filters
from overseer.limits import Limits
from overseer.memory.bus.stream import MemoryConsumer
from overseer.memory.entropy import SeededEntropy
from overseer.memory.rows import MemoryRows
from overseer.ports.bus import Delivery, Outgoing, StoredMessage
from overseer.runner import journal
from overseer.runner.engine import Engine, Retry
from overseer.runner.intake import Reader
from overseer.runner.schema import JOURNAL, SYSTEM_TABLES, Head, Record
from overseer.simulation.scenario import Answer, Checker, Network, Scenario, Submission
from overseer.subsystem import Context, Subsystem
from overseer.tables import View
from overseer.verification import verify_check

NET = "net"
_NOW_MS = 1_700_000_000_000


def play_quietly(scenario: Scenario, network: Network, traffic: Sequence[Submission] | None = None) -> "QuietNetwork":
    """The scenario from beginning to end, or only `traffic` of it. Raises Violation."""
    if traffic is None:
        traffic = scenario.traffic(network, Random(network.seed))
    return QuietNetwork(scenario, network, scenario.checkers(network, traffic)).play(traffic)


class QuietProcess:
    """One subsystem: an engine that takes each line's messages in order."""

    def __init__(self, node: str, make: Callable[[], Subsystem], seed: int) -> None:
        subsystem = make()
        declared = subsystem.declaration
        self.node = node
        self.name = declared.name
        self.rows = MemoryRows([table.name for table in (*SYSTEM_TABLES, *declared.tables)])
        entropy = SeededEntropy(f"{seed} {node} {self.name}")
        self.engine = Engine(subsystem, self.rows, node, Head(incarnation=entropy.draw(16)), limits=Limits(), entropy=entropy)
        self.reader = Reader(node, declared)
        wanted = {"node": filters(declared, node), NET: net_filters(declared)}
        self.consumers = {line: MemoryConsumer(line, tuple(subjects)) for line, subjects in wanted.items()}
        self.taken = {"node": 0, NET: 0}


class QuietNetwork:
    """Implements AtRest at the end of `play`."""

    def __init__(self, scenario: Scenario, network: Network, checkers: Sequence[Checker]) -> None:
        self.network = network
        self.outstanding: Sequence[str] = ()
        self.checkers = checkers
        self.now_ms = _NOW_MS
        self.streams: dict[str, list[StoredMessage]] = {name: [] for name in (*network.nodes, NET)}
        self._waiting: dict[str, Submission] = {}
        casts = scenario.casts(network)
        self.processes = [QuietProcess(node, make, network.seed) for node, cast in casts.items() for make in cast.values()]
        for process in self.processes:
            batch = process.engine.begin()
            process.engine.note(batch, IncarnationStarted(incarnation=process.engine.head.incarnation), self.now_ms)
            self._commit(process, batch)

    def play(self, traffic: Sequence[Submission]) -> "QuietNetwork":
        for submission in traffic:
            self.now_ms = max(self.now_ms, _NOW_MS + submission.at_ms)
            for checker in self.checkers:
                checker.submitted(submission)
            self._submit(submission)
            self._settle()
        for checker in self.checkers:
            checker.at_rest(self)
        return self

    def _submit(self, submission: Submission) -> None:
        if submission.message is None:
            stream = NET if submission.subject.startswith("overseer.net.") else submission.node
            self._append(stream, Outgoing(submission.subject, dict(submission.headers or {}), submission.body))
            return
        spec = submission.message.spec
        headers = {HEADER_COMMAND_ID: submission.command_id}
        self._waiting[submission.command_id] = submission
        self._append(
            submission.node,
            Outgoing(f"overseer.{submission.node}.{submission.sender}.cmd.{spec.owner}.{spec.name}", headers, encode(submission.message)),
        )

    def _append(self, stream: str, message: Outgoing) -> None:
        held = self.streams[stream]
        stored = StoredMessage(len(held) + 1, self.now_ms, message.subject, message.headers, message.body)
        held.append(stored)
        for checker in self.checkers:
            checker.stored(stream, stored)

    def _settle(self) -> None:
        busy = True
        while busy:
            busy = sum(map(self._step, self.processes)) > 0

    def _step(self, process: QuietProcess) -> bool:
        """Everything there is on its lines, message by message; and its timers."""
        worked = False
        for line in ("node", NET):
            stream = self.streams[process.node if line == "node" else NET]
            while process.taken[line] < len(stream):
                stored = stream[process.taken[line]]
                process.taken[line] += 1
                if process.consumers[line].wants(stored.subject):
                    worked = True
                    self._take(process, line, stored)
                    self._fire(process)
        return self._fire(process) or worked

    def _take(self, process: QuietProcess, line: str, stored: StoredMessage) -> None:
        intake = process.reader.read(Delivery(1, stored, ""))
        for last_try in (False, True):
            batch = process.engine.begin()
            try:
                process.engine.handle(batch, line, f"{line} 1", intake, verify_check, last_try=last_try)
            except Retry:
                continue
            self._commit(process, batch)
            return

    def _fire(self, process: QuietProcess) -> bool:
        due = process.engine.timers.next()
        if due is None or (due.at_ms or 0) > self.now_ms:
            return False
        batch = process.engine.begin()
        process.engine.fire(batch, due, self.now_ms, verify_check, last_try=True)
        self._commit(process, batch)
        self._fire(process)
        return True

    def _commit(self, process: QuietProcess, batch) -> None:
        process.engine.finish(batch)
        process.rows.apply(batch.writes)
        for _, data in sorted((batch.writes.rows.get(JOURNAL.name) or {}).items()):
            record = decode_value(Record, data)
            events = journal.events_of(process.rows, record)
            for checker in self.checkers:
                checker.recorded(process.node, process.name, record, events)
        for told in batch.told:
            self._answer(told.command_id, decode_value(CommandOutcome, told.outcome))
        for line, messages in ((process.node, batch.node), (NET, batch.net)):
            for _, message in messages:
                self._append(line, message)

    def _answer(self, command_id: str, outcome: CommandOutcome) -> None:
        submission = self._waiting[command_id]
        answer = Answer(
            submission=submission,
            command_id=command_id,
            at_ms=self.now_ms,
            code=outcome.code or outcome.status.value,
            reply=outcome.reply,
        )
        for checker in self.checkers:
            checker.answered(answer)

    # -------------------------------------------------------------------------------------------- at rest

    def _process(self, node: str, name: str) -> QuietProcess:
        return next(p for p in self.processes if (p.node, p.name) == (node, name))

    def store(self, node: str, subsystem: str) -> MemoryRows:
        return self._process(node, subsystem).rows

    def stream(self, node: str) -> Sequence[StoredMessage]:
        return self.streams[node]

    def ask(self, node: str, query: Message) -> Message:
        process = next(p for p in self.processes if p.node == node and type(query) in p.engine.subsystem.declaration.answers)
        context = Context(now_ms=self.now_ms, sender="", verify=verify_check)
        return process.engine.subsystem.answer(View(process.rows), query, context)
