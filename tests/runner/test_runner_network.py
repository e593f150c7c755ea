"""Two streams: the node's and the network's, each with its own position and outbox."""

from typing import Any

import pytest
from counting import Gossiper, Heard, Shout, Whisper
from msgspec.structs import replace

from messages.overseer import Parked
from messages.subjects import net_stream

pytestmark = pytest.mark.anyio


def heard(gossiper: Any) -> list[int]:
    return [event.amount for event in gossiper.events(Heard)]


async def test_other_nodes_hear_it_and_its_own_echo_is_not_heard(virtual_overseer: Any) -> None:
    one = await virtual_overseer(Gossiper(), node="one")
    two = await virtual_overseer(Gossiper(), node="two")
    for amount in (1, 2, 3):
        await one.inject(Shout(amount=amount))
    await one.settled()
    await two.settled()
    assert heard(two) == [1, 2, 3]
    assert heard(one) == []
    assert [m.amount for m in await one.sent(Whisper)] == [1, 2, 3]
    for gossiper in (one, two):
        assert (await gossiper.verify()).ok


async def test_restarts_lose_and_double_nothing_between_nodes(virtual_overseer: Any) -> None:
    one = await virtual_overseer(Gossiper(), node="one")
    two = await virtual_overseer(Gossiper(), node="two")
    for amount in (1, 2, 3):
        await one.inject(Shout(amount=amount))
        await one.restart()
        await two.restart()
    await one.settled()
    await two.settled()
    assert heard(two) == [1, 2, 3]
    assert [m.amount for m in await one.sent(Whisper)] == [1, 2, 3]


async def test_another_nodes_messages_can_be_injected_repeated_and_forged(virtual_overseer: Any) -> None:
    gossiper = await virtual_overseer(Gossiper())
    await gossiper.inject(Whisper(amount=7), sender="gossiper", from_node="far")
    await gossiper.inject(Whisper(amount=8), sender="gossiper", from_node="far", body=b"\xff")
    await gossiper.inject(Shout(amount=1))
    await gossiper.settled()
    assert heard(gossiper) == [7]
    assert [(m.stream, m.reason) for m in await gossiper.sent(Parked)] == [("net", "malformed")]
    head = gossiper.head()
    assert head.positions["net"].stream != head.positions["node"].stream
    assert head.positions["node"].sequence >= 1


async def test_bad_subjects_of_the_network_do_not_move_the_nodes_position(in_memory: Any, memory_world: Any) -> None:
    gossiper = await in_memory(Gossiper(), start=False)
    consumer = next(iter(memory_world.broker.streams[net_stream()].consumers.values()))
    consumer.filters = ("overseer.net.>",)
    await gossiper.inject(Whisper(amount=8), sender="gossiper", from_node="far", subject="overseer.net.far.gossiper.whisper.more")
    await gossiper.inject(Shout(amount=1))
    await gossiper.start()
    await gossiper.until(lambda: gossiper.runner.positions().get("net", 0) >= 1)
    await gossiper.settled()
    head = gossiper.head()
    assert head.positions["node"].stream.startswith("OVERSEER_test")
    assert head.positions["net"].stream.startswith("OVERSEER_NET")
    await gossiper.restart()
    await gossiper.inject(Shout(amount=2))
    await gossiper.settled()
    assert [m.amount for m in await gossiper.sent(Whisper)] == [1, 2]


async def test_a_restored_store_does_not_start_incarnation_after_incarnation_for_a_silent_stream(virtual_overseer: Any) -> None:
    gossiper = await virtual_overseer(Gossiper())
    await gossiper.inject(Shout(amount=1))
    await gossiper.settled()
    await gossiper.new_store()
    await gossiper.world.trim(gossiper.streams[0], 99)
    await gossiper.start()
    started = gossiper.head().incarnation
    # Its last message to the network is still one of before.
    await gossiper.restart()
    await gossiper.restart()
    assert gossiper.head().incarnation == started
    await gossiper.inject(Shout(amount=2))
    await gossiper.settled()
    assert [m.amount for m in await gossiper.sent(Whisper)] == [1, 2]


class Listener(Gossiper):
    """Hears itself as well."""

    declaration = replace(Gossiper.declaration, hears_itself=True)


async def test_who_declares_it_hears_itself_too_in_the_order_of_the_stream_and_once(virtual_overseer: Any) -> None:
    one = await virtual_overseer(Listener(), node="one")
    two = await virtual_overseer(Listener(), node="two")
    for amount in (1, 2, 3):
        await one.inject(Shout(amount=amount))
        await one.restart()
    await one.settled()
    await two.settled()
    assert heard(one) == heard(two) == [1, 2, 3]
    for gossiper in (one, two):
        assert (await gossiper.verify()).ok
