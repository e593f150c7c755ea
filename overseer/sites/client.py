"""A person's side of elections on several sites: any site will do, and another one when it does not answer."""

from secrets import token_hex

import anyio

from messages.codec import decode, encode
from messages.election_pairs import CopyReport, GetCopy
from messages.elections import Elections, ElectionSummary, ListElections, OfElection
from messages.message import Message
from messages.overseer import CommandOutcome
from messages.subjects import HEADER_COMMAND_ID
from overseer.nats.connection import Connection
from overseer.nats.exchange import NatsExchange
from overseer.nats.sites import site_user
from overseer.node.client import accepted, message_headers, refusal_of
from overseer.ports.bus import BusError, BusUnavailable, Response
from overseer.sites.mailroom import ALL, HEADER_FRESHNESS

__all__ = ["SitesClient"]

# In all, for one command or query.
_PATIENCE_S = 20.0
# For one site's answer: longer than a new writer takes to recover, shorter than anybody's patience.
_COMMAND_MS = 3_000
_QUERY_MS = 1_000
_PAUSE_S = 0.1
# Refusals that are no outcome of the command: the same id is sent again.
_AGAIN = frozenset({"not_owned_yet", "too_few_copies", "writer_busy", "not_applied_yet", "busy", "timeout"})


class SitesClient:
    """As `overseer.node.client.Client`, for elections. `stale`: whether the last answer may be behind."""

    def __init__(self, connection: Connection, node: str, sites: tuple[str, ...], *, patience_s: float = _PATIENCE_S) -> None:
        self.connection = connection
        self.sites = sites
        self.stale = False
        self._node = node
        self._exchange = NatsExchange(connection)
        self._patience_s = patience_s
        # The one that answered last is asked first.
        self._first = 0

    async def query(self, query: Message) -> Message:
        """The reply. Raises Refused, BusError."""
        if isinstance(query, ListElections):
            return await self._list(query)
        response = await self._persistent(query, message_headers(query), _QUERY_MS)
        if response.error is not None:
            raise refusal_of(query, response)
        self.stale = response.headers.get(HEADER_FRESHNESS, "").endswith(" 1")
        assert query.spec.reply is not None
        return decode(query.spec.reply.spec, response.body)

    async def request(self, command: OfElection, *, command_id: str = "") -> CommandOutcome:
        """The outcome of an accepted command; sent again with the same id while nobody knows it. Raises Refused, BusError."""
        headers = {**message_headers(command), HEADER_COMMAND_ID: command_id or token_hex(16)}
        response = await self._persistent(command, headers, _COMMAND_MS)
        if response.error is not None and response.error[0] != "409":
            raise refusal_of(command, response)
        return accepted(command, response)

    async def copies(self, election: str) -> dict[str, CopyReport | None]:
        """What every site says of its copy; None of one that does not answer."""
        found: dict[str, CopyReport | None] = dict.fromkeys(self.sites)

        async def ask(site: str) -> None:
            query = GetCopy(election=election)
            try:
                response = await self._ask(site, query, message_headers(query), _QUERY_MS)
            except BusUnavailable:
                return
            if response.error is None:
                report = decode(CopyReport.spec, response.body)
                assert isinstance(report, CopyReport)
                found[site] = report

        async with anyio.create_task_group() as tasks:
            for site in self.sites:
                tasks.start_soon(ask, site)
        return found

    async def _list(self, query: ListElections) -> Elections:
        """A site lists what it holds: all sites together list everything. Raises BusUnavailable when none answers."""
        pages: list[Elections] = []

        async def ask(site: str) -> None:
            try:
                response = await self._ask(site, query, message_headers(query), _QUERY_MS)
            except BusUnavailable:
                return
            if response.error is None:
                page = decode(Elections.spec, response.body)
                assert isinstance(page, Elections)
                pages.append(page)

        async with anyio.create_task_group() as tasks:
            for site in self.sites:
                tasks.start_soon(ask, site)
        if not pages:
            raise BusUnavailable("no site of the elections answers")
        rows: dict[str, ElectionSummary] = {}
        for row in (row for page in pages for row in page.elections):
            if row.election not in rows or rows[row.election].sequence < row.sequence:
                rows[row.election] = row
        # Behind where the first of them ends, a page lacks what another site has.
        ends = [page.elections[-1].election for page in pages if page.more and page.elections]
        kept = [rows[key] for key in sorted(rows) if not ends or key <= min(ends)]
        return Elections(elections=kept, more=bool(ends))

    async def _persistent(self, message: Message, headers: dict[str, str], wait_ms: int) -> Response:
        """An answer that is one, from any site. Raises BusError when there was none in time."""
        until = anyio.current_time() + self._patience_s
        failed: BusError = BusUnavailable("no site of the elections answers")
        while True:
            for step in range(len(self.sites)):
                number = (self._first + step) % len(self.sites)
                try:
                    response = await self._ask(self.sites[number], message, headers, wait_ms)
                except BusUnavailable as error:
                    failed = error
                    continue
                late = anyio.current_time() >= until
                if response.error is None or response.error[1] not in _AGAIN or late:
                    self._first = number
                    return response
            if anyio.current_time() >= until:
                raise failed
            await anyio.sleep(_PAUSE_S)

    async def _ask(self, site: str, message: Message, headers: dict[str, str], wait_ms: int) -> Response:
        key = message.election if isinstance(message, OfElection) else ALL
        subject = f"overseer.{self._node}.{site_user(site)}.mail.{key}.{message.spec.name}"
        return await self._exchange.request(subject, encode(message), headers, wait_ms)
