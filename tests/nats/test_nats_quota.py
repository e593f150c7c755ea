"""A nearly full stream takes no commands past the endpoints: on a real server."""

from contextlib import suppress

import pytest
from nats.errors import NoRespondersError
from nats_bus import Bus
from nats_declarations import DECLARATIONS, NODE

from overseer.nats.provision import call
from overseer.nats.quota import CommandQuota, fill_of

pytestmark = [pytest.mark.real, pytest.mark.anyio]

STREAM = f"OVERSEER_{NODE}"
P = f"overseer.{NODE}."
COMMAND = f"{P}op_operator.cmd.votes_db.register_vote"


async def quota_of(bus: Bus, *, messages_max: int) -> CommandQuota:
    """The gate of a stream that holds so many messages, commands up to a half of it."""
    provisioner = await bus.user("provisioner")
    config = (await call(provisioner, f"STREAM.INFO.{STREAM}"))["config"]
    await call(provisioner, f"STREAM.UPDATE.{STREAM}", {**config, "max_msgs": messages_max})
    return CommandQuota(provisioner, NODE, [d.name for d in DECLARATIONS], percent=50)


async def commanded(bus: Bus, count: int) -> int:
    """How many of so many commands were stored; the others nobody took."""
    operator = await bus.user("operator")
    stored = 0
    for number in range(count):
        with suppress(NoRespondersError):
            stored += "seq" in await operator.ask(COMMAND, {"n": number})
    return stored


async def test_outside_commands_are_refused_at_once_and_what_subsystems_say_is_taken(bus: Bus) -> None:
    quota = await quota_of(bus, messages_max=20)
    assert not (await quota.look()).closed
    assert await commanded(bus, 11) == 11
    look = await quota.look()
    assert (look.closed, look.changed, look.fill) == (True, True, 11 / 20)
    assert await commanded(bus, 3) == 0
    # The other half is for what follows.
    chain_api = await bus.user("chain_api")
    for number in range(9):
        answer = await chain_api.ask(f"{P}chain_api.evt.incarnation_started", {"n": number})
        assert "error" not in answer, answer
    assert not (await quota.look()).changed


async def test_they_are_taken_again_when_there_is_room_and_nothing_stored_was_lost(bus: Bus) -> None:
    quota = await quota_of(bus, messages_max=20)
    provisioner = await bus.user("provisioner")
    await commanded(bus, 12)
    await quota.look()
    # A little room is not enough: it would go back and forth.
    await call(provisioner, f"STREAM.PURGE.{STREAM}", {"seq": 4})
    assert (await quota.look()).closed
    await call(provisioner, f"STREAM.PURGE.{STREAM}", {"seq": 7})
    look = await quota.look()
    assert (look.closed, look.changed) == (False, True)
    assert await commanded(bus, 2) == 2
    state = (await call(provisioner, f"STREAM.INFO.{STREAM}"))["state"]
    assert (state["first_seq"], state["last_seq"]) == (7, 14)


async def test_a_closed_stream_delivers_what_it_holds_and_outlives_the_server(bus: Bus) -> None:
    quota = await quota_of(bus, messages_max=20)
    await commanded(bus, 12)
    await quota.look()
    votes = await bus.user("votes_db")
    assert len(await votes.pull(STREAM, "votes_db", 12)) == 12
    config = (await call(await bus.user("provisioner"), f"STREAM.INFO.{STREAM}"))["config"]
    assert f"{P}*.cmd.>" not in config["subjects"]
    assert f"{P}req_votes_db.cmd.>" in config["subjects"]
    assert {f"{P}*.evt.>", f"{P}*.sig.>", f"{P}*.rejected"} <= set(config["subjects"])


def test_the_fill_is_of_the_limit_that_is_nearest() -> None:
    info = {"state": {"messages": 10, "bytes": 900}, "config": {"max_msgs": 100, "max_bytes": 1_000}}
    assert fill_of(info) == 0.9
    assert fill_of({**info, "config": {"max_msgs": 20, "max_bytes": -1}}) == 0.5
    assert fill_of({**info, "config": {}}) == 0
