"""A network of nodes in one thread: brokers, clocks, disks and processes; and how it is at rest."""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from random import Random

from messages.message import Message
from messages.subjects import net_stream, node_stream
from overseer.checks import InlineVerifier, Verifier
from overseer.graph import networked
from overseer.limits import Limits
from overseer.memory.bus import MemoryBroker, MemoryStream
from overseer.memory.entropy import SeededEntropy
from overseer.memory.store import MemoryStore
from overseer.ports.bus import StoredMessage
from overseer.ports.store import StoreReader
from overseer.runner import journal
from overseer.simulation.clock import NodeClock
from overseer.simulation.loop import VirtualLoop
from overseer.simulation.process import Process
from overseer.simulation.scenario import CALLER, Cast, Network
from overseer.simulation.trace import Trace
from overseer.simulation.watch import Watch
from overseer.subsystem import Context
from overseer.tables import View

__all__ = ["NET", "Node", "Rest", "SimulatedNetwork", "draw_limits"]

NET = "net"
# How far a clock may be off from the beginning.
_SKEW_MS_MAX = 2_000
# Messages a stream takes; more is a fault of its own.
_MESSAGES_MAX = 100_000


def draw_limits(random: Random, *, pruning: bool = True) -> Limits:
    """Tiny limits, so that every one of them is met. What goes by the computer's own time is inert.

    `pruning`: whether checkpoints may be so frequent that outgoing messages of long ago are dropped; what a stream then loses
    cannot be restored any more (a real node keeps hundreds of thousands of records).
    """
    checkpoint_records = random.choice((20, 200_000, 200_000))
    return Limits(
        batch_messages_max=random.choice((1, 2, 5, 64, 512)),
        batch_bytes_max=random.choice((2_000, 8 * 1024**2)),
        batch_decide_ms_max=10**9,
        pull_wait_ms=random.choice((5_000, 30_000, 60_000)),
        append_batch_max=random.choice((3, 500)),
        append_batch_min=random.choice((2, 25)),
        outbox_messages_max=random.choice((3, 20_000)),
        timers_per_batch_max=random.choice((1, 64)),
        blob_bytes_min=random.choice((256, 64 * 1024)),
        request_timeout_ms=5_000,
        fill_look_ms=10_000,
        reconnect_ms=random.choice((10, 50)),
        reconnect_ms_max=random.choice((200, 2_000)),
        checkpoint_records=checkpoint_records if pruning else 200_000,
        checkpoints_kept=random.choice((1, 2)),
    )


class Node:
    """One machine: a clock, a bus and the processes; or, with no processes, where the network's stream is."""

    def __init__(self, name: str, clock: NodeClock, stream: MemoryStream, broker: MemoryBroker) -> None:
        self.name = name
        self.clock = clock
        self.stream = stream
        self.broker = broker
        self.processes: dict[str, Process] = {}
        # Faults under way that keep the bus down; it is up when there is none.
        self.stopped_by = 0


class SimulatedNetwork:
    """Everything of one run. Enter it, then let its processes `run`."""

    def __init__(
        self,
        network: Network,
        casts: Mapping[str, Cast],
        loop: VirtualLoop,
        watch: Watch,
        trace: Trace,
        verifier: Verifier | None = None,
        *,
        pruning: bool = True,
    ) -> None:
        random = Random(f"{network.seed} network")
        self.network = network
        self.loop = loop
        self.watch = watch
        self.trace = trace
        self.limits = draw_limits(random, pruning=pruning)
        self.verifier = verifier or InlineVerifier()
        self.entropy = SeededEntropy(network.seed)
        self.nodes = {name: self._node(name, node_stream(name), f"overseer.{name}.>", random) for name in network.nodes}
        declarations = [make().declaration for make in casts[network.nodes[0]].values()]
        self.net = self._node(NET, net_stream(), "overseer.net.>", random) if any(map(networked, declarations)) else None
        self._stack = AsyncExitStack()
        for node in self.nodes.values():
            brokers = {"node": node.broker, **({NET: self.net.broker} if self.net is not None else {})}
            for name, make in casts[node.name].items():
                own = Random(f"{network.seed} {node.name} {name}")
                process = Process(self, node.name, make, node.clock, brokers, own)
                node.processes[name] = process
                self._provide(node, process)

    def _node(self, name: str, stream: str, subjects: str, random: Random) -> Node:
        clock = NodeClock(self.loop, skew_ms=random.randint(-_SKEW_MS_MAX, _SKEW_MS_MAX))
        broker = MemoryBroker(clock)
        made = broker.create_stream(stream, subjects=[subjects], stream_id=f"{stream} 1", messages_max=_MESSAGES_MAX)
        made.on_stored = lambda message: self.watch.stored(name, message)
        return Node(name, clock, made, broker)

    def _provide(self, node: Node, process: Process) -> None:
        node.broker.add_consumer(node.stream.name, process.durable(node.stream), process.patterns["node"])
        if self.net is not None and process.networked:
            self.net.broker.add_consumer(self.net.stream.name, process.durable(self.net.stream), process.patterns[NET])

    async def __aenter__(self) -> "SimulatedNetwork":
        for node in self.buses:
            await self._stack.enter_async_context(node.broker)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    @property
    def buses(self) -> list[Node]:
        """Everything that has a bus: the nodes, and what holds the network's stream."""
        return [*self.nodes.values(), *([self.net] if self.net is not None else [])]

    def bus(self, name: str) -> Node | None:
        return self.net if name == NET else self.nodes.get(name)

    @property
    def processes(self) -> list[Process]:
        return [process for node in self.nodes.values() for process in node.processes.values()]

    def process(self, node: str, name: str) -> Process | None:
        return self.nodes[node].processes.get(name) if node in self.nodes else None

    def streams_of(self, process: Process) -> dict[str, MemoryStream]:
        """By the name of its line."""
        streams = {"node": self.nodes[process.node].stream}
        if self.net is not None and process.networked:
            streams[NET] = self.net.stream
        return streams

    # ------------------------------------------------------------------------------------------------ faults of a bus

    def stop_bus(self, node: Node) -> None:
        node.stopped_by += 1
        if node.stopped_by == 1:
            node.broker.stop()

    def start_bus(self, node: Node) -> None:
        node.stopped_by = max(0, node.stopped_by - 1)
        if not node.stopped_by:
            node.broker.start()

    def heal(self) -> None:
        """All faults cease; what they did stays."""
        for node in self.buses:
            node.stopped_by = 0
            node.broker.start()
            node.stream.silent = False
            node.stream.messages_max = _MESSAGES_MAX
            node.clock.jump(0)
        for process in self.processes:
            process.heal()

    def unsettled(self) -> list[str]:
        """What keeps the network from being at rest."""
        return [
            f"{process.node} {process.name} {why}" for process in self.processes if (why := process.unsettled(self.streams_of(process)))
        ]


class Rest:
    """Implements `overseer.simulation.scenario.AtRest`: everything has ended, disks and streams are as they are."""

    def __init__(self, simulated: SimulatedNetwork, outstanding: Sequence[str]) -> None:
        self.network = simulated.network
        self.outstanding: Sequence[str] = tuple(outstanding)
        self._simulated = simulated
        self._open: dict[tuple[str, str], MemoryStore] = {}

    def store(self, node: str, subsystem: str) -> StoreReader:
        key = (node, subsystem)
        if key not in self._open:
            process = self._simulated.nodes[node].processes[subsystem]
            self._open[key] = MemoryStore(process.tables, disk=process.disk, identity=process.identity)
        return self._open[key]

    def stream(self, node: str) -> Sequence[StoredMessage]:
        bus = self._simulated.bus(node)
        return bus.stream.messages() if bus is not None else []

    def ask(self, node: str, query: Message) -> Message:
        process = next(p for p in self._simulated.nodes[node].processes.values() if type(query) in p.declaration.answers)
        store = self.store(node, process.name)
        head = journal.read_head(store)
        context = Context(
            now_ms=max(head.last_ms if head is not None else 0, self._simulated.nodes[node].clock.now_ms()),
            sender="",
            caller=CALLER,
            position=head.positions["node"].sequence if head is not None and "node" in head.positions else 0,
            verify=self._simulated.verifier.inline,
        )
        return process.make().answer(View(store), query, context)
