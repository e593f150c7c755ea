"""What a release has written, later code reads, replays to the same state, and goes on from (docs/testing.md)."""

from pathlib import Path
from typing import Any

import pytest

from messages.codec import decode_value
from overseer.memory.rows import MemoryRows
from overseer.ports.store import StoreIdentity
from overseer.runner.checkpoints import tables_hash
from overseer.runner.schema import OUTBOX_NODE, SYSTEM_TABLES, OutboxRow
from overseer.runner.verify import rebuild, verify
from overseer.subsystem import Subsystem
from overseer.testing.virtual import VirtualOverseer
from overseer.testing.worlds import MemoryShelf, MemoryWorld
from tests.recorded.record import FOLDER, NODE, load, subsystems

pytestmark = pytest.mark.anyio

SUBSYSTEMS = {subsystem.declaration.name: subsystem for subsystem in subsystems()}
FILES = sorted(FOLDER.glob("*/*.cbor.zlib"))


def recorded(file: Path) -> tuple[Subsystem, dict[str, Any], MemoryRows]:
    kept = load(file)
    subsystem = SUBSYSTEMS[file.name.removesuffix(".cbor.zlib")]
    rows = MemoryRows([])
    rows.add_tables([*kept["rows"], *(table.name for table in (*SYSTEM_TABLES, *subsystem.declaration.tables))])
    for name, found in kept["rows"].items():
        rows.load(name, ((key, value) for key, value in found))
    return subsystem, kept, rows


each = pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.name.partition('.')[0]}")


def test_every_subsystem_of_every_release_is_recorded() -> None:
    for release in FOLDER.iterdir():
        assert {file.name.partition(".")[0] for file in release.iterdir()} <= set(SUBSYSTEMS)
    newest = max(FOLDER.iterdir(), key=lambda release: [int(part) for part in release.name.split(".")])
    assert {file.name.partition(".")[0] for file in newest.iterdir()} == set(SUBSYSTEMS)


@each
async def test_a_recorded_journal_replays_to_the_recorded_state(file: Path) -> None:
    subsystem, kept, rows = recorded(file)
    built = await rebuild(subsystem, rows, None)
    if kept["evolve_version"] == subsystem.declaration.evolve_version:
        assert await tables_hash(subsystem.declaration, built) == kept["tables_hash"], (
            "raise evolve_version: the same journal gives other tables"
        )


@each
async def test_what_was_told_is_what_the_code_would_tell(file: Path) -> None:
    subsystem, kept, rows = recorded(file)
    if kept["evolve_version"] != subsystem.declaration.evolve_version:
        pytest.skip("its tables are rebuilt when it is opened")
    verdict = await verify(subsystem, NODE, rows, None)
    assert verdict.ok, verdict.faults
    assert verdict.records > 10


@each
async def test_a_subsystem_goes_on_from_a_recorded_store(file: Path) -> None:
    subsystem, kept, rows = recorded(file)
    async with MemoryWorld() as world, VirtualOverseer(subsystem, world, node=NODE) as overseer:
        shelf = overseer.disk
        assert isinstance(shelf, MemoryShelf)
        shelf.disk.identity = StoreIdentity(NODE, subsystem.declaration.name)
        shelf.disk.rows = rows
        await overseer.start()
        await overseer.settled()
        assert (await overseer.verify()).ok
        # The stream is another one than that of the record: everything it had told is told again, in order.
        told = [entry.stored.body for entry in await overseer.sent_raw() if entry.stream == overseer.streams[0]]
        kept_rows = [decode_value(OutboxRow, row).body for _, row in kept["rows"][OUTBOX_NODE.name]]
        assert kept_rows
        assert told[: len(kept_rows)] == kept_rows
