"""A person's side of elections on several sites: any site will do, and another one as well when it is silent.

Whoever is asked twice does it once: a query changes nothing, and a command has one effect under its id, at whichever sites it arrives.
"""

import math
from secrets import token_hex
from zlib import crc32

import anyio

from messages.codec import decode, encode
from messages.election_pairs import CopyReport, GetCopy
from messages.elections import Elections, ElectionSummary, ListElections, OfElection
from messages.message import Message
from messages.overseer import CommandOutcome
from messages.subjects import HEADER_COMMAND_ID, headers_of
from overseer.nats.connection import Connection
from overseer.nats.exchange import NatsExchange
from overseer.nats.sites import site_user
from overseer.node.client import accepted, refusal_of
from overseer.ports.bus import BusError, BusUnavailable, Response
from overseer.sites.mailroom import ALL, HEADER_FRESHNESS

__all__ = ["NO_OUTCOME", "SILENT_MS", "SitesClient"]

# In all, for one command or query.
_PATIENCE_S = 20.0
# For one site's answer: longer than a new writer takes to recover, shorter than anybody's patience.
_COMMAND_MS = 3_000
_QUERY_MS = 1_000
# A site that is silent for so long is not waited for alone: the next one is asked beside it. That is what a client loses by a site that was
# killed with the question in hand; one that was gone before is passed over at once. Longer than a commit takes on a busy machine.
SILENT_MS = 300
# Sites that are asked for the same thing at a time. With one of them gone it is enough, and it bounds what slow sites are burdened with.
_AT_ONCE = 2
# A site that left a question to others is asked last for so long.
_SHUNNED_S = 2.0
_PAUSE_S = 0.1
# Refusals that are no outcome of the command: the same id is sent again.
NO_OUTCOME = frozenset({"not_owned_yet", "too_few_copies", "writer_busy", "not_applied_yet", "busy", "timeout"})


class SitesClient:
    """As `overseer.node.client.Client`, for elections. `stale`: whether the last answer may be behind."""

    def __init__(
        self, connection: Connection, node: str, sites: tuple[str, ...], *, patience_s: float = _PATIENCE_S, silent_ms: int = SILENT_MS
    ) -> None:
        self.connection = connection
        self.sites = sites
        self.stale = False
        self._node = node
        self._exchange = NatsExchange(connection)
        self._patience_s = patience_s
        self._silent_s = silent_ms / 1000
        # Until when a site is asked after the others.
        self._shunned: dict[str, float] = {}

    async def query(self, query: Message) -> Message:
        """The reply. Raises Refused, BusError."""
        if isinstance(query, ListElections):
            return await self._list(query)
        response = await self._persistent(query, headers_of(query.spec), _QUERY_MS)
        if response.error is not None:
            raise refusal_of(query, response)
        self.stale = response.headers.get(HEADER_FRESHNESS, "").endswith(" 1")
        assert query.spec.reply is not None
        return decode(query.spec.reply.spec, response.body)

    async def request(self, command: OfElection, *, command_id: str = "") -> CommandOutcome:
        """The outcome of an accepted command; sent again with the same id while nobody knows it. Raises Refused, BusError."""
        headers = {**headers_of(command.spec), HEADER_COMMAND_ID: command_id or token_hex(16)}
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
                response = await self._ask(site, query, headers_of(query.spec), _QUERY_MS)
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
                response = await self._ask(site, query, headers_of(query.spec), _QUERY_MS)
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
        while True:
            answer = await self._round(message, headers, wait_ms, until)
            if _lasting(answer) or anyio.current_time() >= until:
                if isinstance(answer, BusError):
                    raise answer
                return answer
            await anyio.sleep(_PAUSE_S)

    async def _round(self, message: Message, headers: dict[str, str], wait_ms: int, until: float) -> Response | BusError:
        """Ask site after site: the next one when there was no answer, when it was no lasting one, or when there is none yet.

        The first answer that lasts; else a refusal that does not, else why there was none.
        """
        left, waiting = self._order(message), list[str]()
        answer: Response | BusError = BusUnavailable("no site of the elections answers")
        tell, hear = anyio.create_memory_object_stream[tuple[str, Response | BusError]](len(left))

        async def ask(site: str) -> None:
            in_time_ms = max(1, min(wait_ms, int((until - anyio.current_time()) * 1000)))
            try:
                found = await self._ask(site, message, headers, in_time_ms)
            except BusError as error:
                # Not out of the task group: it would come as a group.
                found = error
            tell.send_nowait((site, found))

        async with tell, hear, anyio.create_task_group() as tasks:
            while (left or waiting) and not _lasting(answer):
                if left and len(waiting) < _AT_ONCE:
                    waiting.append(left.pop(0))
                    tasks.start_soon(ask, waiting[-1])
                another = left and len(waiting) < _AT_ONCE
                with anyio.move_on_after(self._silent_s if another else math.inf):
                    site, found = await hear.receive()
                    waiting.remove(site)
                    if isinstance(found, BusUnavailable):
                        self._shun(site)
                    # A refusal says more than silence.
                    if not isinstance(found, BusUnavailable) or isinstance(answer, BusError):
                        answer = found
            for site in waiting:
                self._shun(site)
            tasks.cancel_scope.cancel()
        return answer

    def _order(self, message: Message) -> list[str]:
        """All sites: from one on that the election's key picks, so that they share the work; those that were silent lately come last."""
        start = crc32(_key(message).encode()) % len(self.sites)
        now = anyio.current_time()
        return sorted(self.sites[start:] + self.sites[:start], key=lambda site: self._shunned.get(site, 0.0) > now)

    def _shun(self, site: str) -> None:
        self._shunned[site] = anyio.current_time() + _SHUNNED_S

    async def _ask(self, site: str, message: Message, headers: dict[str, str], wait_ms: int) -> Response:
        subject = f"overseer.{self._node}.{site_user(site)}.mail.{_key(message)}.{message.spec.name}"
        return await self._exchange.request(subject, encode(message), headers, wait_ms)


def _key(message: Message) -> str:
    return message.election if isinstance(message, OfElection) else ALL


def _lasting(answer: Response | BusError) -> bool:
    """Whether asking others would bring nothing else: an outcome, or an error that is not silence."""
    if isinstance(answer, BusError):
        return not isinstance(answer, BusUnavailable)
    return answer.error is None or answer.error[1] not in NO_OUTCOME
