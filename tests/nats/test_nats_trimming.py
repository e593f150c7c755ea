"""Trimming on a real server: never what somebody may still need."""

import pytest
from nats_bus import Bus, User
from nats_declarations import NODE

from messages.consensus_blocks import BlockProposed, BlockSealed
from messages.subjects import build, net_stream
from overseer.nats.provision import call
from overseer.nats.trimming import Holder, lowest_position, trim

pytestmark = [pytest.mark.real, pytest.mark.anyio]

STREAM = f"OVERSEER_{NODE}"
P = f"overseer.{NODE}."
NET = net_stream()


async def say(bus: Bus, count: int) -> None:
    """A first word of chain_api, then commands for votes_db."""
    await (await bus.user("chain_api")).ask(f"{P}chain_api.evt.incarnation_started", {})
    operator = await bus.user("operator")
    for number in range(count):
        await operator.ask(f"{P}op_operator.cmd.votes_db.register_vote", {"n": number})


async def acknowledge(bus: Bus, name: str, count: int) -> User:
    """Pull `count` messages as `name` and acknowledge the last."""
    user = await bus.user(name)
    messages = await user.pull(STREAM, name, count)
    await user.client.request(messages[-1].reply, b"+ACK", timeout=5)
    return user


async def sequences(user: User, stream: str = STREAM) -> list[int]:
    state = (await call(user, f"STREAM.INFO.{stream}"))["state"]
    gone = set((await call(user, f"STREAM.INFO.{stream}", {"deleted_details": True}))["state"].get("deleted") or [])
    return [n for n in range(state["first_seq"], state["last_seq"] + 1) if n not in gone]


async def test_the_lowest_position_is_of_the_one_furthest_behind(bus: Bus) -> None:
    provisioner = await bus.user("provisioner")
    await say(bus, 9)
    assert await lowest_position(provisioner, STREAM) == Holder(0, "chain_api")
    await acknowledge(bus, "chain_api", 1)
    assert await lowest_position(provisioner, STREAM) == Holder(0, "dispute_conclusion")
    await acknowledge(bus, "dispute_conclusion", 1)
    await acknowledge(bus, "votes_db", 6)
    # The others have done with all there is.
    assert await lowest_position(provisioner, STREAM) == Holder(6, "votes_db")


async def test_nothing_is_trimmed_that_a_subsystem_has_not_done(bus: Bus) -> None:
    provisioner = await bus.user("provisioner")
    await say(bus, 9)
    trimmed = await trim(provisioner, STREAM, keep=0)
    assert (trimmed.messages, trimmed.held_by) == (0, "chain_api")
    await acknowledge(bus, "chain_api", 1)
    await acknowledge(bus, "dispute_conclusion", 1)
    await acknowledge(bus, "votes_db", 6)
    trimmed = await trim(provisioner, STREAM, keep=0)
    assert (trimmed.messages, trimmed.below, trimmed.held_by) == (4, 6, "votes_db")
    # The message at the position stays, and each sender's last one.
    assert await sequences(provisioner) == [1, 6, 7, 8, 9, 10]
    assert (await trim(provisioner, STREAM, keep=0)).messages == 0


async def test_delivered_is_not_done(bus: Bus) -> None:
    provisioner = await bus.user("provisioner")
    await say(bus, 3)
    for name, count in (("chain_api", 1), ("dispute_conclusion", 1)):
        await acknowledge(bus, name, count)
    await (await bus.user("votes_db")).pull(STREAM, "votes_db", 4)
    assert (await trim(provisioner, STREAM, keep=0)).held_by == "votes_db"
    assert await sequences(provisioner) == [1, 2, 3, 4]


async def all_done(bus: Bus, count: int) -> User:
    await say(bus, count)
    for name, mine in (("chain_api", 1), ("dispute_conclusion", 1), ("votes_db", count + 1)):
        await acknowledge(bus, name, mine)
    return await bus.user("provisioner")


async def test_history_is_kept_and_the_callers_bound_is_respected(bus: Bus) -> None:
    provisioner = await all_done(bus, 9)
    trimmed = await trim(provisioner, STREAM, keep=7)
    assert (trimmed.below, trimmed.held_by) == (4, "")
    assert await sequences(provisioner) == [1, *range(4, 11)]
    assert (await trim(provisioner, STREAM, below=5, keep=0)).below == 5
    assert await sequences(provisioner) == [1, *range(5, 11)]


async def test_a_senders_last_message_stays_as_its_published_mark(bus: Bus) -> None:
    provisioner = await all_done(bus, 9)
    await trim(provisioner, STREAM, keep=0)
    assert await sequences(provisioner) == [1, 10]
    chain = await bus.user("chain_api")
    last = await chain.ask(f"$JS.API.STREAM.MSG.GET.{STREAM}", {"last_by_subj": f"{P}chain_api.>"})
    headers = {
        "Nats-Expected-Last-Subject-Sequence": str(last["message"]["seq"]),
        "Nats-Expected-Last-Subject-Sequence-Subject": f"{P}chain_api.>",
    }
    assert (await chain.ask(f"{P}chain_api.sig.session_change", {}, headers=headers))["seq"] == 11


async def test_what_was_trimmed_is_marked_in_the_stream_and_provisioning_leaves_the_mark(bus: Bus) -> None:
    provisioner = await all_done(bus, 9)
    await trim(provisioner, STREAM, keep=2)
    await (await bus.provisioner()).apply()
    metadata = (await call(provisioner, f"STREAM.INFO.{STREAM}"))["config"]["metadata"]
    assert metadata["overseer_trimmed_below"] == "9"
    assert len(metadata["overseer_id"]) == 32
    assert await (await bus.provisioner()).plan() == []


async def test_an_operators_consumer_does_not_hold_back_trimming(bus: Bus) -> None:
    provisioner = await all_done(bus, 9)
    operator = await bus.user("operator")
    config = {"name": "mine", "ack_policy": "explicit", "filter_subject": "overseer.>"}
    await call(operator, f"CONSUMER.CREATE.{STREAM}.mine", {"stream_name": STREAM, "action": "create", "config": config})
    assert (await trim(provisioner, STREAM, keep=0)).messages == 8


async def test_a_full_stream_takes_again_once_it_is_trimmed(bus: Bus) -> None:
    provisioner = await bus.user("provisioner")
    config = (await call(provisioner, f"STREAM.INFO.{STREAM}"))["config"]
    await call(provisioner, f"STREAM.UPDATE.{STREAM}", {**config, "max_msgs": 10})
    await all_done(bus, 9)
    operator = await bus.user("operator")
    refused = await operator.ask(f"{P}op_operator.cmd.votes_db.register_vote", {})
    assert refused["error"]["err_code"] == 10077
    await trim(provisioner, STREAM, keep=0)
    assert (await operator.ask(f"{P}op_operator.cmd.votes_db.register_vote", {}))["seq"] == 11


async def test_an_empty_stream_is_left_alone(bus: Bus) -> None:
    assert (await trim(await bus.user("provisioner"), STREAM, keep=0)).messages == 0
    assert (await trim(await bus.user("provisioner"), NET, keep=0)).messages == 0


async def chained(bus: Bus, blocks: int) -> list[int]:
    """A feed proposes and seals so many blocks, beside another that proposes them too; where in the stream the sealed ones are."""
    feed, other = await bus.user("feed"), await bus.user("other")
    sealed: list[int] = []
    for _ in range(blocks):
        for user in (feed, other):
            await user.ask(build(NODE, "feed", BlockProposed.spec).replace(".feed.", f".{user.name}."), {})
        sealed.append((await feed.ask(build(NODE, "feed", BlockSealed.spec), {}))["seq"])
    return sealed


async def test_sealed_blocks_are_never_trimmed_and_what_was_proposed_is(fed_bus: Bus) -> None:
    provisioner = await fed_bus.user("provisioner")
    sealed = await chained(fed_bus, 5)
    trimmed = await trim(provisioner, NET, keep=0)
    # Of the two senders of three messages a block the other's last one stays as well.
    assert await sequences(provisioner, NET) == sorted([*sealed, sealed[-1] - 1])
    assert trimmed.messages == 9
    assert (await trim(provisioner, NET, keep=0)).messages == 0


async def test_history_is_kept_beside_sealed_blocks(fed_bus: Bus) -> None:
    provisioner = await fed_bus.user("provisioner")
    sealed = await chained(fed_bus, 5)
    await trim(provisioner, NET, keep=4)
    assert await sequences(provisioner, NET) == sorted({*sealed, *range(sealed[-1] - 3, sealed[-1] + 1)})


async def test_sealed_blocks_leave_history_no_more_than_half_of_the_room(fed_bus: Bus) -> None:
    provisioner = await fed_bus.user("provisioner")
    config = (await call(provisioner, f"STREAM.INFO.{NET}"))["config"]
    await call(provisioner, f"STREAM.UPDATE.{NET}", {**config, "max_msgs": 17})
    sealed = await chained(fed_bus, 5)
    # Room for 12 beside the five.
    await trim(provisioner, NET, keep=100)
    assert await sequences(provisioner, NET) == sorted({*sealed, *range(sealed[-1] - 5, sealed[-1] + 1)})
