"""The NATS server is away for long, or its data is: it is said, nothing is lost, and all goes on by itself."""

import json
import shutil
import signal
import time
from pathlib import Path
from random import Random

import anyio
import pytest

from messages.overseer import Busy, CommandOutcome
from messages.polkadot import VoteKind
from messages.signals import SessionChange
from messages.votes_db import QueryVotes, RegisterVote, VotesSnapshot
from overseer.feeds.make import make_bundle, make_receipt, make_validators
from overseer.limits import Limits
from overseer.node.client import Client, Refused
from overseer.observe.http import fetch
from overseer.ports.bus import BusError
from overseer.testing.virtual import VirtualOverseer
from overseer.testing.worlds import RealWorld
from subsystems.votes_db.declaration import VotesDbConfig
from subsystems.votes_db.subsystem import VotesDb
from tests.crash.living import KILLED_OFTEN, Living
from tests.crash.reckoning import reckon
from tests.crash.traffic import Scenery, Traffic, until
from tests.node.nodes import SUBSYSTEMS, Place, ballots, eventually, told, verified, votes_of

pytestmark = [pytest.mark.anyio, pytest.mark.real]

# A caller must not wait longer than this to be told that there is no bus.
REFUSED_WITHIN_S = 2.0


async def refused_aloud(client: Client, command: RegisterVote) -> str:
    """Why a command is not taken now: told at once, and in the end that there is no server."""
    with anyio.fail_after(10):
        while True:
            began = time.monotonic()
            with pytest.raises(BusError) as refused:
                await client.request(command, command_id="while it is away")
            assert time.monotonic() - began < REFUSED_WITHIN_S
            if "cannot connect" in str(refused.value):
                return str(refused.value)
            await anyio.sleep(0.02)


@pytest.mark.parametrize("away_s", [5, pytest.param(90, marks=pytest.mark.full)])
@pytest.mark.slow
async def test_without_a_bus_for_long_commands_are_refused_aloud_and_all_goes_on_by_itself(here: Place, away_s: int) -> None:
    scenery = Scenery("away")
    # The server is not restarted before its pause is over.
    pause = {"supervise.backoff_first_ms": 1000 * away_s, "supervise.backoff_max_ms": 1000 * away_s}
    here.settings |= {**KILLED_OFTEN, **pause, "genesis": scenery.genesis.hex()}
    living, traffic = Living(here), Traffic(scenery, Random(1), deadline_s=away_s + 60)
    async with living.up() as client:
        pids = {name: living.pid(name) for name in SUBSYSTEMS}
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(traffic.run, client)
            await until(lambda: traffic.total > 20, "there is traffic", 30)
            assert living.signal("nats-server")
            gone = time.monotonic()
            assert "is the server running?" in await refused_aloud(client, scenery.dispute(9_999).bundles[0])
            page = await notes_of_all(living, until_s=gone + away_s)
            assert all("bus" in note for note in page.values()), page
            assert time.monotonic() - gone < away_s, "it came back too early to be looked at"
            await living.whole(client, traffic, within_s=away_s + 30)
            assert time.monotonic() - gone >= away_s
            assert {name: living.pid(name) for name in SUBSYSTEMS} == pids, "a subsystem was restarted: it had only to wait"
            traffic.end()
        found = await reckon(client, traffic)
        assert found.clean, (found.lost, found.doubled, found.wrong)
    verified(here)


async def notes_of_all(living: Living, *, until_s: float) -> dict[str, str]:
    """What the node's own page says of each subsystem, as soon as all say something: it is not ready then."""
    while True:
        page = await fetch(living.node.info.http_port, "/readyz", timeout_ms=5_000)
        notes = {name: child["note"] for name, child in json.loads(page.body).items()}
        if all(notes.values()) or time.monotonic() > until_s:
            assert page.status == 503
            return notes
        await anyio.sleep(0.05)


KEYS = make_validators("gone", 4)


def bundle(number: int) -> RegisterVote:
    receipt = make_receipt(f"gone {number}", para_id=1, relay_parent=bytes(32))
    kinds = [VoteKind.EXPLICIT_VALID] * 3 + [VoteKind.EXPLICIT_INVALID]
    return make_bundle(KEYS, receipt, list(enumerate(kinds)), session=1, block_number=1)


async def test_the_outbox_grows_to_its_bound_then_commands_are_refused_and_after_a_killed_server_nothing_is_missing(
    tmp_path: Path,
) -> None:
    limits = Limits(outbox_messages_max=3, batch_messages_max=1, reconnect_ms=5, reconnect_ms_max=50, fill_look_ms=20)
    async with RealWorld(tmp_path) as world, VirtualOverseer(VotesDb(VotesDbConfig(gossip=False)), world, limits=limits) as votes:
        await votes.inject(SessionChange(index=1, validators=KEYS.validators), sender="chain_api")
        bundles = [bundle(number) for number in range(5)]
        for number, each in enumerate(bundles):
            await votes.inject(each, command_id=f"bundle {number}")
        stream = votes.streams[0]
        held = (await world.state(stream)).last_sequence
        # The bus takes nothing more, but delivers.
        await world.bound(stream, held)
        await votes.start()
        await votes.until(lambda: votes.runner is not None and votes.runner.progress.blocked)
        assert votes.runner is not None
        # One input is recorded as a whole: it may go beyond the bound by what follows from it.
        depth = votes.runner.outbox_depths()["node"]
        assert 3 < depth < 3 + 10
        assert votes.runner.positions()["node"] < held, "intake did not stop"
        assert await votes.request(bundles[0]) == Busy(reason="outbox_full")
        # Then the server is gone altogether, for a while, and comes back with room.
        await world.server.kill()
        await votes.until(lambda: any("bus" in text for text in votes.witness.troubles))
        assert votes.runner.outbox_depths()["node"] == depth
        await world.start_bus()
        await world.bound(stream, None)
        await votes.settled()
        assert votes.runner.outbox_depths()["node"] == 0
        for each in bundles:
            answer = await votes.ask(QueryVotes(session=1, candidate=each.candidate_hash))
            assert isinstance(answer, VotesSnapshot)
            assert len(answer.votes) == 4
        ids = [entry.stored.headers["Overseer-Id"] for entry in await votes.sent_raw()]
        assert len(ids) == len(set(ids)), "a message is twice in the stream"
        await votes.until(lambda: votes.runner is not None and votes.runner._busy() == "")  # pyright: ignore[reportPrivateUsage]
        assert isinstance(await votes.request(bundles[0], command_id="bundle 0"), CommandOutcome)
        verdict = await votes.verify()
        assert verdict.ok, verdict.faults


@pytest.mark.slow
async def test_without_its_data_directory_the_stores_rebuild_the_stream_and_what_nobody_had_handled_is_said_to_be_gone(here: Place) -> None:
    """All of `nats/` goes: streams, ports, configuration. A command that was in the stream alone goes with it; that is said."""
    here.settings |= KILLED_OFTEN
    made = ballots(4, 10)
    living = Living(here)
    async with living.up() as client:
        await told(client, made.opening, "opening")
        for number, each in enumerate(made.bundles[:2]):
            await told(client, each, f"bundle {number}")
        assert living.signal("votes_db", signal.SIGSTOP)
        # The bus takes it; votes_db will never see it.
        await client.inject(made.bundles[2], command_id="bundle 2")
        assert living.signal("overseer")
        await living.gone()
        shutil.rmtree(here.data / "nats")
        await living.start()
        assert "was replaced" in living.node.text()
        assert "commands that were in it alone are gone" in living.node.text()
        async with living.node.client() as again:
            assert not (await votes_or_none(again, made.bundles[2]))
            for number, each in enumerate(made.bundles):
                await told(again, each, f"bundle {number}")
            for each in made.bundles:
                assert len((await votes_of(again, each)).votes) == 10
            await eventually(lambda: here.run("status").code == 0, "all is well")
    repairs = here.run("journal", "votes_db", "--event", "repair_noted", "--json")
    assert "was replaced" in repairs.out, repairs
    verified(here)


async def votes_or_none(client: Client, bundle: RegisterVote) -> list[object]:
    try:
        return list((await votes_of(client, bundle)).votes)
    except Refused:
        return []
