"""The Line contract, reading: order, contiguity, seek, waiting, single messages, state."""

import time

import anyio
import pytest
from bus_worlds import World

from overseer.ports.bus import BusUnavailable, Delivery, Line

pytestmark = pytest.mark.anyio


async def pull_all(line: Line, count: int, batch: int = 100) -> list[Delivery]:
    """Pull until `count` came; everything that came."""
    taken: list[Delivery] = []
    with anyio.fail_after(10):
        while len(taken) < count:
            taken += await line.pull(batch, 500)
    return taken


def bodies(deliveries: list[Delivery]) -> list[bytes]:
    return [delivery.message.body for delivery in deliveries]


async def test_messages_come_in_order_with_contiguous_consumer_sequence_and_all_their_parts(world: World) -> None:
    await world.create()
    line = await world.line("votes_db")
    sent = world.numbered("votes_db", 60)
    before_ms = time.time_ns() // 1_000_000
    assert await line.append(sent, 0) == 60
    await line.seek(1)
    taken = await pull_all(line, 60, batch=25)
    assert [d.consumer_sequence for d in taken] == list(range(1, 61))
    assert [d.message.sequence for d in taken] == list(range(1, 61))
    assert [(d.message.subject, d.message.headers, d.message.body) for d in taken] == [(m.subject, m.headers, m.body) for m in sent]
    assert all(abs(d.message.time_ms - before_ms) < 10_000 for d in taken)


async def test_a_pull_never_returns_more_than_the_batch_asked_for(world: World) -> None:
    await world.create()
    line = await world.line("votes_db")
    await line.append(world.numbered("votes_db", 50), 0)
    await line.seek(1)
    sizes = []
    while sum(sizes) < 50:
        sizes.append(len(await line.pull(7, 500)))
    assert max(sizes) <= 7
    assert await line.pull(7, 0) == []


async def test_only_what_the_consumer_filters_for_is_delivered_and_its_sequence_has_no_holes(world: World) -> None:
    await world.create()
    chain, votes = await world.line("chain_api"), await world.line("votes_db", filters=[f"overseer.{world.node}.chain_api.>"])
    position = 0
    for number in range(5):
        position = await chain.append([world.message("chain_api", b"c%d" % number)], position)
        own = await votes.last_own()
        await votes.append([world.message("votes_db", b"v")], own.sequence if own else 0)
        position = (await chain.last_own()).sequence
    await votes.seek(1)
    taken = await pull_all(votes, 5)
    assert [(d.consumer_sequence, d.message.sequence) for d in taken] == [(1, 1), (2, 3), (3, 5), (4, 7), (5, 9)]


async def test_seek_back_delivers_again_from_there_and_counts_from_one(world: World) -> None:
    await world.create()
    line = await world.line("votes_db")
    await line.append(world.numbered("votes_db", 30), 0)
    await line.seek(1)
    await line.ack((await pull_all(line, 30))[-1])
    await line.seek(11)
    taken = await pull_all(line, 20)
    assert bodies(taken) == [b"%d" % number for number in range(10, 30)]
    assert [d.consumer_sequence for d in taken] == list(range(1, 21))


async def test_seek_forward_skips_and_nothing_in_flight_from_before_is_returned(world: World) -> None:
    await world.create()
    line = await world.line("votes_db")
    await line.append(world.numbered("votes_db", 200), 0)
    await line.seek(1)
    assert bodies(await line.pull(10, 1_000))[0] == b"0"
    # More than was taken is in flight or held by now.
    await line.seek(150)
    taken = await pull_all(line, 51)
    assert bodies(taken) == [b"%d" % number for number in range(149, 200)]
    assert [d.consumer_sequence for d in taken] == list(range(1, 52))


async def test_seek_forth_and_back_while_messages_flow_never_mixes_two_runs(world: World) -> None:
    await world.create()
    line = await world.line("votes_db")
    await line.append(world.numbered("votes_db", 100), 0)
    for start in (90, 1, 50, 2, 99, 1):
        await line.seek(start)
        first = (await line.pull(5, 1_000))[0]
        assert (first.consumer_sequence, first.message.sequence) == (1, start)


async def test_seek_below_the_first_means_the_first_and_beyond_the_last_waits_for_it(world: World) -> None:
    await world.create()
    line = await world.line("votes_db")
    last = await line.append(world.numbered("votes_db", 10), 0)
    await world.trim(5)
    await line.seek(1)
    assert (await line.pull(1, 1_000))[0].message.sequence == 5
    await line.ack((await pull_all(line, 5))[-1])
    # Not the acknowledged position, which the server takes a 0 for.
    await line.seek(0)
    assert (await line.pull(1, 1_000))[0].message.sequence == 5
    await line.seek(13)
    last = await line.append(world.numbered("votes_db", 5), last)
    taken = await pull_all(line, 3)
    assert [d.message.sequence for d in taken] == [13, 14, 15]
    assert [d.consumer_sequence for d in taken] == [1, 2, 3]


async def test_a_pull_before_any_seek_is_refused(world: World) -> None:
    await world.create()
    line = await world.line("votes_db")
    with pytest.raises(BusUnavailable, match="seek"):
        await line.pull(1, 10)


async def test_an_empty_pull_returns_after_its_wait_time_and_leaves_nothing_behind_that_stalls_the_next(world: World) -> None:
    await world.create()
    line = await world.line("votes_db")
    await line.seek(1)
    last = 0
    for _ in range(6):
        started = time.monotonic()
        assert await line.pull(10, 60) == []
        assert 0.05 <= time.monotonic() - started < 0.6
        last = await line.append([world.message("votes_db")], last)
        started = time.monotonic()
        assert len(await line.pull(10, 5_000)) == 1
        assert time.monotonic() - started < 1


async def test_a_waiting_pull_wakes_as_soon_as_a_message_arrives(world: World) -> None:
    await world.create()
    line, other = await world.line("votes_db"), await world.line("chain_api")
    await line.seek(1)
    await line.pull(10, 0)
    woke: list[float] = []

    async def wait() -> None:
        assert len(await line.pull(10, 10_000)) == 1
        woke.append(time.monotonic())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        await other.append([world.message("chain_api")], 0)
        stored = time.monotonic()
    assert woke[0] - stored < 1


async def test_pull_and_append_go_on_side_by_side(world: World) -> None:
    await world.create()
    line = await world.line("votes_db")
    await line.seek(1)
    taken: list[Delivery] = []

    async def append() -> None:
        last = 0
        for number in range(40):
            last = await line.append(world.numbered("votes_db", 3, start=3 * number), last)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(append)
            while len(taken) < 120:
                some = await line.pull(16, 1_000)
                taken += some
                if some:
                    await line.ack(some[-1])
    assert bodies(taken) == [b"%d" % number for number in range(120)]
    assert [d.consumer_sequence for d in taken] == list(range(1, 121))


async def test_a_cancelled_pull_loses_nothing(world: World) -> None:
    await world.create()
    line = await world.line("votes_db")
    await line.seek(1)
    last = 0
    taken: list[Delivery] = []
    for _ in range(5):
        with anyio.move_on_after(0.02):
            await line.pull(10, 10_000)
        last = await line.append(world.numbered("votes_db", 4, start=last), last)
        taken += await pull_all(line, 4)
    assert [d.consumer_sequence for d in taken] == list(range(1, 21))
    assert bodies(taken) == [b"%d" % number for number in range(20)]


async def test_message_at_gives_what_is_stored_and_nothing_for_trimmed_or_beyond(world: World) -> None:
    await world.create()
    line = await world.line("votes_db")
    sent = world.numbered("votes_db", 6)
    await line.append(sent, 0)
    await line.seek(1)
    delivered = await pull_all(line, 6)
    for delivery in delivered:
        assert await line.message_at(delivery.message.sequence) == delivery.message
    await world.trim(4)
    assert [(await line.message_at(sequence)) is None for sequence in range(8)] == [True, True, True, True, False, False, False, True]


async def test_state_of_a_new_filled_trimmed_and_emptied_stream(world: World) -> None:
    await world.create()
    line = await world.line("votes_db")

    async def span() -> tuple[int, int]:
        state = await line.state()
        assert state.id == f"id-{world.node}"
        return state.first_sequence, state.last_sequence

    assert await span() == (1, 0)
    await line.append(world.numbered("votes_db", 10), 0)
    assert await span() == (1, 10)
    await world.trim(4)
    assert await span() == (4, 10)
    await world.trim(11)
    assert await span() == (11, 10)


async def test_a_line_knows_its_sender_and_stream_and_connects(world: World) -> None:
    await world.create()
    line = await world.line("votes_db")
    with anyio.fail_after(5):
        await line.connected()
    assert (line.sender, line.stream) == ("votes_db", f"OVERSEER_{world.node}")
