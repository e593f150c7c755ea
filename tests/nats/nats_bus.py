"""A real bus with the accounts of three subsystems, and users that speak raw NATS to it."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats_declarations import DECLARATIONS, NODE

from messages.message import Message
from overseer.graph import filters, net_filters
from overseer.nats.accounts import NodeUsers, accounts_config, inbox_prefix, user_names
from overseer.nats.keys import KeyFolder
from overseer.nats.provision import Provisioner
from overseer.nats.resources import BusLimits, node_consumers, node_streams
from overseer.nats.server import EmbeddedServer, ServerSettings

DEADLINE_S = 10
LIMITS = BusLimits(node_bytes_max=8 * 1024**2, net_bytes_max=4 * 1024**2, pov_bytes_max=4 * 1024**2)
SITES_LIMITS = BusLimits(log_bytes_max=8 * 1024**2)
SETTINGS = ServerSettings(store_bytes_max=LIMITS.store_bytes + SITES_LIMITS.log_store_bytes)


class Answer:
    def __init__(self, body: bytes) -> None:
        self.body = body


class User:
    """A raw client with its own key; remembers what the server said against it."""

    def __init__(self, name: str, client: Client, errors: list[str]) -> None:
        self.name = name
        self.client = client
        self.errors = errors

    async def ask(self, subject: str, body: object = b"", *, headers: dict[str, str] | None = None) -> dict[str, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return json.loads((await self.client.request(subject, data, timeout=DEADLINE_S, headers=headers)).data)

    async def request(self, subject: str, body: bytes, *, timeout_ms: int) -> Answer:
        """As the provisioner's connection."""
        return Answer((await self.client.request(subject, body, timeout=timeout_ms / 1000)).data)

    async def refused(self, subject: str, body: bytes = b"{}", *, reply: str = "") -> bool:
        """Whether the server refuses this publish."""
        self.errors.clear()
        await self.client.publish(subject, body, reply=reply)
        await self.settle()
        return any("permissions violation" in error for error in self.errors)

    async def settle(self) -> None:
        """Everything sent so far is handled: the server says what it denies before it answers what comes after.

        (The client's `flush` overtakes what it still holds back.)
        """
        await self.ask("$JS.API.INFO")

    async def listen(self, subject: str) -> "asyncio.Queue[Msg]":
        queue: asyncio.Queue[Msg] = asyncio.Queue()

        async def take(message: Msg) -> None:
            queue.put_nowait(message)

        await self.client.subscribe(subject, cb=take)
        await self.settle()
        return queue

    async def pull(self, stream: str, durable: str, count: int) -> list[Msg]:
        """`count` messages by hand, with a heartbeat, over the imports."""
        inbox = self.client.new_inbox()
        queue = await self.listen(f"{inbox}.*")
        body = {"batch": count, "expires": 5 * 10**9, "idle_heartbeat": 10**9}
        await self.client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}", json.dumps(body).encode(), reply=f"{inbox}.1")
        found: list[Msg] = []
        with anyio.fail_after(DEADLINE_S):
            while len(found) < count:
                message = await queue.get()
                if message.reply.startswith("$JS.ACK."):
                    found.append(message)
                else:
                    assert (message.headers or {}).get("Status") == "100", message.headers
        return found


class Bus:
    """The server, the keys, and clients on demand."""

    def __init__(self, folder: Path, *, sites: tuple[str, ...] = (), speaks: Mapping[str, tuple[type[Message], ...]] | None = None) -> None:
        """`speaks`: operators besides the usual one, and what they say to the network."""
        told = speaks or {}
        operators = ("operator", *told)
        self.keys = KeyFolder(folder / "keys")
        keys = self.keys.ensure(user_names(DECLARATIONS, operators=operators, sites=sites))
        self.node = NodeUsers(node=NODE, declarations=DECLARATIONS, keys=keys, operators=operators, speaks=told, sites=sites)
        self.server = EmbeddedServer(folder / "nats", accounts_config([self.node]), settings=SETTINGS)
        self.users: list[User] = []

    async def user(self, name: str) -> User:
        errors: list[str] = []

        async def note(error: Exception) -> None:
            errors.append(str(error))

        client = await nats.connect(
            self.server.url,
            nkeys_seed=str(self.keys.path(name)),
            inbox_prefix=inbox_prefix(name, NODE).encode(),
            error_cb=note,
            allow_reconnect=False,
            connect_timeout=DEADLINE_S,
        )
        user = User(name, client, errors)
        self.users.append(user)
        return user

    async def provisioner(self) -> Provisioner:
        return Provisioner(await self.user("provisioner"), node_streams(NODE, LIMITS), self.consumers())

    def consumers(self) -> Any:
        return node_consumers(NODE, DECLARATIONS, filters, net_filters)

    async def close(self) -> None:
        for user in self.users:
            await user.client.close()
