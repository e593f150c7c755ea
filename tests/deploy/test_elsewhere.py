"""A subsystem that others run is looked at through its consumer."""

import json
from collections.abc import Callable

import pytest

from overseer.node.elsewhere import ABSENT_MS, Look, looking_at
from overseer.ports.bus import BusUnavailable
from overseer.settings import ConfigError, load_config

pytestmark = pytest.mark.anyio


class Answer:
    def __init__(self, body: bytes) -> None:
        self.body = body


class Consumer:
    """JetStream's side: what CONSUMER.INFO tells; None: no bus."""

    def __init__(self) -> None:
        self.waiting: int | None = 0
        self.at = 0
        self.now_s = 100.0

    async def request(self, subject: str, body: bytes, *, timeout_ms: int) -> Answer:
        if self.waiting is None:
            raise BusUnavailable("away")
        assert subject == "$JS.API.CONSUMER.INFO.OVERSEER_node.votes_db"
        place = {"stream_seq": self.at}
        return Answer(json.dumps({"num_waiting": self.waiting, "ack_floor": place, "delivered": place}).encode())

    def looked_at(self) -> Look:
        clock: Callable[[], float] = lambda: self.now_s  # noqa: E731
        return looking_at(self, "OVERSEER_node", "votes_db", clock=clock)


async def test_who_never_pulled_is_not_ready_and_named() -> None:
    beat = await Consumer().looked_at()()
    assert not beat.ready
    assert "is it running?" in beat.note


async def test_who_pulls_is_ready_until_it_has_been_silent_for_long() -> None:
    consumer = Consumer()
    look = consumer.looked_at()
    consumer.waiting = 1
    assert (await look()).ready
    consumer.waiting = 0
    consumer.now_s += ABSENT_MS / 1000 - 0.1
    assert (await look()).ready
    consumer.now_s += 0.2
    assert not (await look()).ready


async def test_who_moves_is_ready_even_when_no_pull_is_seen() -> None:
    consumer = Consumer()
    look = consumer.looked_at()
    await look()
    consumer.at = 7
    beat = await look()
    assert (beat.ready, beat.progress) == (True, 7)


async def test_without_a_bus_it_says_so_and_goes_on() -> None:
    consumer = Consumer()
    look = consumer.looked_at()
    consumer.waiting = None
    beat = await look()
    assert not beat.ready
    assert "away" in beat.note
    consumer.waiting = 1
    assert (await look()).ready


@pytest.mark.parametrize("also", [{}, {"nats.url": "nats://127.0.0.1:4222", "in_process": True}])
async def test_whoever_starts_the_subsystems_must_reach_the_same_server(also: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="external_subsystems"):
        load_config(environ={"OVERSEER_CONFIG": ""}, flags={"external_subsystems": True, **also})
