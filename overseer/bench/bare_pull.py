"""The limit of reading a stream: nats-py, a pull by hand, one acknowledgement for each batch; nothing is done with what comes."""

# nats-py leaves some of its types open.
# pyright: reportUnknownMemberType=false

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from messages.subjects import node_stream
from overseer.bench.site import NODE, OPERATOR, Site
from overseer.nats.accounts import inbox_prefix
from overseer.nats.keys import KeyFolder

__all__ = ["BarePull", "bare_pull"]

_BATCH = 1_000
_EXPIRES_NS = 30 * 10**9
_ACKS_PENDING_MAX = 200_000


class BarePull:
    """A raw client that may have consumers of its own. Made by `bare_pull`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._count = 0

    async def run(self, subject: str, first: int, count: int) -> float:
        """Pull `count` messages of `subject` from the stream's sequence `first` on; how many in a second."""
        self._count += 1
        durable = f"bare_{self._count}"
        await self._create(durable, subject, first)
        began = time.perf_counter()
        await self._pull(durable, count)
        took = time.perf_counter() - began
        await self._ask(f"CONSUMER.DELETE.{node_stream(NODE)}.{durable}", None)
        return count / took

    async def _create(self, durable: str, subject: str, first: int) -> None:
        stream = node_stream(NODE)
        config = {
            "durable_name": durable,
            "ack_policy": "all",
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": first,
            "filter_subject": subject,
            "max_ack_pending": _ACKS_PENDING_MAX,
        }
        await self._ask(f"CONSUMER.CREATE.{stream}.{durable}.{subject}", {"stream_name": stream, "config": config})

    async def _pull(self, durable: str, count: int) -> None:
        client = self._client
        inbox = client.new_inbox()
        arrived: list[Msg] = []
        some = asyncio.Event()

        async def take(message: Msg) -> None:
            arrived.append(message)
            some.set()

        subscription = await client.subscribe(inbox, cb=take)
        request = json.dumps({"batch": 2 * _BATCH, "expires": _EXPIRES_NS}).encode()
        outstanding = 0
        while count:
            if outstanding < _BATCH:
                await client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{node_stream(NODE)}.{durable}", request, reply=inbox)
                outstanding += 2 * _BATCH
            await some.wait()
            batch = [message for message in arrived[:_BATCH] if message.reply]
            del arrived[:_BATCH]
            if not arrived:
                some.clear()
            if batch:
                outstanding -= len(batch)
                count -= len(batch)
                await client.publish(batch[-1].reply, b"+ACK")
        await subscription.unsubscribe()

    async def _ask(self, call: str, body: object) -> None:
        answer = await self._client.request(f"$JS.API.{call}", b"" if body is None else json.dumps(body).encode(), timeout=10)
        found = json.loads(answer.data)
        if "error" in found:
            raise RuntimeError(f"{call}: {found['error']}")


@asynccontextmanager
async def bare_pull(site: Site) -> AsyncGenerator[BarePull, None]:
    client = await nats.connect(
        site.url,
        nkeys_seed_str=KeyFolder(site.config.keys_dir).seed(OPERATOR).reveal(),
        inbox_prefix=inbox_prefix(OPERATOR, NODE).encode(),
        allow_reconnect=False,
    )
    try:
        yield BarePull(client)
    finally:
        await client.close()
