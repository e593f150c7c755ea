"""The clock is set back and forth under a running subsystem, over a real NATS server and RocksDB: no decision reads it."""

from pathlib import Path
from random import Random
from typing import cast

import pytest

from messages.polkadot import VoteKind
from messages.signals import SessionChange
from messages.votes_db import DisputeStatus, QueryVotes, RegisterVote, VotesSnapshot
from overseer.feeds.make import make_bundle, make_receipt, make_validators
from overseer.memory.clock import MemoryClock
from overseer.system.clock import SystemClock
from overseer.testing.virtual import VirtualOverseer
from overseer.testing.worlds import RealWorld
from subsystems.votes_db.declaration import VotesDbConfig
from subsystems.votes_db.subsystem import VotesDb

pytestmark = [pytest.mark.anyio, pytest.mark.real]

HOUR_MS = 3_600_000
KEYS = make_validators("clock", 4)
DISPUTES = 6


def bundles() -> list[list[RegisterVote]]:
    """Of each dispute: a bundle of both sides, then the votes that decide it, singly."""
    made: list[list[RegisterVote]] = []
    for number in range(DISPUTES):
        receipt = make_receipt(f"clock {number}", para_id=1, relay_parent=bytes(32))
        both = [(0, VoteKind.EXPLICIT_VALID), (1, VoteKind.EXPLICIT_INVALID)]
        parts = [both, [(2, VoteKind.EXPLICIT_INVALID)], [(3, VoteKind.EXPLICIT_INVALID)]]
        made.append([make_bundle(KEYS, receipt, part, session=1, block_number=1) for part in parts])
    return made


async def test_a_clock_that_is_stepped_hours_back_and_forth_changes_no_decision_and_no_recorded_time(tmp_path: Path) -> None:
    rng = Random(5)
    began_ms = SystemClock().now_ms()
    async with RealWorld(tmp_path) as world:
        clock = MemoryClock(began_ms - HOUR_MS)
        world.clock = cast(SystemClock, clock)
        async with VirtualOverseer(VotesDb(VotesDbConfig(gossip=False)), world) as votes:
            await votes.start()
            await votes.inject(SessionChange(index=1, validators=KEYS.validators), sender="chain_api")
            for number, parts in enumerate(bundles()):
                for part, bundle in enumerate(parts):
                    clock.step(rng.randint(-3 * HOUR_MS, 0) if part % 2 else -HOUR_MS)
                    await votes.inject(bundle, command_id=f"{number}.{part}")
                await votes.settled()
                if number % 2:
                    # Another process, in what the clock calls the past.
                    await votes.restart()
            ended_ms = SystemClock().now_ms()
            for parts in bundles():
                answer = await votes.ask(QueryVotes(session=1, candidate=parts[0].candidate_hash))
                assert isinstance(answer, VotesSnapshot)
                assert (answer.status, answer.pro, answer.cons) == (DisputeStatus.CONCLUDED_AGAINST, [0], [1, 2, 3])
                # The time of the stream, not of the clock.
                assert answer.concluded_at_ms is not None
                assert began_ms <= answer.concluded_at_ms <= ended_ms
            times = [record.time_ms for record in votes.journal() if record.cause.sequence]
            assert times == sorted(times), "recorded time went back"
            verdict = await votes.verify()
            assert verdict.ok, verdict.faults
