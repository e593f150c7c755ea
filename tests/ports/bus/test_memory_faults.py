"""What the memory bus lets a simulation do: every hole of the real one, on request."""

import anyio
import pytest
from bus_worlds import MemoryWorld

from overseer.memory.bus import AppendFault, MemoryBroker
from overseer.memory.clock import MemoryClock
from overseer.ports.bus import BusUnavailable, EndpointSpec, OutcomeUnknown, Request, Response, WrongLastSequence

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("fault", "stored"), [(AppendFault.STORED, 2), (AppendFault.LOST, 0)])
async def test_an_unknown_outcome_may_be_either_and_the_mark_tells_which(memory: MemoryWorld, fault: AppendFault, stored: int) -> None:
    await memory.create()
    line = await memory.line("votes_db")
    line.faults.appends.append(fault)
    with pytest.raises(OutcomeUnknown):
        await line.append(memory.numbered("votes_db", 2), 0)
    mark = await line.last_own()
    assert (mark.sequence if mark else 0) == stored
    assert await line.append(memory.numbered("votes_db", 1), stored) == stored + 1


async def test_an_append_that_fails_the_comparison_fails_as_such_even_when_its_answer_would_be_lost(memory: MemoryWorld) -> None:
    await memory.create()
    line = await memory.line("votes_db")
    line.faults.appends.extend([None, AppendFault.STORED])
    await line.append(memory.numbered("votes_db", 1), 0)
    with pytest.raises(WrongLastSequence):
        await line.append(memory.numbered("votes_db", 1), 0)


async def test_a_torn_pull_shows_as_a_hole_in_the_consumer_sequence_that_a_seek_heals(memory: MemoryWorld) -> None:
    await memory.create()
    line = await memory.line("votes_db")
    await line.append(memory.numbered("votes_db", 20), 0)
    await line.seek(1)
    line.faults.torn_after = 3
    assert [d.consumer_sequence for d in await line.pull(10, 0)] == [1, 2, 3]
    assert (await line.pull(10, 0))[0].consumer_sequence == 11
    await line.seek(4)
    assert [d.message.sequence for d in await line.pull(100, 0)] == list(range(4, 21))


async def test_a_message_delivered_again_has_a_new_consumer_sequence_and_its_old_place(memory: MemoryWorld) -> None:
    await memory.create()
    line = await memory.line("votes_db")
    await line.append(memory.numbered("votes_db", 3), 0)
    await line.seek(1)
    await line.pull(2, 0)
    memory.broker.streams[memory.stream].deliver_again("votes_db", 1)
    assert [(d.consumer_sequence, d.message.sequence) for d in await line.pull(10, 0)] == [(3, 1), (4, 3)]


async def test_acknowledgements_get_lost_and_roll_back(memory: MemoryWorld) -> None:
    await memory.create()
    line = await memory.line("votes_db")
    await line.append(memory.numbered("votes_db", 5), 0)
    await line.seek(1)
    taken = await line.pull(5, 0)
    stream = memory.broker.streams[memory.stream]
    line.faults.lose_acks = True
    await line.ack(taken[1])
    assert stream.consumers["votes_db"].acknowledged == 0
    line.faults.lose_acks = False
    await line.ack(taken[4])
    assert stream.consumers["votes_db"].acknowledged == 5
    stream.roll_back_acks("votes_db", 2)
    assert stream.consumers["votes_db"].acknowledged == 2
    with pytest.raises(BusUnavailable):
        await line.pull(1, 0)


async def test_an_acknowledgement_from_before_a_seek_means_nothing(memory: MemoryWorld) -> None:
    await memory.create()
    line = await memory.line("votes_db")
    await line.append(memory.numbered("votes_db", 5), 0)
    await line.seek(1)
    old = await line.pull(5, 0)
    await line.seek(2)
    await line.ack(old[-1])
    assert memory.broker.streams[memory.stream].consumers["votes_db"].acknowledged == 1


async def test_a_truncated_tail_gives_its_sequences_to_other_messages(memory: MemoryWorld) -> None:
    await memory.create()
    line = await memory.line("votes_db")
    await line.append(memory.numbered("votes_db", 10), 0)
    await line.seek(1)
    memory.broker.streams[memory.stream].truncate(4)
    with pytest.raises(BusUnavailable):
        await line.pull(1, 0)
    assert (await line.state()).last_sequence == 6
    assert await line.message_at(7) is None
    assert await line.append([memory.message("votes_db", b"other")], 6) == 7
    stored = await line.message_at(7)
    assert stored is not None
    assert stored.body == b"other"


async def test_a_replaced_stream_is_empty_under_another_id(memory: MemoryWorld) -> None:
    await memory.create()
    line = await memory.line("votes_db")
    await line.append(memory.numbered("votes_db", 3), 0)
    await line.seek(4)
    memory.broker.streams[memory.stream].replace("another")
    with pytest.raises(BusUnavailable):
        await line.pull(1, 0)
    state = await line.state()
    assert (state.id, state.first_sequence, state.last_sequence) == ("another", 1, 0)
    assert await line.last_own() is None


async def test_a_cut_line_fails_its_waiting_pull_and_others_go_on_until_it_heals(memory: MemoryWorld) -> None:
    await memory.create()
    line, other = await memory.line("votes_db"), await memory.line("chain_api")
    await line.seek(1)
    lost = anyio.Event()

    async def wait() -> None:
        with pytest.raises(BusUnavailable):
            await line.pull(1, 60_000)
        lost.set()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            line.cut()
            await lost.wait()
        await other.append([memory.message("chain_api")], 0)
        with pytest.raises(BusUnavailable):
            await line.append(memory.numbered("votes_db", 1), 0)
        line.heal()
        await line.connected()
    await line.seek(1)
    assert len(await line.pull(1, 0)) == 1


async def test_a_stopped_server_fails_everybody_and_keeps_what_it_stored(memory: MemoryWorld) -> None:
    await memory.create()
    line, exchange = await memory.line("votes_db"), await memory.exchange()
    await line.append(memory.numbered("votes_db", 2), 0)
    await line.seek(1)
    memory.broker.stop()
    for attempt in (line.state(), line.last_own(), line.seek(1), line.pull(1, 0), exchange.publish(memory.message("op_a"))):
        with pytest.raises(BusUnavailable):
            await attempt
    memory.broker.start()
    assert (await line.state()).last_sequence == 2
    with pytest.raises(BusUnavailable):
        await line.pull(1, 0)


async def test_time_is_the_clocks_an_idle_pull_ends_when_it_says_so(closing: object) -> None:
    clock = MemoryClock(1_000)
    async with MemoryBroker(clock) as broker:
        world = MemoryWorld(broker, closing)
        await world.create()
        line = await world.line("votes_db")
        await line.append(world.numbered("votes_db", 1), 0)
        clock.advance_to(5_000)
        await line.append(world.numbered("votes_db", 1), 1)
        await line.seek(1)
        assert [d.message.time_ms for d in await line.pull(10, 1_000)] == [1_000, 5_000]
        empty: list[int] = []

        async def idle() -> None:
            assert await line.pull(10, 1_000) == []
            empty.append(clock.now_ms())

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(idle)
                for at_ms in (5_400, 5_999, 6_000):
                    await anyio.wait_all_tasks_blocked()
                    assert empty == []
                    clock.advance_to(at_ms)
        assert empty == [6_000]


async def test_a_killed_process_answers_nothing_of_what_it_had_in_hand(memory: MemoryWorld) -> None:
    started = anyio.Event()

    async def slow(request: Request) -> Response:
        started.set()
        await anyio.sleep_forever()
        raise AssertionError

    server, caller = await memory.exchange(), await memory.exchange(account="n-operator")
    subject = f"overseer.{memory.node}.votes_db.qry.look"
    await server.serve("votes_db", "votes", [(EndpointSpec("look", subject), slow)])

    async def ask() -> None:
        with pytest.raises(BusUnavailable):
            await caller.request(subject, b"", {}, 100)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await started.wait()
            server.kill()


async def test_an_endpoint_is_told_the_account_that_asks(memory: MemoryWorld) -> None:
    async def who(request: Request) -> Response:
        return Response(request.account.encode())

    server, caller = await memory.exchange(), await memory.exchange(account="n-operator")
    subject = f"overseer.{memory.node}.votes_db.qry.who"
    await server.serve("votes_db", "votes", [(EndpointSpec("who", subject), who)])
    assert (await caller.request(subject, b"", {}, 1_000)).body == b"n-operator"
