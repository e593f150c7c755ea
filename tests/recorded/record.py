"""Records the stores of a release: `python -m tests.recorded.record 0.1.0` plays a story and keeps what each subsystem wrote.

A recorded store is never made again for a release that is out: it is what later code must be able to read and to replay.
"""

import sys
import zlib
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import anyio
import cbor2

from messages.ballots import (
    CastBallot,
    CloseElection,
    InvalidateBallot,
    InvalidateElection,
    OpenElection,
    ValidateBallot,
    ValidateElection,
)
from messages.codec import decode, encode_value
from messages.message import CATALOG, Kind, Message, Rejection
from messages.overseer import CommandOutcome, OutcomeStatus
from overseer.demo.playing import find_out, play
from overseer.feeds.devchain import DevChain, Shape
from overseer.feeds.story import Story
from overseer.memory.rows import MemoryRows
from overseer.node.client import Client, Refused
from overseer.ports.bus import BusUnavailable
from overseer.runner.checkpoints import tables_hash
from overseer.subsystem import Subsystem
from overseer.testing.virtual import VirtualOverseer
from overseer.testing.worlds import MemoryShelf, MemoryWorld
from subsystems.chain_api.config import ChainConfig
from subsystems.chain_api.subsystem import ChainApi
from subsystems.dispute_conclusion.subsystem import DisputeConclusion
from subsystems.elections.config import ElectionsConfig
from subsystems.elections.subsystem import Elections
from subsystems.votes_db.subsystem import VotesDb

FOLDER = Path(__file__).parent / "stores"
NODE = "test"
SHAPE = Shape(
    validators=4,
    sessions=2,
    session_blocks=6,
    churn=1,
    candidates_per_block=1,
    disputes_for=1,
    disputes_against=1,
    subtree_depth=3,
    blocks_after=2,
)


def story() -> Story:
    return DevChain("recorded", SHAPE).story()


def subsystems() -> list[Subsystem]:
    """All there are, made for the story."""
    told = story()
    chain = ChainConfig(genesis=told.genesis, governance_authority=told.authority.public)
    return [ChainApi(chain), VotesDb(), DisputeConclusion(), Elections(ElectionsConfig(validate_unreviewed=True))]


KEY = "recorded"
ELECTION: list[Message] = [
    OpenElection(election=KEY, title="First", choices=["Ada", "Grace"], electorate=9),
    *(CastBallot(election=KEY, voter=b"voter %d" % n, choice="Ada" if n % 3 else "Grace", at=n) for n in range(9)),
    CloseElection(election=KEY),
    ValidateBallot(election=KEY, voter=b"voter 1"),
    InvalidateBallot(election=KEY, voter=b"voter 2", reason="blank"),
    InvalidateElection(election=KEY, reason="fraud"),
    OpenElection(election=KEY, title="Second", choices=["Ada"]),
    CastBallot(election=KEY, voter=b"voter 1", choice="Ada"),
    CloseElection(election=KEY),
    ValidateElection(election=KEY),
]


class _Talk:
    """What the player of stories needs of a client."""

    def __init__(self, overseer: VirtualOverseer) -> None:
        self._overseer = overseer

    async def query(self, query: Message) -> Message:
        answer = await self._overseer.ask(query)
        if isinstance(answer, Rejection):
            raise Refused(query, answer.code, answer, retriable=answer.retriable)
        return answer

    async def request(self, command: Message, *, command_id: str, timeout_ms: int) -> CommandOutcome:
        outcome = await self._overseer.request(command, command_id=command_id, timeout_ms=timeout_ms)
        if isinstance(outcome, Rejection):
            raise BusUnavailable(outcome.code)
        if outcome.status is not OutcomeStatus.ACCEPTED:
            spec = CATALOG.find(Kind.REJECTION, command.spec.owner, outcome.code or "")
            detail = decode(spec, outcome.detail) if spec is not None and outcome.detail is not None else None
            raise Refused(command, outcome.code or "", detail, retriable=outcome.retriable)
        return outcome


async def record(release: str) -> None:
    told = story()
    async with MemoryWorld(seed=1) as world, AsyncExitStack() as stack:
        running = [await stack.enter_async_context(VirtualOverseer(subsystem, world, node=NODE)) for subsystem in subsystems()]
        for overseer in running:
            await overseer.start()
        talk = cast(Client, _Talk(running[0]))
        await play(talk, told, lambda *_: None)
        outcome = await find_out(talk, told)
        assert outcome.differences == [], outcome.differences
        for number, command in enumerate(ELECTION):
            await talk.request(command, command_id=f"election {number}", timeout_ms=5_000)
        for overseer in running:
            await overseer.settled()
        for overseer in running:
            await overseer.conclude()
            disk = overseer.disk
            assert isinstance(disk, MemoryShelf)
            await _keep(release, overseer.subsystem, disk.disk.rows)


async def _keep(release: str, subsystem: Subsystem, rows: MemoryRows) -> None:
    declaration = subsystem.declaration
    kept: dict[str, Any] = {
        "evolve_version": declaration.evolve_version,
        "tables_hash": await tables_hash(declaration, rows),
        "rows": rows_of(rows),
    }
    file = FOLDER / release / f"{declaration.name}.cbor.zlib"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(zlib.compress(encode_value(kept), 9))
    print(f"{file.relative_to(FOLDER)}: {file.stat().st_size} bytes")


def rows_of(rows: MemoryRows) -> dict[str, list[list[bytes]]]:
    return {name: [[key, value] for key, value in rows.scan(name, b"", None)] for name in rows.tables()}


def load(file: Path) -> dict[str, Any]:
    return cbor2.loads(zlib.decompress(file.read_bytes()))


if __name__ == "__main__":
    anyio.run(record, sys.argv[1])
