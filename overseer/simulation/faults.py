"""Doing what the plan says: each kind of fault is one function, which says whether it had anything to hit."""

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

import anyio

from overseer.memory.bus import AppendFault, MemoryStream
from overseer.memory.bus.stream import MemoryConsumer
from overseer.memory.store import CommitStep, MemoryDisk
from overseer.runner import journal
from overseer.runner.observer import Step
from overseer.simulation.network import NET, Node, SimulatedNetwork
from overseer.simulation.plan import Fault, FaultKind
from overseer.simulation.process import Process

__all__ = ["Faults", "trim"]

_SLOWNESS = (20.0, 200.0)
# How long the server waits for an acknowledgement; faults that last longer than the other bound are noticed by it alone.
_ACK_WAIT_S = 60.0
_ACK_WAIT_FROM_MS = 10_000


class Faults:
    """`done`: how often each kind had an effect. Faults that wait for a moment (a step, a commit) count when it comes."""

    def __init__(self, network: SimulatedNetwork, plan: Sequence[Fault]) -> None:
        self.done: Counter[str] = Counter()
        self._network = network
        self._plan = plan
        self._backups: dict[Fault, MemoryDisk] = {}
        self._over = False

    async def inject(self) -> None:
        """Do all of them in their time."""
        loop = self._network.loop
        for fault in self._plan:
            if fault.kind is FaultKind.STORE_RESTORED:
                loop.call_at(max(0, fault.at_ms - fault.amount) / 1000, self._back_up, fault)
        for fault in self._plan:
            await anyio.sleep(max(0.0, fault.at_ms / 1000 - loop.time()))
            self._network.trace.note("fault", str(fault))
            if _DOING[fault.kind](self, fault):
                self._count(fault.kind)

    def cease(self) -> None:
        """From here on nothing more goes wrong."""
        self._over = True
        for process in self._network.processes:
            # What waited for an append or a request that never came had no effect.
            unspent = Counter(what for faults in process.faults.values() for what in faults.appends)
            self.done[FaultKind.APPEND_UNANSWERED.value] -= unspent[AppendFault.STORED]
            self.done[FaultKind.APPEND_LOST.value] -= unspent[AppendFault.LOST]
            self.done[FaultKind.REQUEST_DOUBLED.value] -= len(process.doubled)
        self._network.heal()

    def _count(self, kind: FaultKind) -> None:
        self.done[kind.value] += 1

    def _afterwards(self, fault: Fault, undo: Callable[[], object]) -> None:
        """When it has lasted its time; `cease` undoes everything anyway."""

        def end() -> None:
            if not self._over:
                undo()

        self._network.loop.call_later(fault.for_ms / 1000, end)

    def _process(self, fault: Fault) -> Process | None:
        return self._network.process(fault.node, fault.target)

    # ------------------------------------------------------------------------------------------------ processes

    def kill(self, fault: Fault) -> bool:
        """`amount` odd: a mere kill, what was written stays; even: the power goes, what was not synced is lost."""
        process = self._process(fault)
        return process is not None and process.kill(keep_unsynced=fault.amount % 2 == 1)

    def kill_at_step(self, fault: Fault) -> bool:
        """At the `amount`-th passing of the runner's step (see `Step`)."""
        process = self._process(fault)
        if process is not None:
            process.kill_at(Step(fault.step), max(1, fault.amount % 4), lambda: self._count(fault.kind))
        return False

    def kill_in_commit(self, fault: Fault) -> bool:
        """In the next commit: before it, between write and sync, after it. Kept: `amount` odd.

        A write that is torn (the last journal record half on the disk) is a commit that is lost as a whole: stores write
        atomically, and a torn tail is dropped when they open.
        """
        return self._fail_commit(fault, deadly=True)

    def store_error(self, fault: Fault) -> bool:
        """The next commit fails: the handle is dead, the process ends and opens the store again."""
        return self._fail_commit(fault, deadly=False)

    def _fail_commit(self, fault: Fault, *, deadly: bool) -> bool:
        process = self._process(fault)
        if process is not None:
            process.fail_commit(
                CommitStep(fault.step), keep_unsynced=fault.amount % 2 == 1, deadly=deadly, happened=lambda: self._count(fault.kind)
            )
        return False

    def kill_several(self, fault: Fault) -> bool:
        """About half of all processes of the network, at one instant."""
        random = Random(fault.at_ms)
        killed = [process.kill(keep_unsynced=random.random() < 0.5) for process in self._network.processes if random.random() < 0.5]
        return any(killed)

    def kill_node(self, fault: Fault) -> bool:
        """The whole machine, its bus included; it is away for a while."""
        node = self._network.nodes.get(fault.node)
        if node is None:
            return False
        for process in node.processes.values():
            process.power(False)
            process.kill()
        self._network.stop_bus(node)

        def restart() -> None:
            self._network.start_bus(node)
            for process in node.processes.values():
                process.power(True)

        self._afterwards(fault, restart)
        return True

    # ------------------------------------------------------------------------------------------------ the bus

    def bus_stopped(self, fault: Fault) -> bool:
        """Killed and started again: nothing acknowledged is lost, but the last `amount` acknowledgements are forgotten."""
        node = self._network.bus(fault.node)
        if node is None:
            return False
        for consumer in node.stream.consumers.values():
            node.stream.roll_back_acks(consumer.durable, max(0, consumer.acknowledged - fault.amount))
        self._network.stop_bus(node)
        self._afterwards(fault, lambda: self._network.start_bus(node))
        return True

    def acks_rolled_back(self, fault: Fault) -> bool:
        """The server forgets the last of one consumer's acknowledgements, and its session with them."""
        found = self._consumer(fault)
        if found is None or not found[1].acknowledged:
            return False
        stream, consumer = found
        stream.roll_back_acks(consumer.durable, max(0, consumer.acknowledged - 1 - fault.amount))
        return True

    def acks_lost(self, fault: Fault) -> bool:
        """Acknowledgements vanish for a while."""
        process = self._process(fault)
        if process is None:
            return False
        faults = process.faults["node"]
        faults.lose_acks = True

        def find_again() -> None:
            faults.lose_acks = False

        self._afterwards(fault, find_again)
        return True

    def torn_pull(self, fault: Fault) -> bool:
        """Of the next pull of more only the first `amount` messages arrive. It is noticed when the connection ends, or (a
        server that only hangs) when the server delivers once more what was never acknowledged.
        """
        process = self._process(fault)
        if process is None:
            return False
        name = self._line(process, fault)
        faults, stream = process.faults[name], self._network.streams_of(process)[name]
        consumer = stream.consumers[process.durable(stream)]

        def torn() -> None:
            self._count(fault.kind)
            resets = consumer.resets

            def deliver_again() -> None:
                if consumer.resets == resets:
                    missing = stream.messages(after=consumer.acknowledged)
                    consumer.again.extend(m.sequence for m in missing if m.sequence < consumer.next_sequence and consumer.wants(m.subject))
                    stream.wake()

            if fault.for_ms < _ACK_WAIT_FROM_MS:
                self._network.loop.call_later(fault.for_ms / 1000, process.drop, name)
            else:
                self._network.loop.call_later(_ACK_WAIT_S, deliver_again)

        faults.torn_after, faults.on_torn = fault.amount, torn
        return False

    def redelivered(self, fault: Fault) -> bool:
        """The server delivers a message of before once more."""
        found = self._consumer(fault)
        if found is None:
            return False
        stream, consumer = found
        delivered = [m.sequence for m in stream.messages() if m.sequence < consumer.next_sequence and consumer.wants(m.subject)]
        if fault.amount >= len(delivered):
            return False
        stream.deliver_again(consumer.durable, delivered[-1 - fault.amount])
        return True

    def append_unanswered(self, fault: Fault) -> bool:
        """The next append (or publish for a caller) is stored, but its answer is lost."""
        return self._append(fault, AppendFault.STORED)

    def append_lost(self, fault: Fault) -> bool:
        """The next append (or publish for a caller) never arrives, and nobody says so."""
        return self._append(fault, AppendFault.LOST)

    def _append(self, fault: Fault, what: AppendFault) -> bool:
        process = self._process(fault)
        if process is None:
            return False
        where = "exchange" if fault.amount == 1 else self._line(process, fault)
        process.faults[where].appends.append(what)
        return True

    def request_doubled(self, fault: Fault) -> bool:
        """The next command that an endpoint appends for its caller is stored twice or more."""
        process = self._process(fault)
        if process is None or not process.declaration.requests:
            return False
        process.doubled.append(1 + fault.amount % 3)
        return True

    def disk_full_in_silence(self, fault: Fault) -> bool:
        """The server answers no append for a while: neither an ack nor an error."""
        node = self._network.bus(fault.node)
        if node is None:
            return False
        stream = node.stream
        stream.silent = True

        def answer_again() -> None:
            stream.silent = False

        self._afterwards(fault, answer_again)
        return True

    def stream_full(self, fault: Fault) -> bool:
        """The stream takes only `amount` messages more, for a while."""
        node = self._network.bus(fault.node)
        if node is None:
            return False
        stream = node.stream
        before = stream.messages_max
        stream.messages_max = len(stream.messages()) + fault.amount

        def widen() -> None:
            stream.messages_max = before

        self._afterwards(fault, widen)
        return True

    def trimmed(self, fault: Fault) -> bool:
        """The overseer trims, keeping a history of `amount` messages."""
        node = self._network.bus(fault.node)
        return node is not None and trim(self._network, node, keep=fault.amount)

    # ------------------------------------------------------------------------------------------------ the network

    def cut_from_bus(self, fault: Fault) -> bool:
        """One subsystem is parted from the bus of its node, and from the network's."""
        process = self._process(fault)
        if process is None:
            return False
        process.cut()
        self._afterwards(fault, process.join)
        return True

    def cut_from_network(self, fault: Fault) -> bool:
        """A whole node is parted from the network's stream."""
        node = self._network.nodes.get(fault.node)
        if node is None:
            return False
        for process in node.processes.values():
            process.cut((NET,))

        def join() -> None:
            for process in node.processes.values():
                process.join((NET,))

        self._afterwards(fault, join)
        return True

    def slow(self, fault: Fault) -> bool:
        """One subsystem becomes slow, disk and wires."""
        process = self._process(fault)
        return process is not None and self._slow([process], fault)

    def delayed(self, fault: Fault) -> bool:
        """Every wire of a node becomes slow: what its subsystems send comes in another order."""
        node = self._network.nodes.get(fault.node)
        return node is not None and self._slow(list(node.processes.values()), fault)

    def _slow(self, processes: list[Process], fault: Fault) -> bool:
        for process in processes:
            process.pace.slowness = _SLOWNESS[fault.amount % 2]

        def hurry() -> None:
            for process in processes:
                process.pace.slowness = 1.0

        self._afterwards(fault, hurry)
        return True

    def clock_jump(self, fault: Fault) -> bool:
        """The clock of a node (its bus included) is set forth or back by `amount` milliseconds."""
        node = self._network.bus(fault.node)
        if node is None:
            return False
        node.clock.jump(node.clock.skew_ms + fault.amount)
        return True

    # ------------------------------------------------------------------------------------------------ for good

    def stream_truncated(self, fault: Fault) -> bool:
        """The bus lost its last messages, `amount` and one: power failed under a server that does not sync."""
        node = self._network.bus(fault.node)
        if node is None or not node.stream.messages():
            return False
        node.stream.truncate(1 + fault.amount)
        self._network.watch.lost(node.name, node.stream.last_sequence, replaced=False)
        return True

    def stream_replaced(self, fault: Fault) -> bool:
        """Somebody deleted the stream and made it anew."""
        node = self._network.bus(fault.node)
        if node is None:
            return False
        name, _, number = node.stream.id.rpartition(" ")
        node.stream.replace(f"{name} {int(number) + 1}")
        self._network.watch.lost(node.name, 0, replaced=True)
        return True

    def store_deleted(self, fault: Fault) -> bool:
        """A process is killed and its store deleted."""
        process = self._process(fault)
        return process is not None and self._set_back(process, lambda: process.put_disk(None))

    def store_restored(self, fault: Fault) -> bool:
        """A process is killed, and its store replaced by a copy of `amount` milliseconds before."""
        process, backup = self._process(fault), self._backups.get(fault)
        return process is not None and backup is not None and self._set_back(process, lambda: process.put_disk(backup))

    def commits_lost(self, fault: Fault) -> bool:
        """A disk that lied about syncing: the last `amount` commits are gone with the power."""
        process = self._process(fault)
        if process is None:
            return False
        return self._set_back(process, lambda: process.disk.crash(lose_commits=min(fault.amount, process.disk.history)))

    def _back_up(self, fault: Fault) -> None:
        process = self._process(fault)
        if process is not None:
            self._backups[fault] = process.disk.backup()

    def _set_back(self, process: Process, change: Callable[[], None]) -> bool:
        """Kill it and change what its disk holds."""
        process.kill()
        change()
        head = journal.read_head(process.disk.rows) if process.disk.rows.tables() else None
        self._network.watch.set_back(process.node, process.name, head.index if head is not None else 0)
        return True

    # ------------------------------------------------------------------------------------------------ aims

    def _line(self, process: Process, fault: Fault) -> str:
        """One of its lines: mostly that to its node."""
        return NET if NET in process.streams and fault.at_ms % 3 == 0 else "node"

    def _consumer(self, fault: Fault) -> tuple[MemoryStream, MemoryConsumer] | None:
        process = self._process(fault)
        if process is None:
            return None
        stream = self._network.streams_of(process)[self._line(process, fault)]
        return stream, stream.consumers[process.durable(stream)]


_DOING: dict[FaultKind, Callable[[Faults, Fault], bool]] = {kind: getattr(Faults, kind.value) for kind in FaultKind}


def trim(network: SimulatedNetwork, node: Node, *, keep: int) -> bool:
    """As overseer/nats/trimming.py does: below what all subsystems have acknowledged, but for a history and each sender's last."""
    stream = node.stream
    held = stream.messages()
    if not held or not node.broker.is_up():
        return False
    bound = min([stream.last_sequence - keep + 1, *(_done(stream, consumer) for consumer in stream.consumers.values())])
    lasts: dict[str, int] = {}
    for message in held:
        lasts[".".join(message.subject.split(".")[: 4 if node.name == NET else 3])] = message.sequence
    gone = [message.sequence for message in held if message.sequence < bound and message.sequence not in lasts.values()]
    if not gone:
        return False
    network.watch.trimmed(node.name, gone)
    stream.trim(bound, keep=frozenset(lasts.values()))
    return True


def _done(stream: MemoryStream, consumer: MemoryConsumer) -> int:
    """Up to where a consumer's subsystem has acknowledged everything that is for it. The message there stays."""
    after = stream.messages(after=consumer.acknowledged)
    if any(consumer.wants(message.subject) for message in after):
        return consumer.acknowledged
    return max(consumer.acknowledged, stream.last_sequence)
