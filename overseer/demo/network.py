"""A network of nodes for a demo: four real ones in a folder, and what they say of themselves and have said to each other."""

import os
import signal
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import msgspec
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from messages.chain_api import Best, Header
from messages.codec import decode
from messages.consensus_manager import Attempts, AttemptsReport, AttemptState, Epoch, EpochReport, GroupsOnDisk, GroupsReport
from messages.message import Message
from messages.subjects import net_stream, parse
from overseer.consensus.epochs import BrokenChain, EpochsReport
from overseer.consensus.roster import BadNetwork
from overseer.demo.playing import Unexpected
from overseer.feeds.keyring import Keyring
from overseer.nats.connection import Connection
from overseer.nats.keys import UnusableKey
from overseer.nats.provision import ApiError
from overseer.nats.server import ServerError
from overseer.nats.stored import stored_message, stored_messages
from overseer.node.client import Client, Refused
from overseer.node.testnet import Testnet, TestnetInfo, epochs_of, keyring_of
from overseer.ports.bus import BusError
from overseer.ports.store import StoreError
from overseer.supervise.status import ChildStatus, GaveUp
from overseer.supervise.stopping import StopRequest

__all__ = ["LOOK_S", "NODES", "Network", "Standing"]

NODES = 4
# Epochs of six blocks and what an election takes, up to five blocks a second. N - f members are enough for a group: nobody waits for
# a node that is down.
SETTINGS: dict[str, object] = {
    "feed.interval_ms": 200,
    "consensus_manager.interval": 6,
    "consensus_manager.election_timeout": 5,
    "consensus_manager.group_size": NODES,
    "consensus_manager.min_confirmations": 3,
    "subsystems": "votes_db,dispute_conclusion,chain_api,elections,consensus_manager",
    "verification.workers": 0,
    "in_process": True,
    "nats.port": 0,
    "log.level": "error",
}
# How long anything may take before the act is given up: several processes start at once.
_PATIENCE_S = 60.0
# Who is killed answers nobody.
_ANSWER_MS = 1_000
LOOK_S = 0.1


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What a node says of itself: its head, the epoch that serves by it, the epochs of whose keys it has a share, the election it is in."""

    number: int
    epoch: int
    shares: list[int]
    election: str = ""


class Network:
    """Made in `folder`, which is its own. `looked` hears of every look at all nodes."""

    def __init__(self, folder: Path, *, looked: Callable[["Network"], None] = lambda _: None) -> None:
        self.folder = folder
        self._testnet = Testnet(folder, NODES, SETTINGS, environ=os.environ)
        self._looked = looked
        self._stop = StopRequest()
        self._info: TestnetInfo | None = None
        self._clients: dict[str, Client] = {}
        # Why it ended, when it did by itself.
        self._failure = ""
        # How each node stood when it was last asked; None when it did not answer.
        self.standing: dict[str, Standing | None] = dict.fromkeys(self._testnet.nodes)

    @property
    def nodes(self) -> Sequence[str]:
        return list(self._testnet.nodes)

    @property
    def children(self) -> Sequence[ChildStatus]:
        """The nodes' processes."""
        return self._testnet.supervisor.statuses() if self._testnet.supervisor is not None else ()

    # -------------------------------------------------------------------------------------------- running

    @asynccontextmanager
    async def running(self, hurry: StopRequest) -> AsyncGenerator[None, None]:
        """Up, and ended in order when this is left, also by a cancellation; a second wish in `hurry` ends it at once. Raises Unexpected."""
        failed: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._run, hurry)
            try:
                async with AsyncExitStack() as stack:
                    await self._connect(stack)
                    yield
            except (Unexpected, Refused, BusError, ApiError) as error:
                # Not out of the task group: it would come as a group.
                failed = error
            finally:
                self._end()
        if failed is not None:
            raise failed

    async def _connect(self, stack: AsyncExitStack) -> None:
        await self.until(lambda: self._info is not None, "the network's nodes are up")
        assert self._info is not None
        for name, loaded in self._testnet.nodes.items():
            connecting = Client.connected(loaded.config, self._info.url, "operator")
            self._clients[name] = await stack.enter_async_context(connecting)

    def _end(self) -> None:
        # Asked for twice it would be killed.
        if not self._stop.requested:
            self._stop.request("the demo goes on without it")

    async def _run(self, hurry: StopRequest) -> None:
        """Shielded: what was started is ended by `_end` alone, not left by a cancellation."""

        async def hasten() -> None:
            await hurry.wait_urgent()
            self._stop.request(hurry.reason)
            self._stop.request(hurry.reason)

        def up(info: TestnetInfo) -> None:
            self._info = info

        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(hasten)
                try:
                    await self._testnet.run(self._stop, started=up)
                except* (GaveUp, ServerError, UnusableKey) as failed:
                    self._failure = str(failed.exceptions[0])
                tasks.cancel_scope.cancel()

    def kill(self, node: str) -> None:
        """SIGKILL; it is started again. Raises Unexpected."""
        pid = next((child.pid for child in self.children if child.name == node), None)
        if pid is None:
            raise Unexpected(f"{node} does not run")
        os.kill(pid, signal.SIGKILL)

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        """Look at all nodes again and again. Raises Unexpected."""
        with anyio.move_on_after(_PATIENCE_S):
            while not self._failure:
                await self.look()
                if holds():
                    return
                await anyio.sleep(LOOK_S)
        raise Unexpected(self._failure or f"never came true: {what}; the nodes: {self.standing}")

    # -------------------------------------------------------------------------------------------- asking

    async def look(self) -> None:
        """How all stand now."""
        async with anyio.create_task_group() as tasks:
            for node in self._clients:
                tasks.start_soon(self._look_at, node)
        self._looked(self)

    async def _look_at(self, node: str) -> None:
        try:
            best, epoch, held, attempts = [await self.ask(node, query) for query in (Best(), Epoch(), GroupsOnDisk(), Attempts())]
        except (Refused, BusError):
            self.standing[node] = None
            return
        assert isinstance(best, Header)
        assert isinstance(epoch, EpochReport)
        assert isinstance(held, GroupsReport)
        assert isinstance(attempts, AttemptsReport)
        running = [attempt for attempt in attempts.attempts if attempt.state in (AttemptState.RUNNING, AttemptState.COMPLETE)]
        doing = ", ".join(
            "key formed" if a.state is AttemptState.COMPLETE else f"{a.phase}: {a.dealt} of {a.members} dealt" for a in running
        )
        self.standing[node] = Standing(number=best.number, epoch=epoch.epoch, shares=held.epochs, election=doing)

    async def ask(self, node: str, query: Message) -> Message:
        """Its reply. Raises Refused, BusError."""
        return await self._clients[node].query(query, timeout_ms=_ANSWER_MS)

    async def persistently(self, node: str, query: Message) -> Message:
        """Its reply, also of a node that is just being started again. Raises Refused, BusError when that takes too long."""
        until = anyio.current_time() + _PATIENCE_S
        while True:
            try:
                return await self.ask(node, query)
            except (Refused, BusError):
                if anyio.current_time() >= until:
                    raise
            await anyio.sleep(LOOK_S)

    async def command(self, node: str, command: Message) -> Message:
        """It is accepted, once: its reply. Raises Refused, BusError."""
        outcome = await self._clients[node].request(command)
        assert command.spec.reply is not None
        assert outcome.reply is not None
        return decode(command.spec.reply.spec, outcome.reply)

    def keyring(self) -> Keyring:
        """The validators' keys, by index: the nodes', in the order of their names. Raises UnusableKey."""
        return keyring_of(self._testnet.nodes)

    async def said(self, name: str) -> list[tuple[str, bytes]]:
        """(node, body) of all that the nodes' `consensus_manager` have said to each other under that name. Raises ApiError, BusError."""
        found = stored_messages(self._connection, net_stream(), f"overseer.net.*.consensus_manager.{name}")
        return [(parse(message.subject).node, message.body) async for message in found]

    async def last_said(self, node: str, name: str) -> bytes | None:
        """The body of the last one of that node. Raises ApiError, BusError."""
        last = {"last_by_subj": f"overseer.net.{node}.consensus_manager.{name}"}
        message = await stored_message(self._connection, net_stream(), last)
        return None if message is None else message.body

    @property
    def _connection(self) -> Connection:
        return next(iter(self._clients.values())).connection

    # -------------------------------------------------------------------------------------------- checking

    async def verified(self, node: str) -> EpochsReport:
        """What a light client says of the blocks in a node's journal: as `overseer verify-epochs`. Raises Unexpected."""
        try:
            return await anyio.to_thread.run_sync(epochs_of, self._testnet.nodes[node])
        except (BrokenChain, BadNetwork, StoreError) as error:
            raise Unexpected(f"the chain of {node} cannot be checked: {error}") from error

    # -------------------------------------------------------------------------------------------- showing

    def __rich__(self) -> RenderableType:
        table = Table("node", "block", "epoch", "has a share of", "election", box=None, pad_edge=False)
        for node, standing in self.standing.items():
            if standing is None:
                table.add_row(node, Text("does not answer", style="yellow"))
                continue
            shares = ", ".join(map(str, sorted(standing.shares)[-6:]))
            table.add_row(node, str(standing.number), str(standing.epoch), shares, standing.election)
        return table
