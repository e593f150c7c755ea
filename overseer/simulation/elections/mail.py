"""The mailrooms: how a command finds the election's writer from any site, and how the answer finds its way back."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from messages.election_pairs import NotOwnedYet, Record
from messages.message import Rejection
from subsystems.elections.runtime import steps
from subsystems.elections.runtime.routing import CatchUp, Deliver, Forward, Refuse, route

if TYPE_CHECKING:
    from overseer.simulation.elections.world import Site, World

__all__ = ["Heard", "Mailrooms"]

Heard = Callable[[Record | Rejection], None]
# How often a mailroom looks for the version of the topology that a message has seen.
_LOOKS = 3
_LOOK_MS = 20


class Mailrooms:
    """Of all sites. Nothing is recorded on the way."""

    def __init__(self, world: "World") -> None:
        self._world = world
        # By origin: through which site the answer goes, and to whom.
        self._waiting: dict[str, tuple[str, Heard]] = {}

    def command(self, name: str, key: str, command: steps.Command, origin: str, heard: Heard) -> None:
        """To the mailroom of a site. `heard` may be called more than once, or never."""
        self._waiting[origin] = name, heard
        self._mail(self._world.sites[name], key, command, origin, 0, ())

    def _mail(self, site: "Site", key: str, command: steps.Command, origin: str, seen: int, path: tuple[str, ...], looks: int = 0) -> None:
        world = self._world
        if not site.alive:
            return
        if world.now < site.paused_until:
            world.at(site.paused_until - world.now, lambda: self._mail(site, key, command, origin, seen, path))
            return
        if site.topology is None:
            return
        owner = world.placed(site.topology, key).writer
        match route(owner, site.topology.version, site=site.name, seen=seen, path=path):
            case Deliver():
                world.give(site, key, steps.Submit(command, origin))
            case Forward(to, on):
                self._forward(site, to, key, command, origin, max(seen, site.topology.version), on)
            case CatchUp():
                world.learn(site)
                if looks < _LOOKS:
                    world.at(_LOOK_MS, lambda: self._mail(site, key, command, origin, seen, path, looks + 1))
            case Refuse(reason):
                self.answer(site, origin, NotOwnedYet(election=key, reason=reason))

    def _forward(self, site: "Site", to: str, key: str, command: steps.Command, origin: str, seen: int, path: tuple[str, ...]) -> None:
        world = self._world
        target = world.sites[to]

        def deliver() -> None:
            if world.weather.hears(site.name, to):
                self._mail(target, key, command, origin, seen, path)

        if not world.chance(world.weather.lost):
            world.at(world.delay(), deliver)

    def answer(self, site: "Site", origin: str, outcome: Record | Rejection) -> None:
        """Back through the site that was asked."""
        world = self._world
        waiting = self._waiting.get(origin)
        if waiting is None or world.chance(world.weather.lost):
            return
        name, heard = waiting

        def deliver() -> None:
            asked = world.sites[name]
            if asked.alive and (name == site.name or world.weather.hears(site.name, name)):
                heard(outcome)

        world.at(world.delay(), deliver)
