"""The elections' log on JetStream: one stream per node, one subject per election, compare-and-set on each (docs/elections.md).

Two things are compared by the server at once with an append: the last sequence of the election's subject, by a header, and the
stream's id, which is a token of the subject (`overseer.nats.sites`). Where no stream takes the subject, nothing was stored.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import anyio

from overseer.nats.append import append_one
from overseer.nats.connection import Connection
from overseer.nats.line import NatsLine
from overseer.nats.sites import LogSubject, log_durable, log_filter, log_stream, log_subject, site_user
from overseer.pauses import Pauses
from overseer.ports.bus import BusUnavailable, Delivery, Outgoing, StoredMessage, StreamState
from overseer.ports.envelope import check_envelope
from overseer.ports.sites import Logged, LoggedPage, StreamReplaced

__all__ = ["NatsElectionLog"]

# The only elections whose events are in a log.
_KIND = "ballots"
_EXPECTED_STREAM = "Nats-Expected-Stream"
_EXPECTED_LAST = "Nats-Expected-Last-Subject-Sequence"

# The reader is told at least every second that it is at the end; this leaves time to ask the server whether it is.
_IDLE_MS = 700
# Between attempts to go on: the server, its stream or the consumer may be away for a while.
_PAUSE_MS = 50
_PAUSE_MS_MAX = 1_000


class NatsElectionLog:
    """Implements `overseer.ports.sites.ElectionLog` for one site. One `follow` at a time: it is the site's durable consumer."""

    def __init__(
        self,
        connection: Connection,
        *,
        node: str,
        site: str,
        page_entries: int = 256,
        request_timeout_ms: int = 5_000,
    ) -> None:
        """`connection` is the site's own. `page_entries`: of `follow`, at most so many at once."""
        self._connection = connection
        self._node = node
        self._name = log_stream(node)
        self._page_entries = page_entries
        self._timeout_ms = request_timeout_ms
        self._line = NatsLine(
            connection,
            stream=self._name,
            sender=site_user(site),
            own_filter=log_filter(_KIND, node),
            durable=log_durable(site, _KIND),
            request_timeout_ms=request_timeout_ms,
        )
        # The stream's id as last seen: saves a question where it still holds.
        self._id = ""

    async def append(self, election: str, body: bytes, *, stream: str, expected: int) -> int:
        subject = self._subject(election, stream)
        check_envelope(subject, {}, body)
        condition = {_EXPECTED_STREAM: self._name, _EXPECTED_LAST: str(expected)}
        try:
            return await append_one(self._connection, Outgoing(subject, {}, body), condition, self._timeout_ms)
        except BusUnavailable:
            now = await self._stream_id()
            if now != stream:
                raise StreamReplaced(now) from None
            raise

    async def last(self, election: str) -> tuple[str, Logged | None]:
        stream = self._id or await self._stream_id()
        while True:
            stored = await self._line.last_under(self._subject(election, stream))
            if stored is not None:
                return stream, _logged(stored)
            # There is none, or the stream is another one.
            before, stream = stream, await self._stream_id()
            if stream == before:
                return stream, None

    async def read(self, election: str, *, after: int, entries: int) -> LoggedPage:
        """See `ElectionLog.read`. `remaining` is 1 where there are more."""
        stream = await self._stream_id()
        subject = self._subject(election, stream)
        found: list[Logged] = []
        while (stored := await self._line.first_under(subject, after + 1)) is not None:
            if len(found) == entries:
                break
            found.append(_logged(stored))
            after = stored.sequence
        return LoggedPage(stream, tuple(found), remaining=0 if stored is None else 1)

    async def follow(self, *, after: int, stream: str) -> AsyncGenerator[LoggedPage, None]:
        """See `ElectionLog.follow`. Raises BusDenied."""
        pauses = Pauses(_PAUSE_MS, _PAUSE_MS_MAX)
        try:
            while True:
                try:
                    stream, after = await self._begin(stream, after)
                    async with aclosing(self._pages(stream, after)) as pages:
                        async for page in pages:
                            after = page.entries[-1].sequence if page.entries else after
                            pauses.reset()
                            yield page
                except BusUnavailable:
                    await anyio.sleep(pauses.next_ms() / 1000)
                    await self._line.connected()
        finally:
            await self._line.unpull()

    # --- following -------------------------------------------------------------------------------------------------------

    async def _begin(self, stream: str, after: int) -> tuple[str, int]:
        """Set the consumer behind `after`, or to the beginning of another stream; where it stands then.

        A stream that lost its tail goes on below `after`: what is new in it must not be passed over.
        """
        state = await self._state()
        stream, after = (stream, min(after, state.last_sequence)) if state.id == stream else (state.id, 0)
        await self._line.seek(after + 1)
        return stream, after

    async def _pages(self, stream: str, after: int) -> AsyncGenerator[LoggedPage, None]:
        """From where the consumer stands. Raises BusUnavailable when it must be set anew."""
        if await self._at_end(stream, after):
            # Said at once: a site that has everything is not to wait for a pull that brings nothing.
            yield LoggedPage(stream, (), 0)
        overdue = False
        while True:
            deliveries = await self._line.pull(self._page_entries, _IDLE_MS)
            if deliveries:
                overdue = False
                after = deliveries[-1].message.sequence
                page = LoggedPage(stream, await self._own(stream, deliveries), _remaining(deliveries[-1]))
                if page.entries:
                    yield page
                # Only now has whoever iterates done with them: the consumer's acknowledged position tells people how far the site is.
                await self._line.ack(deliveries[-1])
            elif await self._at_end(stream, after):
                yield LoggedPage(stream, (), 0)
            elif overdue:
                raise BusUnavailable(f"{self._name} holds entries behind {after} that do not come")
            else:
                overdue = True

    async def _own(self, stream: str, deliveries: Sequence[Delivery]) -> tuple[Logged, ...]:
        """Those of this very stream. Raises BusUnavailable when it is another by now: then they may not be its first."""
        own = tuple(_logged(d.message) for d in deliveries if LogSubject.parse(d.message.subject).stream == stream)
        if len(own) < len(deliveries):
            await self._check_same(stream)
        return own

    async def _at_end(self, stream: str, after: int) -> bool:
        await self._check_same(stream)
        return await self._line.first_under(log_filter(_KIND, self._node, stream), after + 1) is None

    async def _check_same(self, stream: str) -> None:
        if await self._stream_id() != stream:
            raise BusUnavailable(f"{self._name} is another stream than {stream}")

    # --- inside ----------------------------------------------------------------------------------------------------------

    async def _state(self) -> StreamState:
        state = await self._line.state()
        self._id = state.id
        if not self._id:
            raise BusUnavailable(f"{self._name} has no id: it was not made by `overseer provision`")
        return state

    async def _stream_id(self) -> str:
        return (await self._state()).id

    def _subject(self, election: str, stream: str) -> str:
        return log_subject(_KIND, election, self._node, stream)


def _logged(stored: StoredMessage) -> Logged:
    return Logged(stored.sequence, LogSubject.parse(stored.subject).election, stored.body)


def _remaining(delivery: Delivery) -> int:
    """What the server had left for the consumer: a token of the acknowledgement's subject (`overseer.nats.pull.parse_ack`)."""
    tokens = delivery.ack_token.split(".")
    return int(tokens[8 if len(tokens) == 9 else 10])
