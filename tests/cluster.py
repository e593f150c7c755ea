"""A cluster of three NATS servers on loopback, whose servers may be killed."""

import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from overseer.nats.connection import Connection
from overseer.nats.provision import ApiError, call
from overseer.nats.routes import routes_config
from overseer.nats.server import find_server
from overseer.ports.bus import BusUnavailable
from tests.node.nodes import die_with_the_tests

__all__ = ["NAMES", "Cluster", "cluster_in", "leader"]

NAMES = ("n1", "n2", "n3")


class Cluster:
    """`accounts`: their part of the configuration, the same at all three; without it there are none."""

    def __init__(self, folder: Path, accounts: str = "") -> None:
        self.folder = folder
        self.ports = dict(zip(NAMES, _free_ports(3), strict=True))
        routes = dict(zip(NAMES, _free_ports(3), strict=True))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        (folder / "routes.conf").write_text(routes_config([f"127.0.0.1:{port}" for port in routes.values()], "r" * 32))
        for name in NAMES:
            (folder / f"{name}.conf").write_text(
                f'server_name: {name}\nlisten: "127.0.0.1:{self.ports[name]}"\n'
                f'jetstream {{ store_dir: "{folder}/{name}" }}\n'
                f'cluster {{ name: c, listen: "127.0.0.1:{routes[name]}", include routes.conf\n }}\n{accounts}'
            )

    def start(self, name: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [find_server(), "-c", self.folder / f"{name}.conf"], stdout=log, stderr=log, preexec_fn=die_with_the_tests
            )

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    @property
    def urls(self) -> list[str]:
        return [f"nats://127.0.0.1:{port}" for port in self.ports.values()]


@asynccontextmanager
async def cluster_in(folder: Path, accounts: str = "") -> AsyncIterator[Cluster]:
    """All three are started; they have not elected a leader yet."""
    made = Cluster(folder, accounts)
    try:
        for name in NAMES:
            made.start(name)
        yield made
    finally:
        for name in list(made.processes):
            made.kill(name)


async def leader(connection: Connection, stream: str) -> str:
    """The server that leads the stream, once there is one."""
    while True:
        try:
            found = (await call(connection, f"STREAM.INFO.{stream}"))["cluster"].get("leader")
            if found:
                return found
        except (ApiError, BusUnavailable):
            pass
        await anyio.sleep(0.05)


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
