"""`verify` finds what no file damage could make: the runner's own rows changed, one after the other."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from messages.codec import decode_value, encode_value
from overseer.node.catalogue import build_subsystem
from overseer.node.folder import NodeFolder
from overseer.node.hosting import open_store
from overseer.runner.schema import HEAD, Head, Published
from overseer.tables import WriteSet
from tests.crash.damage import Sample, settings_of
from tests.crash.damage_checks import verdicts

pytestmark = [pytest.mark.anyio, pytest.mark.real]

NAME = "dispute_conclusion"


async def changed(data: Path, name: str, table: str, change: Callable[[bytes], bytes | None]) -> list[str]:
    """What `verify` says of the store of `name` when the last row of `table` is another."""
    store = open_store(NodeFolder(data), "node", build_subsystem(name, settings_of(data)).declaration)
    try:
        key, value = next(iter(store.scan(table, b"", None, reverse=True)))
        writes = WriteSet()
        writes.put(table, key, change(value))
        await store.commit(writes)
    finally:
        store.close()
    found = await verdicts(settings_of(data))
    assert [other for other, faults in found.items() if faults and other != name] == []
    return found[name]


def of_head(change: Callable[[Head], None]) -> Callable[[bytes], bytes]:
    def changed_head(value: bytes) -> bytes:
        head = decode_value(Head, value)
        change(head)
        return encode_value(head)

    return changed_head


def _other(head: Head, **fields: object) -> None:
    for name, value in fields.items():
        setattr(head, name, value)


def flip(value: bytes, at: int) -> bytes:
    data = bytearray(value)
    data[at] ^= 1
    return bytes(data)


HEADS: dict[str, tuple[Callable[[Head], None], str]] = {
    "incarnation": (lambda head: _other(head, incarnation=bytes(16)), "incarnation is"),
    "began": (lambda head: _other(head, began=head.began + 1), "first record of its incarnation"),
    "past": (lambda head: _other(head, past=[bytes(16)]), "past incarnations"),
    "time": (lambda head: _other(head, last_ms=head.last_ms + 1), "time is"),
    "checkpoint": (lambda head: _other(head, checkpoint=head.checkpoint + 1), "checkpoint is"),
    "history": (lambda head: _other(head, history_incomplete=True), "incomplete history"),
    "positions": (lambda head: _other(head, positions={}), "position in node"),
    "published": (
        lambda head: _other(head, published={"node": Published(stream="x", sequence=1, index=head.index, place=99)}),
        "no such message was told",
    ),
}


@pytest.mark.parametrize("field", list(HEADS))
async def test_verify_finds_a_changed_field_of_the_head(sample: Sample, tmp_path: Path, field: str) -> None:
    shutil.copytree(sample.folder, tmp_path / "data")
    change, text = HEADS[field]
    assert any(text in fault for fault in await changed(tmp_path / "data", NAME, HEAD.name, of_head(change)))


@pytest.mark.parametrize(
    ("name", "table", "text"),
    [
        (NAME, "watermarks", "watermark"),
        ("votes_db", "outcomes", "outcome"),
        ("votes_db", "outcomes_by_time", "by time"),
        ("votes_db", "outbox_node", "outgoing"),
    ],
)
async def test_verify_finds_a_row_of_the_runner_that_is_another_or_gone(
    sample: Sample, tmp_path: Path, name: str, table: str, text: str
) -> None:
    shutil.copytree(sample.folder, tmp_path / "data")
    if table != "outcomes_by_time":
        # The time of an outcome: the reply in it is in no journal.
        at = 5 if table == "outcomes" else -1
        flipped = await changed(tmp_path / "data", name, table, lambda value: flip(value, at))
        assert any(text in fault for fault in flipped), flipped
    gone = await changed(tmp_path / "data", name, table, lambda _: None)
    assert any(text in fault for fault in gone), gone
