"""The replicated runtime in a world that misbehaves: whatever is lost, delayed, doubled, killed, paused or cut off, each election has
one history, in real-time order, with every acknowledged command in it exactly once, and in the end everything is answered.
"""

from collections.abc import Callable

import pytest
from replicated_world import KEY, VoterWorld, decided, eight, five

from messages.election_pairs import BatchLogged, Record, SiteRow
from messages.message import Rejection
from subsystems.elections.runtime import steps
from subsystems.elections.runtime.placement import ImpossibleTopology, changed

SEEDS = 150


class Client:
    """Sends one command after the other, each again and again with the same id until it has an outcome."""

    def __init__(self, world: VoterWorld, name: str, voters: list[str]) -> None:
        self.world = world
        self.name = name
        self.voters = voters
        self.done: list[tuple[str, str, int, int, Record]] = []
        self._attempt = 0
        self._began = 0
        self._next()

    @property
    def finished(self) -> bool:
        return not self.voters

    def _next(self) -> None:
        self._began = self.world.now
        if self.voters:
            self._send()

    def _send(self) -> None:
        self._attempt += 1
        attempt, command_id = self._attempt, f"{self.name}-{len(self.done)}"
        names = sorted(self.world.sites)
        # An impatient one asks two sites at once.
        for name in self.world.random.sample(names, self.world.random.choice((1, 1, 1, 2))):
            origin = f"{self.name}:{attempt}:{name}"
            self.world.command(name, command_id, self.voters[0], origin, lambda outcome: self._heard(command_id, outcome, attempt))
        self.world.at(600, lambda: self._send() if self._attempt == attempt and self.voters else None)

    def _heard(self, command_id: str, outcome: Record | Rejection, attempt: int) -> None:
        if command_id != f"{self.name}-{len(self.done)}" or not self.voters:
            return
        if isinstance(outcome, Record):
            self.done.append((command_id, self.voters.pop(0), self._began, self.world.now, outcome))
            self._attempt += 1
            self.world.at(self.world.random.choice((1, 20, 200, 400)), self._next)
        else:
            assert outcome.retriable
            if attempt == self._attempt:
                again = self._attempt = attempt + 1
                self.world.at(50, lambda: self._send() if self._attempt == again else None)


def check_linearizable(world: VoterWorld, clients: list[Client]) -> None:
    """The log is the witness: one order, which explains every outcome and respects real time."""
    done = [each for client in clients for each in client.done]
    if world.log.losses:
        best = max((world.rows(name) for name in world.sites), key=lambda rows: rows.applied)
        for command_id, _, _, _, record in done:
            assert best.outcomes[command_id] == record, "acknowledged, and lost"
        assert len(best.events) == len(set(best.events))
        return
    place: dict[str, int] = {}
    events: tuple[str, ...] = ()
    for entry in world.entries:
        for record in entry.records if isinstance(entry, BatchLogged) else []:
            assert record.id not in place, "recorded twice"
            place[record.id] = len(place)
            voter = {each[0]: each[1] for each in done}.get(record.id)
            if voter is not None:
                command = steps.Command(record.id, record.digest, voter)
                assert record == decided(events, command), "the order does not explain the outcome"
            events += tuple(event.body.decode() for event in record.events)
    for command_id, _, _, _, _ in done:
        assert command_id in place, "acknowledged, and not in the log"
    ordered = sorted(done, key=lambda each: place[each[0]])
    latest_begin = 0
    for _, _, began, ended, _ in ordered:
        assert ended >= latest_begin, "it was over before one that comes earlier in the log had begun"
        latest_begin = max(latest_begin, began)


def misfortunes(world: VoterWorld, *, amnesia: bool, log_loss: bool) -> list[Callable[[], None]]:
    names, random = sorted(world.sites), world.random

    def crash() -> None:
        name = random.choice((*names, world.home))
        forget = amnesia and random.random() < 0.3 and all(site.alive for site in world.sites.values())
        world.crash(name, forget=forget, survive=lambda written: written * (random.random() < 0.5))
        world.at(random.choice((1, 50, 400, 1500)), lambda: world.restart(name))

    def pause() -> None:
        world.pause(random.choice((*names, world.home)), random.choice((50, 300, 2_000)))

    def partition() -> None:
        one = set(random.sample(names, random.randrange(1, len(names))))
        world.weather.groups = {name: int(name in one) for name in names}
        world.weather.log_group = random.choice((0, 0, 0, 1))
        world.at(random.choice((100, 500, 1500)), lambda: setattr(world.weather, "groups", {}) or setattr(world.weather, "log_group", 0))

    def scarce() -> None:
        followers = [name for name in names if name != world.home]
        for name in random.sample(followers, min(len(followers), random.choice((3, 4, 5)))):
            world.crash(name)
            world.at(random.choice((300, 900)), lambda name=name: world.restart(name))

    def alone() -> None:
        """The writer hears the log and nobody else, or nobody at all."""
        world.weather.groups, world.weather.log_group = {world.home: 1}, random.choice((0, 1))
        world.at(random.choice((200, 600, 1_500)), lambda: setattr(world.weather, "groups", {}) or setattr(world.weather, "log_group", 0))

    def taken_over() -> None:
        writer = world.home
        if random.random() < 0.5:
            world.pause(writer, random.choice((300, 2_000)))
        elif not world.weather.groups:
            world.weather.groups = {writer: 1}
            world.at(random.choice((500, 1_500)), lambda: setattr(world.weather, "groups", {}))
        world.at(random.choice((1, 30, 200)), move)

    def log_away() -> None:
        world.weather.log_down = True
        world.at(random.choice((100, 800)), lambda: setattr(world.weather, "log_down", False))

    def move() -> None:
        sites = [
            SiteRow(row.name, row.data_centre, row.zone, (not row.away) if row.name == world.home or row.away else row.away)
            for row in world.topology.sites
        ]
        if random.random() < 0.4 and len(sites) > 5:
            sites.remove(random.choice(sites))
        try:
            world.record(changed(world.topology, sites))
        except ImpossibleTopology:
            return

    def lose_log() -> None:
        if world.log.losses == 0:
            world.log.lose()

    return [crash, crash, pause, partition, scarce, alone, taken_over, log_away, move, *([lose_log] if log_loss else [])]


def story(seed: int, *, sites: int, amnesia: bool = False, log_loss: bool = False) -> tuple[VoterWorld, list[Client]]:
    world = VoterWorld(seed, five() if sites == 5 else eight(), trouble=(0.0, 0.05, 0.2)[seed % 3])
    random = world.random
    clients = [Client(world, f"c{n}", [f"v{random.randrange(24)}" for _ in range(8)]) for n in range(4)]
    kinds = misfortunes(world, amnesia=amnesia, log_loss=log_loss)
    for _ in range(random.randrange(3, 12)):
        world.at(random.randrange(1, 3_000), random.choice(kinds))
    world.run(3_500)
    world.heal()
    finished = world.run(lambda: all(client.finished for client in clients))
    for site in world.sites.values():
        world.give(site, KEY, steps.Start())
    world.run(2_000)
    world.check()
    assert finished, f"seed {seed}: a command was never answered"
    check_linearizable(world, clients)
    return world, clients


@pytest.mark.parametrize("sites", [5, 8])
@pytest.mark.slow
def test_commands_are_linearizable_whatever_happens_to_sites_and_network(sites: int) -> None:
    moved = 0
    for seed in range(SEEDS):
        world, _ = story(seed, sites=sites)
        moved += len({name for _, name, _ in world.served}) > 1
    assert moved > SEEDS // 10, "writers did move"


def test_B16_nothing_acknowledged_is_lost_with_disks_one_at_a_time() -> None:
    for seed in range(SEEDS):
        story(10_000 + seed, sites=5, amnesia=True)


@pytest.mark.slow
def test_what_was_acknowledged_survives_the_loss_of_the_whole_log() -> None:
    lost = 0
    for seed in range(SEEDS):
        world, _ = story(20_000 + seed, sites=8 if seed % 2 else 5, log_loss=True)
        lost += world.log.losses
    assert lost > SEEDS // 10
