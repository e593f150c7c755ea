"""Snapshots of streams: whole, with their sequences, while the server goes on; and what holds a stream until one is taken."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from nats_bus import Bus, User
from nats_declarations import NODE

from overseer.nats.account_text import BUS
from overseer.nats.accounts import inbox_prefix
from overseer.nats.connection import Connection, connect
from overseer.nats.holding import HeldNoLonger, untrimmed
from overseer.nats.keys import KeyFolder
from overseer.nats.provision import ApiError, call, consumer_configs
from overseer.nats.server import EmbeddedServer
from overseer.nats.snapshot import BrokenSnapshot, restored_stream, snapshot_of
from overseer.nats.trimming import trim
from overseer.ports.bus import BusUnavailable

pytestmark = [pytest.mark.real, pytest.mark.anyio]

STREAM = f"OVERSEER_{NODE}"
P = f"overseer.{NODE}."


@pytest.fixture
async def provisioner(bus: Bus) -> AsyncIterator[Connection]:
    prefix, seed = inbox_prefix("provisioner", NODE), bus.keys.seed("provisioner").reveal()
    async with await connect(bus.server.url, name="provisioner", inbox_prefix=prefix, nkey_seed=seed) as connection:
        yield connection


async def say(user: User, numbers: range) -> None:
    for number in numbers:
        await user.ask(f"{P}op_operator.cmd.votes_db.register_vote", {"n": number, "much": "x" * 20_000})


async def taken(provisioner: Connection) -> tuple[dict[str, Any], dict[str, Any], list[bytes]]:
    snapshot = await snapshot_of(provisioner, NODE, STREAM)
    assert snapshot is not None
    pieces = [piece async for piece in snapshot.pieces()]
    await snapshot.end()
    return snapshot.config, snapshot.state, pieces


@pytest.fixture
async def elsewhere(tmp_path: Path) -> AsyncIterator[Connection]:
    """A server with nothing in it, and somebody who may do everything there."""
    keys = KeyFolder(tmp_path / "other-keys")
    public = keys.ensure(["somebody"])["somebody"]
    accounts = f'system_account: SYS\naccounts {{ SYS {{}}, {BUS} {{ jetstream: enabled, users: [{{ nkey: "{public}" }}] }} }}\n'
    async with (
        EmbeddedServer(tmp_path / "other", accounts) as server,
        await connect(server.url, name="s", inbox_prefix="_INBOX.s", nkey_seed=keys.seed("somebody").reveal()) as connection,
    ):
        yield connection


async def test_a_snapshot_is_restored_with_its_sequences_and_its_id(bus: Bus, provisioner: Connection, elsewhere: Connection) -> None:
    operator = await bus.user("operator")
    await say(operator, range(30))
    await call(provisioner, f"STREAM.PURGE.{STREAM}", {"seq": 4})
    config, state, pieces = await taken(provisioner)
    await say(operator, range(30, 40))
    restored = await restored_stream(elsewhere, config, state, pieces)
    assert (restored["first_seq"], restored["last_seq"], restored["messages"]) == (4, 30, 27)
    there = (await call(elsewhere, f"STREAM.INFO.{STREAM}"))["config"]
    assert there["metadata"]["overseer_id"] == config["metadata"]["overseer_id"]
    message = (await call(elsewhere, f"STREAM.MSG.GET.{STREAM}", {"seq": 17}))["message"]
    assert message == (await call(provisioner, f"STREAM.MSG.GET.{STREAM}", {"seq": 17}))["message"]
    with pytest.raises(ApiError, match="already in use"):
        await restored_stream(elsewhere, config, state, pieces)


async def test_a_damaged_snapshot_makes_no_stream(bus: Bus, provisioner: Connection, elsewhere: Connection) -> None:
    await say(await bus.user("operator"), range(10))
    config, state, pieces = await taken(provisioner)
    whole = b"".join(pieces)
    for damaged in (whole[: len(whole) // 2], b"rubbish" * 100, whole[:100] + b"x" + whole[101:]):
        with pytest.raises(BrokenSnapshot, match=STREAM):
            await restored_stream(elsewhere, config, state, [damaged])
        with pytest.raises(ApiError) as caught:
            await call(elsewhere, f"STREAM.INFO.{STREAM}")
        assert caught.value.code == 404


async def test_of_a_stream_that_is_not_there_is_none(bare_bus: Bus) -> None:
    prefix, seed = inbox_prefix("provisioner", NODE), bare_bus.keys.seed("provisioner").reveal()
    async with await connect(bare_bus.server.url, name="p", inbox_prefix=prefix, nkey_seed=seed) as connection:
        assert await snapshot_of(connection, NODE, STREAM) is None


async def test_without_a_session_it_is_the_bus_that_is_away(bus: Bus, provisioner: Connection) -> None:
    await provisioner.close()
    with pytest.raises(BusUnavailable, match="closed"):
        await snapshot_of(provisioner, NODE, STREAM)


@pytest.mark.parametrize("name", ["operator", "reader", "overseer", "votes_db"])
async def test_nobody_but_the_provisioner_takes_snapshots_and_nobody_restores(bus: Bus, name: str) -> None:
    user = await bus.user(name)
    assert await user.refused(f"$JS.API.STREAM.SNAPSHOT.{STREAM}")
    provisioner = await bus.user("provisioner")
    for each in (user, provisioner):
        assert await each.refused(f"$JS.API.STREAM.RESTORE.{STREAM}")


async def test_nothing_is_trimmed_while_it_is_held_and_nobody_holds_it_afterwards(bus: Bus, provisioner: Connection) -> None:
    operator = await bus.user("operator")
    await say(operator, range(9))
    # No subsystem is behind: without a hold all but the last message would go.
    for name in await consumer_configs(provisioner, STREAM):
        await call(provisioner, f"CONSUMER.DELETE.{STREAM}.{name}")
    async with untrimmed(provisioner, STREAM, NODE, "backup"):
        trimmed = await trim(provisioner, STREAM, keep=0)
        assert trimmed.messages == 0
        assert trimmed.held_by.startswith("backup")
    assert await consumer_configs(provisioner, STREAM) == {}
    assert (await trim(provisioner, STREAM, keep=0)).messages == 8


async def test_who_deletes_the_hold_spoils_what_it_was_for(bus: Bus, provisioner: Connection) -> None:
    async def spoiled() -> None:
        async with untrimmed(provisioner, STREAM, NODE, "backup"):
            (name,) = [name for name in await consumer_configs(provisioner, STREAM) if name.startswith("backup")]
            await call(await bus.user("operator"), f"CONSUMER.DELETE.{STREAM}.{name}")

    async def failing() -> None:
        async with untrimmed(provisioner, STREAM, NODE, "backup"):
            raise ZeroDivisionError

    with pytest.raises(HeldNoLonger, match=STREAM):
        await spoiled()
    with pytest.raises(ZeroDivisionError):
        await failing()
    assert not any(name.startswith("backup") for name in await consumer_configs(provisioner, STREAM))
