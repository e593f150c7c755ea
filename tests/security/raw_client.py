"""A client that speaks the NATS protocol by hand: it sends what no library would, and hears everything the server says."""

import asyncio
import base64
import contextlib
import json
import re
from collections.abc import Iterable
from itertools import count
from typing import Any, NamedTuple

import anyio
import nkeys

from overseer.nats.keys import Seed

__all__ = ["Heard", "RawClient", "refused_at_the_door"]

DEADLINE_S = 20
_DENIED = re.compile(r"Permissions Violation for (Publish|Subscription)[^\"]*\"(.*?)\"")


class Heard(NamedTuple):
    subject: str
    reply: str
    headers: bytes
    body: bytes


class RawClient:
    """One connection. `denied` collects what the server refused, as (verb, subject)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, inbox: str) -> None:
        self._reader = reader
        self._writer = writer
        self.inbox = inbox
        self.denied: list[tuple[str, str]] = []
        self.errors: list[str] = []
        self.heard: list[Heard] = []
        self._sids = count(1)
        self._tokens = count(1)

    @staticmethod
    async def connect(url: str, seed: Seed, inbox: str) -> "RawClient":
        host, _, port = url.rpartition("://")[2].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=16 * 1024**2)
        info = json.loads((await reader.readline())[5:])
        pair = nkeys.from_seed(bytearray(seed.reveal().encode()))
        options = {
            "verbose": False,
            "pedantic": False,
            "headers": True,
            "no_responders": True,
            "protocol": 1,
            "lang": "test",
            "version": "1",
            "nkey": pair.public_key.decode(),
            "sig": base64.urlsafe_b64encode(pair.sign(info["nonce"].encode())).decode().rstrip("="),
        }
        client = RawClient(reader, writer, inbox)
        try:
            client.send(f"CONNECT {json.dumps(options)}\r\n".encode())
            await client.settle()
            client.send(f"SUB {inbox}.> {next(client._sids)}\r\n".encode())
            await client.settle()
            assert client.denied == [], client.denied
        except BaseException:
            await client.close()
            raise
        return client

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def settle(self) -> None:
        """Everything sent is handled by the server; what it says of it has been heard."""
        self.send(b"PING\r\n")
        with anyio.fail_after(DEADLINE_S):
            while (line := await self._operation()) != b"PONG":
                assert line, self.errors
        await self._writer.drain()

    async def until(self, wanted: int) -> None:
        """Wait until so many messages have been heard in all."""
        with anyio.fail_after(DEADLINE_S):
            while len(self.heard) < wanted:
                assert await self._operation(), self.errors

    async def _operation(self) -> bytes:
        line = (await self._reader.readline()).rstrip(b"\r\n")
        if line.startswith((b"MSG ", b"HMSG ")):
            fields = line.decode().split(" ")
            with_headers = fields[0] == "HMSG"
            data = (await self._reader.readexactly(int(fields[-1]) + 2))[:-2]
            cut = int(fields[-2]) if with_headers else 0
            reply = fields[3] if len(fields) == 5 + with_headers else ""
            self.heard.append(Heard(fields[1], reply, data[:cut], data[cut:]))
        elif line.startswith(b"-ERR"):
            text = line.decode()
            self.errors.append(text)
            named = _DENIED.search(text)
            if named:
                self.denied.append((named[1].lower(), named[2]))
        elif line == b"PING":
            self.send(b"PONG\r\n")
        return line

    # --- what is tried ---------------------------------------------------------------------------------------------------

    def publish(self, subject: str, body: bytes = b"{", *, reply: str = "", headers: bytes = b"") -> None:
        """`headers`: raw lines, each ended by CR LF."""
        to = f" {reply}" if reply else ""
        if headers:
            block = b"NATS/1.0\r\n" + headers + b"\r\n"
            self.send(f"HPUB {subject}{to} {len(block)} {len(block) + len(body)}\r\n".encode() + block + body + b"\r\n")
        else:
            self.send(f"PUB {subject}{to} {len(body)}\r\n".encode() + body + b"\r\n")

    async def refused_publishes(self, subjects: Iterable[str], *, asking: bool) -> set[str]:
        """Those of the subjects that may not be published to; `asking`: with a reply subject of our own."""
        self.denied.clear()
        for number, subject in enumerate(subjects):
            self.publish(subject, reply=f"{self.inbox}.{number}" if asking else "")
            if number % 500 == 499:
                await self.settle()
        await self.settle()
        assert all(verb == "publish" for verb, _ in self.denied), self.denied
        return {subject for _, subject in self.denied}

    async def refused_subscriptions(self, subjects: Iterable[str], *, queue: str = "") -> set[str]:
        self.denied.clear()
        group = f" {queue}" if queue else ""
        for number, subject in enumerate(subjects):
            sid = next(self._sids)
            self.send(f"SUB {subject}{group} {sid}\r\nUNSUB {sid}\r\n".encode())
            if number % 500 == 499:
                await self.settle()
        await self.settle()
        assert all(verb == "subscription" for verb, _ in self.denied), self.denied
        return {subject for _, subject in self.denied}

    async def listen(self, *subjects: str) -> None:
        for subject in subjects:
            self.send(f"SUB {subject} {next(self._sids)}\r\n".encode())
        await self.settle()

    async def ask(self, subject: str, body: object = b"", *, headers: bytes = b"") -> dict[str, Any]:
        """The JSON answer. Raises AssertionError when it is denied."""
        inbox = f"{self.inbox}.ask{next(self._tokens)}"
        before = len(self.denied)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.publish(subject, data, reply=inbox, headers=headers)
        with anyio.fail_after(DEADLINE_S):
            while True:
                for heard in self.heard:
                    if heard.subject == inbox:
                        self.heard.remove(heard)
                        return json.loads(heard.body)
                assert await self._operation(), self.errors
                assert len(self.denied) == before, self.denied


async def refused_at_the_door(url: str, connect_line: bytes, rest: bytes) -> bytes:
    """Say `connect_line` and `rest` at once without waiting; returns all the server says until it shuts the door."""
    host, _, port = url.rpartition("://")[2].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    said = b""
    try:
        await reader.readline()
        writer.write(connect_line + rest)
        with anyio.fail_after(DEADLINE_S):
            while data := await reader.read(65536):
                said += data
    except ConnectionError:
        pass
    finally:
        writer.close()
    return said
