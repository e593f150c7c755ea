"""D26: a kill in the middle of a large bundle. The real `votes_db`, in memory and with SIGKILL on NATS and RocksDB."""

import functools
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from messages.polkadot import VoteKind
from messages.signals import SessionChange
from messages.votes_db import QueryVotes, RegisterVote, VotesSnapshot
from messages.votes_db_journal import VotesImported
from overseer.feeds.make import make_bundle, make_receipt, make_validators
from overseer.limits import Limits
from overseer.memory.store import CommitStep
from overseer.runner.observer import Step
from overseer.testing.virtual import VirtualOverseer
from overseer.testing.witness import Killed
from subsystems.votes_db.declaration import VotesDbConfig
from subsystems.votes_db.subsystem import VotesDb

pytestmark = pytest.mark.anyio

VOTES = 1_000


@functools.cache
def story() -> tuple[SessionChange, RegisterVote]:
    """A session of 1000 validators, of whom all vote: two against, the others for."""
    keys = make_validators("D26", VOTES)
    receipt = make_receipt("D26", para_id=2_000, relay_parent=bytes(32))
    ballots = [(v, VoteKind.EXPLICIT_INVALID if v < 2 else VoteKind.EXPLICIT_VALID) for v in range(VOTES)]
    return SessionChange(index=1, validators=keys.validators), make_bundle(keys, receipt, ballots, session=1, block_number=1)


def kept(votes: Any) -> int:
    """How many votes the journal holds."""
    with votes.stored() as store:
        return sum(1 for _ in store.scan("votes", b"", None))


async def all_of_it_once(votes: Any, bundle: RegisterVote) -> None:
    await votes.settled()
    assert kept(votes) == VOTES
    assert len(votes.events(VotesImported)) == 1
    answer = await votes.ask(QueryVotes(session=1, candidate=bundle.candidate_hash))
    assert isinstance(answer, VotesSnapshot)
    assert (answer.cons, answer.pro) == ([0, 1], list(range(2, VOTES)))
    ids = [entry.stored.headers["Overseer-Id"] for entry in await votes.sent_raw()]
    assert len(ids) == len(set(ids)), "a message is twice in the stream"
    verdict = await votes.verify()
    assert verdict.ok, verdict.faults


DEATHS = [*[("step", step) for step in Step], *[("commit", step) for step in CommitStep]]


@pytest.mark.parametrize(("where", "step"), DEATHS)
async def test_D26_a_kill_during_a_bundle_of_1000_votes_leaves_all_or_nothing_and_in_the_end_each_once(
    in_memory: Any, where: str, step: Any
) -> None:
    session, bundle = story()
    votes = await in_memory(VotesDb(VotesDbConfig(gossip=False)), limits=Limits(reconnect_ms=2))
    await votes.inject(session, sender="chain_api")
    await votes.settled()

    def die(at: CommitStep) -> None:
        if at is step:
            votes.disk.disk.on_step = None
            votes.disk.crash()
            raise Killed(step)

    if where == "step":
        votes.kill_at(step)
    else:
        votes.disk.disk.on_step = die
    await votes.inject(bundle, command_id="bundle")
    await votes.ended()
    assert kept(votes) in (0, VOTES), "a part of the bundle"
    await votes.restart()
    # The caller does not know what became of it and sends it again.
    await votes.inject(bundle, command_id="bundle")
    await all_of_it_once(votes, bundle)


@pytest.mark.real
@pytest.mark.parametrize("step", list(Step))
async def test_D26_kill_9_of_the_process_on_nats_and_rocksdb_leaves_all_or_nothing_and_in_the_end_each_once(
    real_world: Any, step: Step
) -> None:
    session, bundle = story()
    async with VirtualOverseer(VotesDb(VotesDbConfig(gossip=False)), real_world, node="bundles") as votes:
        await votes.inject(session, sender="chain_api")
        await votes.inject(bundle, command_id="bundle")
        code = await run_until_killed(real_world.server.url, votes.disk.folder, step, 1)  # type: ignore[attr-defined]
        assert code == -9
        assert kept(votes) in (0, VOTES), "a part of the bundle"
        await votes.start()
        await votes.inject(bundle, command_id="bundle")
        await all_of_it_once(votes, bundle)


async def run_until_killed(url: str, folder: Path, step: Step, times: int) -> int:
    """The exit code of the process."""
    argv = [sys.executable, str(Path(__file__).with_name("bundle_program.py")), url, str(folder), step.value, str(times)]
    root = str(Path(__file__).parents[2])
    async with await anyio.open_process(argv, cwd=root, env={"PYTHONPATH": root}, stdout=None, stderr=None) as process:
        with anyio.fail_after(30):
            return await process.wait()
