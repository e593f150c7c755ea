"""Feeds from files: both forms give back what was written; every defect is named with its place."""

from pathlib import Path

import cbor2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from messages.chain_api import Best, FinalizeBlock
from messages.codec import BODY_BYTES_MAX, encode
from messages.message import Message
from overseer.feeds.devchain import DevChain, Shape
from overseer.feeds.files import FeedFileError, Form, read, record_bytes, write
from overseer.feeds.make import make_block

MESSAGES: list[Message] = [make_block(bytes(32), n, session=1) for n in range(1, 4)]


@pytest.mark.parametrize("form", ["jsonl", "cbor"])
def test_a_whole_story_is_read_as_it_was_written(tmp_path: Path, form: Form) -> None:
    messages = DevChain("files", Shape(validators=4, sessions=1, disputes_for=1, disputes_against=1)).story().messages
    path = tmp_path / "feed"
    assert write(path, messages, form=form) == len(messages)
    assert [record.message for record in read(path)] == messages


@pytest.mark.parametrize("form", ["jsonl", "cbor"])
def test_records_are_appended_and_told_by_place(tmp_path: Path, form: Form) -> None:
    path = tmp_path / "feed"
    write(path, MESSAGES[:1], form=form)
    write(path, MESSAGES[1:], form=form, append=True)
    records = list(read(path))
    assert [r.message for r in records] == MESSAGES
    size = len(record_bytes(MESSAGES[0], "cbor"))
    assert [r.place for r in records] == (
        ["line 1", "line 2", "line 3"] if form == "jsonl" else ["byte 0", f"byte {size}", f"byte {2 * size}"]
    )


def test_a_cbor_record_is_a_canonical_map_of_body_and_message() -> None:
    body = cbor2.loads(encode(MESSAGES[0]))
    expected = cbor2.dumps({"body": body, "message": "chain_api.cmd.import_block"}, canonical=True)
    assert record_bytes(MESSAGES[0], "cbor") == expected


def test_a_short_name_and_blank_lines_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "feed"
    path.write_text('\n{"message": "finalize_block", "body": {"hash": "0x' + "07" * 32 + '"}}\n\n')
    assert [(r.place, r.message) for r in read(path)] == [("line 2", FinalizeBlock(hash=b"\x07" * 32))]


def test_an_empty_file_is_an_empty_feed(tmp_path: Path) -> None:
    path = tmp_path / "feed"
    path.touch()
    assert list(read(path)) == []


def test_only_commands_are_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="commands alone"):
        write(tmp_path / "feed", [Best()])


GOOD_LINE = record_bytes(MESSAGES[0], "jsonl")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{}\n", "not_a_record"),
        (b"{\n", "not_a_record"),
        (b'{"message": "import_block", "body": {}, "more": 1}\n', "not_a_record"),
        (b'{"message": "\xff", "body": {}}\n', "not_a_record"),
        (b'{"message": "import_block", "body": ' + b"[" * 100_000 + b"\n", "not_a_record"),
        (b'{"message": "no_such", "body": {}}\n', "unknown_message"),
        (b'{"message": "best", "body": {}}\n', "not_a_command"),
        (b'{"message": "block_finalized", "body": {}}\n', "not_a_command"),
        (b'{"message": "finalize_block", "body": {}}\n', "invalid"),
        (b'{"message": "finalize_block", "body": {"hash": "0x00"}}\n', "invalid"),
        (b'{"message": "finalize_block", "body": {"hash": 1.5}}\n', "bad_value"),
        (b'{"message": "finalize_block", "body": {"hash": "0x00", "hash": "0x00"}}\n', "malformed"),
        (b'{"message": "x' + b" " * 4 * BODY_BYTES_MAX + b'"}\n', "line_too_long"),
    ],
)
def test_a_bad_line_is_named_after_the_good_ones_were_given(tmp_path: Path, line: bytes, reason: str) -> None:
    path = tmp_path / "feed"
    path.write_bytes(GOOD_LINE + line + GOOD_LINE)
    records = read(path)
    assert next(records).message == MESSAGES[0]
    with pytest.raises(FeedFileError) as caught:
        next(records)
    assert (caught.value.reason, caught.value.place) == (reason, "line 2")


GOOD = record_bytes(MESSAGES[0], "cbor")


def raw(body: bytes, name: bytes = b"\x6efinalize_block") -> bytes:
    return b"\xa2\x64body" + body + b"\x67message" + name


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"\xa1", "not_a_record"),
        (b"\x00" * 6, "not_a_record"),
        (GOOD[:-1], "truncated"),
        (GOOD[:40], "truncated"),
        (GOOD[:3], "truncated"),
        (raw(b"\xa0")[:-14] + b"\x6d", "truncated"),
        (raw(b"\xa0"), "invalid"),
        (raw(b"\xa0", b"\x67no_such"), "unknown_message"),
        (raw(b"\xa0", b"\x64best"), "not_a_command"),
        (raw(b"\xa0", b"\x01"), "not_a_record"),
        (raw(b"\xa0", b"\x79\xff\xff"), "not_a_record"),
        (raw(b"\xbf\xff"), "malformed"),
        (raw(b"\xc0\x00"), "malformed"),
        (raw(b"\xfb" + bytes(8)), "bad_value"),
        (raw(b"\x81" * 40 + b"\x00"), "too_deep"),
        (raw(b"\x9b" + b"\xff" * 8), "truncated"),
        (raw(b"\x5b" + b"\xff" * 8), "body_too_large"),
        (raw(b"\x5a" + BODY_BYTES_MAX.to_bytes(4, "big") + bytes(BODY_BYTES_MAX)), "body_too_large"),
        (raw(b"\xa1\x64hash\x59\x00\x20" + bytes(32)), "not_canonical"),
    ],
)
def test_a_bad_cbor_record_is_named_after_the_good_ones_were_given(tmp_path: Path, record: bytes, reason: str) -> None:
    path = tmp_path / "feed"
    path.write_bytes(GOOD + record)
    records = read(path)
    assert next(records).message == MESSAGES[0]
    with pytest.raises(FeedFileError) as caught:
        next(records)
    assert (caught.value.reason, caught.value.place) == (reason, f"byte {len(GOOD)}")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200), prefix=st.sampled_from([b"", b"\xa2\x64body", b"{", GOOD]))
def test_hostile_files_are_refused_by_name(tmp_path: Path, data: bytes, prefix: bytes) -> None:
    path = tmp_path / "feed"
    path.write_bytes(prefix + data)
    try:
        list(read(path))
    except FeedFileError as error:
        assert error.reason in str(error)  # noqa: PT017
