"""A process of its own with `votes_db`: argv is url, store folder, step and the number of times it is passed; "" never dies."""

import os
import signal
import sys

import anyio

from messages.subjects import node_stream, own_filter
from overseer.checks import InlineVerifier
from overseer.limits import Limits
from overseer.nats.accounts import durable_name
from overseer.nats.connection import connect
from overseer.nats.exchange import NatsExchange
from overseer.nats.line import NatsLine
from overseer.node.hosting import table_names
from overseer.ports.store import StoreIdentity
from overseer.rocks.store import RocksStore
from overseer.runner.observer import Silent, Step
from overseer.runner.runner import Ports, Runner
from overseer.system.clock import SystemClock
from overseer.system.entropy import SystemEntropy
from subsystems.votes_db.declaration import VotesDbConfig
from subsystems.votes_db.subsystem import VotesDb

NODE = "bundles"


class Dying(Silent):
    """SIGKILL at a step, and no more."""

    def __init__(self, step: str, times: int) -> None:
        self._step = step
        self._left = times

    def step(self, step: Step) -> None:
        if step == self._step:
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)


async def main(url: str, folder: str, step: str, times: str) -> None:
    subsystem = VotesDb(VotesDbConfig(gossip=False))
    name = subsystem.declaration.name
    stream = node_stream(NODE)
    store = RocksStore.open(folder, tables=table_names(subsystem.declaration), identity=StoreIdentity(NODE, name))
    async with await connect(url, name=name, inbox_prefix="_INBOX_votes") as connection:
        line = NatsLine(connection, stream=stream, sender=name, own_filter=own_filter(NODE, name), durable=durable_name(NODE, name, stream))
        ports = Ports(
            store=store,
            lines={"node": line},
            exchange=NatsExchange(connection),
            clock=SystemClock(),
            entropy=SystemEntropy(),
            verifier=InlineVerifier(),
        )
        await Runner(subsystem, NODE, ports, limits=Limits(), run_id="run", observer=Dying(step, int(times))).run()
    store.close()


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
