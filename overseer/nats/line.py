"""A line over JetStream: pull from one durable consumer, append under one sender token, look at single messages."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, cast

import msgspec

from overseer.nats.append import append_batch, append_one, compare_and_set, refusal
from overseer.nats.connection import Connection
from overseer.nats.pull import EXPIRES_S, Cut, Pull
from overseer.nats.quota import fill_of
from overseer.nats.stored import read_stored
from overseer.nats.trimming import TRIMMED_BELOW
from overseer.ports.bus import BusError, BusUnavailable, Delivery, Outgoing, StoredMessage, StreamState
from overseer.ports.envelope import check_append

__all__ = ["NatsLine"]

# Where the overseer puts the stream's random id.
STREAM_ID_KEY = "overseer_id"

_NO_MESSAGE = 10037

# How often it is looked at whether requests of an earlier pull still wait, and how long at most: all have expired by then.
_ALONE_LOOK_S = 0.1
_ALONE_S = EXPIRES_S + 1.0


class NatsLine:
    """Implements `overseer.ports.bus.Line`. One task pulls; appends may run beside it."""

    def __init__(
        self,
        connection: Connection,
        *,
        stream: str,
        sender: str,
        own_filter: str,
        durable: str = "",
        request_timeout_ms: int = 5_000,
    ) -> None:
        """`durable` may stay empty for a line that never pulls. `request_timeout_ms` is how long one answer is waited for."""
        self._connection = connection
        self._stream = stream
        self._sender = sender
        self._own_filter = own_filter
        self._durable = durable
        self._timeout_ms = request_timeout_ms
        self._pull: Pull | None = None
        self._sought = 1

    @property
    def sender(self) -> str:
        return self._sender

    @property
    def stream(self) -> str:
        return self._stream

    async def connected(self) -> None:
        await self._connection.ready()

    async def state(self) -> StreamState:
        answer = await self._ask(f"STREAM.INFO.{self._stream}", None)
        state: dict[str, Any] = answer["state"]
        last = int(state["last_seq"])
        # An empty stream: the server says 0 and 0 when it is new, last + 1 and last when it was purged.
        first = int(state["first_seq"]) if state["messages"] else last + 1
        metadata: dict[str, str] = answer["config"].get("metadata") or {}
        # Trimming leaves each sender's last message where it is: what is there below the mark is not the history from there on.
        trimmed_below = min(int(metadata.get(TRIMMED_BELOW, "0")), last + 1)
        return StreamState(metadata.get(STREAM_ID_KEY, ""), max(first, trimmed_below), last, fill_of(answer))

    async def message_at(self, sequence: int) -> StoredMessage | None:
        if sequence < 1:
            return None
        return await self._get({"seq": sequence})

    async def last_own(self) -> StoredMessage | None:
        return await self.last_under(self._own_filter)

    async def last_under(self, pattern: str) -> StoredMessage | None:
        """The last message under a filter."""
        return await self._get({"last_by_subj": pattern})

    async def first_under(self, pattern: str, sequence: int) -> StoredMessage | None:
        """The first message under a filter that is at or behind `sequence`."""
        return await self._get({"seq": max(1, sequence), "next_by_subj": pattern})

    async def seek(self, sequence: int) -> None:
        """See `Line.seek`. A sequence below the first relevant message means the first; beyond the last waits for it."""
        if self._pull is not None:
            with contextlib.suppress(BusError):
                await self._pull.registered(self._waiting)
        await self._begin(max(1, sequence), before=0)

    async def _begin(self, sequence: int, *, before: int) -> None:
        """A pull of its own from `sequence` on, in place of the one there is."""
        await self.unpull()
        await self._alone()
        self._sought = sequence
        pull = Pull(self._connection, self._stream, self._durable, before=before)
        try:
            # The old pull's inbox is gone before the reset is handled, and the new one asks only after it: nothing delivered
            # before the reset can reach the new one. Sequence 0 would mean the acknowledged position.
            await self._ask(f"CONSUMER.RESET.{self._stream}.{self._durable}", {"seq": sequence})
            await pull.open()
        except BaseException:
            await pull.close()
            raise
        self._pull = pull

    async def pull(self, batch: int, wait_ms: int) -> list[Delivery]:
        if self._pull is None:
            raise BusUnavailable("the line has no position: seek first")
        try:
            return await self._pull.take(batch, wait_ms / 1000)
        except Cut:
            await self._begin(max(self._sought, self._pull.reached + 1), before=self._pull.handed_out)
        return await self._pull.take(batch, wait_ms / 1000)

    async def unpull(self) -> None:
        """Drop what was asked for and delivered but not taken; the next pull needs a seek."""
        pull, self._pull = self._pull, None
        if pull is not None:
            await pull.close()

    async def ack(self, delivery: Delivery) -> None:
        with contextlib.suppress(BusError):
            await self._connection.publish(delivery.ack_token, b"")

    async def append(self, messages: Sequence[Outgoing], expected_last: int) -> int:
        check_append(messages, self._own_filter)
        condition = compare_and_set(self._own_filter, expected_last)
        if len(messages) == 1:
            return await append_one(self._connection, messages[0], condition, self._timeout_ms)
        return await append_batch(self._connection, messages, condition, self._timeout_ms)

    async def pending(self) -> int:
        """Messages for this consumer that are not acknowledged yet: its lag. Raises BusUnavailable."""
        if not self._durable:
            return 0
        info = await self._consumer()
        return int(info["num_pending"]) + int(info["num_ack_pending"])

    async def _alone(self) -> None:
        """Return when no request waits at the consumer: of a pull that was closed, of a process or a session that ended.

        Where the consumer is led by another server of the cluster than ours, that one does not notice that a listener is gone (seen
        on 2.15.1). What it delivers goes to nobody then, the new pull misses it, and one begun for that would leave requests in its turn.
        """
        loop = asyncio.get_running_loop()
        until_s = loop.time() + _ALONE_S
        while await self._waiting():
            if loop.time() >= until_s:
                return
            await asyncio.sleep(_ALONE_LOOK_S)

    async def _waiting(self) -> int:
        return int((await self._consumer())["num_waiting"])

    async def _consumer(self) -> dict[str, Any]:
        return await self._ask(f"CONSUMER.INFO.{self._stream}.{self._durable}", None)

    async def _get(self, which: dict[str, Any]) -> StoredMessage | None:
        answer = await self._ask(f"STREAM.MSG.GET.{self._stream}", which, absent=_NO_MESSAGE)
        return read_stored(answer["message"]) if answer else None

    async def _ask(self, call: str, body: dict[str, Any] | None, *, absent: int = 0) -> dict[str, Any]:
        """The answer of a JetStream call; empty when its error is `absent`."""
        reply = await self._connection.request(
            f"$JS.API.{call}", msgspec.json.encode(body) if body is not None else b"", timeout_ms=self._timeout_ms
        )
        answer = cast(dict[str, Any], msgspec.json.decode(reply.body))
        error = answer.get("error")
        if error is None:
            return answer
        if absent and error.get("err_code") == absent:
            return {}
        if error.get("code") == 404:
            # No such stream or consumer (yet, or any more): the overseer makes them.
            raise BusUnavailable(f"{call}: {error.get('description')}")
        raise refusal(error)
