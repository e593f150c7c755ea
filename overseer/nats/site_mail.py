"""Mail between the sites of replicated elections, and from people, on request/reply subjects.

    overseer.<node>.elections_<site>.pair.<key>.<message>   from another site: to be heard, or with a reply subject to be answered
    overseer.<node>.elections_<site>.mail.<key>.<command>   from people: commands and queries

Who sent a message is told by the server, by the account that it crossed from: a site that names another as the sender is not heard.
"""

import asyncio
from collections.abc import Mapping
from typing import cast

from messages.codec import CodecError, decode, encode
from messages.election_pairs import PairMessage
from messages.message import CATALOG, Kind
from overseer.nats.accounts import account_name
from overseer.nats.connection import Connection, Listening
from overseer.nats.exchange import NatsExchange, caller_account, finish, send_response, track
from overseer.nats.sites import mail_filter, pair_filter, site_user
from overseer.nats.wire import wire_text
from overseer.ports.bus import BusUnavailable, EndpointSpec, Handler, Response
from overseer.ports.envelope import BUSY, HANDLER_FAILED
from overseer.ports.sites import Answer, Hear

__all__ = ["NatsSiteMail"]

_DRAIN_S = 5.0
# Questions of other sites beyond it are refused as busy.
_ANSWERING_MAX = 1_024


class NatsSiteMail:
    """Implements `overseer.ports.sites.SiteMail`."""

    def __init__(
        self,
        connection: Connection,
        *,
        node: str,
        site: str,
        metadata: Mapping[str, str] | None = None,
        shown: Mapping[str, str] | None = None,
    ) -> None:
        """`connection` is the site's own. Discovery shows `metadata` of the site, and `shown` of what people may ask it."""
        self._connection = connection
        self._node = node
        self._site = site
        self._exchange = NatsExchange(connection, metadata=metadata)
        self._shown = dict(shown or {})
        self._answering: set[asyncio.Task[None]] = set()
        self._listening: Listening | None = None
        # What went out last, with its bytes: a batch goes to four sites.
        self._last: tuple[PairMessage, bytes] | None = None
        # Messages that were not what they said, or not from whom they said.
        self.refused = 0

    async def send(self, to: str, message: PairMessage) -> None:
        if self._last is None or self._last[0] is not message:
            self._last = (message, encode(message))
        try:
            await self._connection.publish(self._subject(to, message), self._last[1])
        except BusUnavailable:
            # As lost as one that the network dropped.
            return

    async def ask(self, to: str, message: PairMessage, timeout_ms: int) -> Response:
        return await self._exchange.request(self._subject(to, message), encode(message), {}, timeout_ms)

    async def serve(self, hear: Hear, answer: Answer, handle: Handler) -> None:
        def take(subject: bytes, reply: bytes, headers: bytes, body: bytes) -> None:
            message = self._read(subject, headers, body)
            if message is None:
                self.refused += 1
            elif not reply:
                hear(message)
            elif len(self._answering) >= _ANSWERING_MAX:
                track(self._answering, send_response(self._connection, wire_text(reply), Response(b"", {}, BUSY)))
            else:
                track(self._answering, self._answer(answer, message, wire_text(reply)))

        self._listening = await self._connection.listen(pair_filter(self._node, self._site), take)
        mail = EndpointSpec("mail", mail_filter(self._node, self._site), self._shown)
        try:
            await self._exchange.serve(site_user(self._site), "Commands and queries for elections, at any site", [(mail, handle)])
        except BaseException:
            # All or nothing: a retry must not hear everything twice.
            await self._unlisten()
            raise

    async def close(self) -> None:
        await self._unlisten()
        await self._exchange.close()
        await finish(self._answering, _DRAIN_S)

    async def _unlisten(self) -> None:
        listening, self._listening = self._listening, None
        if listening is not None:
            await self._connection.unlisten(listening)

    def _subject(self, to: str, message: PairMessage) -> str:
        return f"overseer.{self._node}.{site_user(to)}.pair.{message.election}.{message.spec.name}"

    def _read(self, subject: bytes, headers: bytes, body: bytes) -> PairMessage | None:
        """The message, if it is one and from the site that it names."""
        key, _, name = wire_text(subject).rpartition(".")
        spec = CATALOG.find(Kind.PAIR, "elections", name)
        if spec is None:
            return None
        try:
            message = cast(PairMessage, decode(spec, body))
        except CodecError:
            return None
        sender = account_name(self._node, site_user(message.site))
        return message if caller_account(headers) == sender and key.endswith(f".{message.election}") else None

    async def _answer(self, answer: Answer, message: PairMessage, reply: str) -> None:
        try:
            response = await answer(message)
        except Exception:
            response = Response(b"", {}, HANDLER_FAILED)
        await send_response(self._connection, reply, response)
