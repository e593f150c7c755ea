"""The SiteMail port in memory: sites of one process, in virtual time, with delays, losses and partitions."""

from collections.abc import Awaitable, Callable

import anyio
import anyio.abc
import anyio.lowlevel

from messages.election_pairs import PairMessage
from overseer.ports.bus import BusUnavailable, Handler, Request, Response
from overseer.ports.clock import Clock
from overseer.ports.sites import Answer, Hear

__all__ = ["MemoryPostOffice", "MemorySiteMail"]

# Milliseconds until a message from one site arrives at another; None: it is lost. Asked for each message.
Delay = Callable[[str, str], int | None]


class MemoryPostOffice:
    """Between the sites of a node. Messages travel as tasks of `tasks`; `delay` is asked for each one, both ways of a question."""

    def __init__(self, clock: Clock, tasks: anyio.abc.TaskGroup, *, delay: Delay | None = None) -> None:
        self.clock = clock
        self.tasks = tasks
        self.delay: Delay = delay or (lambda _, __: 0)
        # Sites in different groups do not reach each other.
        self._groups: dict[str, int] = {}
        self._served: dict[str, MemorySiteMail] = {}

    def mail(self, site: str) -> "MemorySiteMail":
        """The port of one life of a site."""
        return MemorySiteMail(self, site)

    def split(self, *groups: tuple[str, ...]) -> None:
        """A partition; sites that are not named stay together. Without groups: healed."""
        self._groups = {site: number for number, group in enumerate(groups, 1) for site in group}

    async def people(self, to: str, subject: str, body: bytes, headers: dict[str, str], timeout_ms: int) -> Response:
        """A person's request to the mailroom of a site. Raises BusUnavailable."""
        request = Request(subject, headers, body, "people")

        async def ask() -> Response | None:
            mail = await self._arrive("", to)
            response = None if mail is None or mail.handle is None else await mail.handle(request)
            # Who died meanwhile answers nobody.
            return response if mail is not None and mail.alive else None

        return await self.answered(ask, timeout_ms)

    def served(self, site: str, mail: "MemorySiteMail") -> None:
        self._served[site] = mail

    def gone(self, site: str, mail: "MemorySiteMail") -> None:
        if self._served.get(site) is mail:
            del self._served[site]

    async def _arrive(self, sender: str, to: str) -> "MemorySiteMail | None":
        """Travel; who is there then."""
        delay_ms = self.delay(sender, to)
        if delay_ms is None:
            return None
        await anyio.lowlevel.checkpoint()
        await self.clock.sleep_until(self.clock.now_ms() + delay_ms)
        return self._served.get(to) if self._connected(sender, to) else None

    def _connected(self, one: str, other: str) -> bool:
        return not one or self._groups.get(one, 0) == self._groups.get(other, 0)

    async def carry(self, sender: str, to: str, message: PairMessage) -> None:
        mail = await self._arrive(sender, to)
        if mail is not None and mail.hear is not None and message.site == sender:
            mail.hear(message)

    async def question(self, sender: str, to: str, message: PairMessage, timeout_ms: int) -> Response:
        async def ask() -> Response | None:
            mail = await self._arrive(sender, to)
            if mail is None or mail.answer is None or message.site != sender:
                return None
            response = await mail.answer(message)
            back_ms = self.delay(to, sender)
            if back_ms is None or not mail.alive or not self._connected(sender, to):
                return None
            await self.clock.sleep_until(self.clock.now_ms() + back_ms)
            return response

        return await self.answered(ask, timeout_ms)

    async def answered(self, ask: Callable[[], Awaitable[Response | None]], timeout_ms: int) -> Response:
        """What `ask` comes to in time. The one asked works on, whether or not anybody waits still."""
        heard: list[Response] = []
        done = anyio.Event()

        async def work() -> None:
            response = await ask()
            if response is not None:
                heard.append(response)
                done.set()

        until_ms = self.clock.now_ms() + timeout_ms
        self.tasks.start_soon(work)
        await self.clock.wait(done, until_ms)
        if not heard:
            raise BusUnavailable(f"no answer within {timeout_ms} ms")
        return heard[0]


class MemorySiteMail:
    """Implements `overseer.ports.sites.SiteMail`; made by `MemoryPostOffice.mail`."""

    def __init__(self, office: MemoryPostOffice, site: str) -> None:
        self._office = office
        self._site = site
        self.alive = True
        self.hear: Hear | None = None
        self.answer: Answer | None = None
        self.handle: Handler | None = None

    async def send(self, to: str, message: PairMessage) -> None:
        if self.alive:
            self._office.tasks.start_soon(self._office.carry, self._site, to, message)

    async def ask(self, to: str, message: PairMessage, timeout_ms: int) -> Response:
        if not self.alive:
            raise BusUnavailable("closed")
        return await self._office.question(self._site, to, message, timeout_ms)

    async def serve(self, hear: Hear, answer: Answer, handle: Handler) -> None:
        self.hear, self.answer, self.handle = hear, answer, handle
        self._office.served(self._site, self)

    async def close(self) -> None:
        self.die()

    def die(self) -> None:
        """What a kill is: nothing goes out any more, nothing comes in."""
        self.alive = False
        self.hear = self.answer = self.handle = None
        self._office.gone(self._site, self)
