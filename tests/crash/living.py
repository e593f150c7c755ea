"""A node that is killed and comes back: its processes as its log tells them, and how long it took to be whole again."""

import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from messages.chain_api import Best
from messages.consensus_manager import Epoch
from messages.dispute_conclusion import ListConclusions
from messages.elections import ListElections
from messages.message import Message
from messages.votes_db import RecentDisputes
from overseer.node.client import Client
from overseer.node.folder import NodeFolder
from tests.crash.traffic import Traffic, until
from tests.node.nodes import MARK, SUBSYSTEMS, Node, Place, answered

# A small question to each subsystem: who answers it is back.
PROBES: Mapping[str, Message] = {
    "votes_db": RecentDisputes(limit=1),
    "dispute_conclusion": ListConclusions(limit=1),
    "chain_api": Best(),
    "elections": ListElections(limit=1),
    "consensus_manager": Epoch(),
}
RECOVERY_S = 30.0

# It must never give up however often it is killed, and waits no longer than it must.
KILLED_OFTEN: Mapping[str, object] = {
    "supervise.backoff_first_ms": 20,
    "supervise.backoff_max_ms": 20,
    "supervise.restarts_max": 1_000_000,
    "supervise.restarts_window_ms": 10_000,
    "supervise.stall_ms": 3_000,
    # All of the history is read at the end.
    "nats.history_messages": 5_000_000,
}


class Stuck(Exception):
    """The node did not come back in time."""


class LogTail:
    """What a node's log says, read as it grows."""

    def __init__(self, path: Path) -> None:
        self.pids: dict[str, int] = {}
        self.events: Counter[tuple[str, str]] = Counter()
        self.troubles: list[str] = []
        self.text: list[str] = []
        self._path = path
        self._at = 0
        self._rest = b""

    def read(self) -> None:
        with self._path.open("rb") as file:
            file.seek(self._at)
            data = file.read()
        self._at += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line.decode(errors="replace"))

    def child_of(self, event: Mapping[str, Any]) -> str:
        """Whom it is about, by the name under which it can be hit."""
        return str(event.get("child", ""))

    def _take(self, line: str) -> None:
        self.text = [*self.text[-199:], line]
        if "Traceback" in line:
            self.troubles.append(line)
        if not (line.startswith("{") and line.endswith("}")):
            return
        event: dict[str, Any] = json.loads(line)
        name, child = str(event.get("event")), self.child_of(event)
        self.events[name, child] += 1
        if name == "child_started":
            self.pids[child] = event["child_pid"]
        elif name == "nats_started":
            self.pids["nats-server"] = event["server_pid"]


class Living:
    """A node under kills. `start` it by hand again when the overseer itself was killed."""

    # How long it may take to be ready.
    start_s = RECOVERY_S

    def __init__(self, place: Place, env: Mapping[str, str] | None = None) -> None:
        self.place = place
        self.node: Node
        self.log: LogTail
        self.logs: list[LogTail] = []
        self._env = env

    def launch(self) -> tuple[Node, LogTail]:
        """A process of it, just begun, and what reads its log."""
        node = Node.start(self.place, env=self._env)
        return node, LogTail(node.log)

    async def start(self) -> None:
        self.node, self.log = self.launch()
        self.logs.append(self.log)

        def ready() -> bool:
            self.log.read()
            return bool(self.log.events["ready", ""]) or self._over()

        await until(ready, "the node is ready", self.start_s)
        self.still_there()
        self.known()

    def known(self) -> None:
        """Once it is ready: what it tells of itself."""
        self.node.info = NodeFolder(self.place.data).last_run()

    @asynccontextmanager
    async def up(self) -> AsyncIterator[Client]:
        """A client of the running node, over all of its restarts."""
        async with self.lived(), self.node.client() as client:
            yield client

    @asynccontextmanager
    async def lived(self) -> AsyncIterator[None]:
        """It runs meanwhile; in the end it must stop in order."""
        await self.start()
        try:
            yield
            code = await self.node.stop()
            if code != 0:
                raise Stuck(f"asked to stop, the node ended with {code}:\n{self.last_words()}")
        finally:
            self.node.kill()

    def _over(self) -> bool:
        return self.node.process.poll() is not None

    def still_there(self) -> None:
        if self._over():
            raise Stuck(f"the overseer ended by itself with {self.node.process.returncode}:\n{self.last_words()}")

    def last_words(self) -> str:
        self.log.read()
        return "\n".join(self.log.text[-40:])

    def pid(self, victim: str) -> int | None:
        """The live process of a subsystem, of `nats-server` or of the `overseer`; None while there is none."""
        if victim == "overseer":
            return None if self._over() else self.node.process.pid
        self.log.read()
        pid = self.log.pids.get(victim)
        try:
            ours = pid is not None and f"{MARK}={self.place.mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return None
        return pid if ours else None

    def signal(self, victim: str, number: signal.Signals = signal.SIGKILL) -> bool:
        """Whether there was a process to take it."""
        pid = self.pid(victim)
        if pid is None:
            return False
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    async def gone(self) -> None:
        """After a kill of the overseer: everything of it goes with it."""
        self.node.process.wait()
        await until(lambda: not self.place.processes(), "nothing of the killed node is left", RECOVERY_S)

    async def restarted_by_hand(self) -> None:
        await self.gone()
        await self.start()

    async def whole(self, client: Client, traffic: Traffic, *, within_s: float = RECOVERY_S) -> None:
        """Return when all subsystems answer and each kind of command is acknowledged again. Raises Stuck."""
        before = traffic.acknowledged.copy()

        def moving() -> bool:
            self.still_there()
            return all(traffic.acknowledged[name] > before[name] for name in ("votes_db", "chain_api", "elections"))

        try:
            with anyio.fail_after(within_s):
                for name in SUBSYSTEMS:
                    await answered(client, PROBES[name], seconds=within_s)
                await until(moving, "commands are acknowledged again", within_s)
        except TimeoutError as error:
            self.still_there()
            raise Stuck(f"not whole again within {within_s:g} s: {error}\n{self.last_words()}") from error
