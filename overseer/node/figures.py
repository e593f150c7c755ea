"""Figures of the domain, as the subsystems answer for them: asked over the bus by whoever shows them, each within its time.

What there is to ask is a list (`overseer.node.domains`): one more subsystem is one more entry. Here is how it is asked.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol

import anyio
import msgspec
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from messages.codec import CodecError
from messages.elections import ListElections, OfElection
from messages.message import Message
from messages.subjects import build, node_stream
from overseer.config import Config
from overseer.nats.keys import UnusableKey
from overseer.nats.provision import ApiError
from overseer.nats.stored import stored_message
from overseer.nats.tls import UnusableCertificate
from overseer.node.client import Client, Refused
from overseer.observe.logs import Waits, logger
from overseer.ports.bus import BusError
from overseer.sites.client import SitesClient

__all__ = ["Ask", "Domain", "DomainCollector", "DomainWatch", "Figure", "Look", "NodeAsk", "look_at_domains"]

# Who asks for the metrics: who may look and not command.
READER = "reader"
# How often the metrics' figures are asked for.
LOOK_MS = 10_000
# How long one domain may take for all its questions.
ANSWER_MS = 3_000
# Without a bus, or with a key that is just being rotated, the next connection is tried after this long.
AWAY_MS = 5_000


class Figure(msgspec.Struct, frozen=True):
    """One number of a domain. Its gauge is `overseer_<name>`; people read it under `label`. `unit`: "" for a count, `s`, `on` or `yes`."""

    name: str
    label: str
    meaning: str
    unit: str = ""

    def text(self, value: float) -> str:
        """The number as people read it, with its label."""
        match self.unit:
            case "s":
                return f"{self.label} {_span(value)}"
            case "on":
                return f"{self.label} {'on' if value else 'off'}"
            case "yes":
                return f"{self.label} {'yes' if value else 'no'}"
            case _:
                return f"{self.label} {value:g}" if value < 1e6 else f"{self.label} {value:.0f}"


class Ask(Protocol):
    """Who answers for the node."""

    async def query(self, query: Message) -> Message:
        """The reply. Raises Refused, BusError."""
        ...

    async def silent_s(self, signal: type[Message]) -> float | None:
        """How long ago that signal was last told, in seconds; None when the stream has none. Raises BusError, ApiError."""
        ...


class Domain(msgspec.Struct, frozen=True, kw_only=True):
    """A part of what a node does: its figures, and how to come by them.

    `title`: what people call it. `subsystem`: who answers for it. `figures`: all that there may be.
    `look`: the figures now, by name; some may be missing. Bounded. Raises Refused, BusError.
    """

    title: str
    subsystem: str
    figures: tuple[Figure, ...]
    look: Callable[[Ask], Awaitable[Mapping[str, float]]]


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What a domain's look came to: figures by name, or why there are none."""

    title: str
    subsystem: str
    figures: Mapping[str, float] = {}
    problem: str = ""


class NodeAsk:
    """Asks the running node over the bus; elections on several sites are asked of the sites."""

    def __init__(self, client: Client, sites: tuple[str, ...] = ()) -> None:
        self._client = client
        self._sites = SitesClient(client.connection, client.node, sites) if sites else None

    async def query(self, query: Message) -> Message:
        """The reply. Raises Refused, BusError."""
        if self._sites is not None and isinstance(query, OfElection | ListElections):
            return await self._sites.query(query)
        return await self._client.query(query, timeout_ms=ANSWER_MS)

    async def silent_s(self, signal: type[Message]) -> float | None:
        """Raises BusError, ApiError."""
        node = self._client.node
        subject = build(node, signal.spec.owner, signal.spec)
        last = await stored_message(self._client.connection, node_stream(node), {"last_by_subj": subject})
        return None if last is None else max(0.0, time.time() - last.time_ms / 1000)


async def look_at_domains(domains: Sequence[Domain], ask: Ask, *, answer_ms: int = ANSWER_MS) -> list[Look]:
    """All of them at once, each within `answer_ms`. One that does not answer is named, and nothing is raised."""
    found: dict[str, Look] = {}

    async def look(domain: Domain) -> None:
        figures: Mapping[str, float] = {}
        problem = f"no answer within {answer_ms / 1000:g} s"
        with anyio.move_on_after(answer_ms / 1000):
            try:
                figures, problem = await domain.look(ask), ""
            except (Refused, BusError, ApiError, CodecError) as error:
                # CodecError: one of another release answers.
                problem = str(error)
        found[domain.title] = Look(title=domain.title, subsystem=domain.subsystem, figures=figures, problem=problem)

    async with anyio.create_task_group() as tasks:
        for domain in domains:
            tasks.start_soon(look, domain)
    return [found[domain.title] for domain in domains]


class DomainWatch:
    """Looks at all domains again and again, for the metrics. `looks`: the last look at each; empty before the first."""

    def __init__(self, domains: Sequence[Domain], config: Config, url: str, sites: tuple[str, ...] = ()) -> None:
        self.domains = domains
        self.looks: list[Look] = []
        self._config = config
        self._url = url
        self._sites = sites

    async def run(self) -> None:
        """For ever. What goes wrong is logged once and tried again; without a bus there are no figures."""
        waits = Waits(logger("overseer"), "domain_not_looked_at")
        while True:
            try:
                async with Client.connected(self._config, self._url, READER) as client:
                    ask = NodeAsk(client, self._sites)
                    while True:
                        self.looks = await look_at_domains(self.domains, ask)
                        waits.tell("")
                        await anyio.sleep(LOOK_MS / 1000)
            except (BusError, UnusableKey, UnusableCertificate, OSError) as error:
                # Nothing of the node depends on it.
                waits.tell(str(error))
            self.looks = []
            await anyio.sleep(AWAY_MS / 1000)


class DomainCollector(Collector):
    """The figures of the last look as gauges. Of a subsystem that does not answer there are none: nothing stale is shown."""

    def __init__(self, domains: Sequence[Domain], looks: Callable[[], Iterable[Look]], *, node: str) -> None:
        self._domains = domains
        self._looks = looks
        self._node = node

    def collect(self) -> Iterable[Metric]:
        looks = {look.title: look for look in self._looks()}
        answers = GaugeMetricFamily(
            "overseer_domain_answers", "1 when the subsystem answered for that part of the domain", labels=("node", "subsystem", "domain")
        )
        found: list[Metric] = [answers]
        for domain in self._domains:
            look = looks.get(domain.title)
            if look is None:
                continue
            answers.add_metric((self._node, domain.subsystem, domain.title), not look.problem)
            for figure in domain.figures:
                gauge = GaugeMetricFamily(f"overseer_{figure.name}", figure.meaning, labels=("node", "subsystem"))
                if figure.name in look.figures:
                    gauge.add_metric((self._node, domain.subsystem), look.figures[figure.name])
                    found.append(gauge)
        return found


def _span(seconds: float) -> str:
    """As people say it: 12 s, 3 min, 5 h, 2 d."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
