"""Cases that fuzzing found, each mended: what they did is written above them."""

import json
import os
import signal
from pathlib import Path

import pytest

from messages.codec import CodecError, decode_value
from overseer.cli.app import run_app
from overseer.nats.exchange import caller_account
from overseer.node.folder import NodeFolder, NotRunning
from overseer.observe.http import _answer
from overseer.ports.store import StoreCorrupted, WrongStore
from overseer.rocks.identity import IDENTITY_KEY, check_place, read_identity
from overseer.rocks.seal import read_seal
from overseer.runner.schema import Head
from tests.fuzz.target import attempt
from tests.fuzz.targets import TARGETS
from tests.fuzz.wires import told


# A negative size moved the reader back to the line it was reading: the same message for ever.
# Sizes of other kinds (1_0, +1, a space) were taken as numbers.
@pytest.mark.parametrize("size", [b"-15", b"-2", b"-4", b"1_0", b"+5", b"", b"\xb2", b"9" * 5000, b"99999999999"])
def test_a_server_that_sends_a_size_that_is_none_ends_the_session(size: bytes) -> None:
    assert attempt(TARGETS["frames"], b"\x40MSG a 1 " + size + b"\r\nab\r\n").error is None
    with pytest.raises(ValueError, match=r"not a number of the NATS protocol|not a message"):
        told([b"MSG a 1 " + size + b"\r\nab\r\n"])


# Fields were counted from both ends, so that these gave an IndexError or a wrong reply subject.
@pytest.mark.parametrize("line", [b"MSG a", b"MSG a 1", b"HMSG a 1 5", b"MSG a 1 r x 0", b"HMSG a 1 9 3", b"MSG "])
def test_a_message_with_fields_missing_or_too_many_ends_the_session(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"NATS protocol|headers larger"):
        told([line + b"\r\n\r\n\r\n"])


# The interpreter's own error for deep nesting came out; and a list for an object.
@pytest.mark.parametrize("info", [b"[" * 100_000, b"[]", b"1", b"{"])
def test_an_info_that_is_none_ends_the_session(info: bytes) -> None:
    with pytest.raises(ValueError, match=r"INFO|Expecting"):
        told([b"INFO " + info + b"\r\n"])


# Bytes without an end of line, or of a message never completed, were kept for ever.
def test_a_line_without_end_ends_the_session() -> None:
    with pytest.raises(ValueError, match="line of more than"):
        told([b"x" * (1024 * 1024 + 1)])


# Text that is not UTF-8 in JSON is another error than JSON that is none.
def test_a_run_file_that_is_not_utf_8_means_that_no_node_runs(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(b'{"node":"n","run_id":"r\xbf,"pid":1}')
    with pytest.raises(NotRunning):
        NodeFolder(tmp_path).last_run()


def test_a_note_of_rocksdict_that_is_not_utf_8_says_nothing(tmp_path: Path) -> None:
    from overseer.ports.store import StoreIdentity

    (tmp_path / "CURRENT").write_bytes(b"MANIFEST-000001\n")
    (tmp_path / "rocksdict-config.json").write_bytes(b'{"raw_mode":"\xbf"}')
    with pytest.raises(Exception, match=str(tmp_path)) as caught:
        check_place(tmp_path, StoreIdentity("n", "s", 1), create=False)
    assert not isinstance(caught.value, UnicodeDecodeError)


def test_what_the_server_says_of_a_caller_is_nobody_when_it_cannot_be_read() -> None:
    assert caller_account(b'NATS/1.0\r\nNats-Request-Info: {"acc":"\xff"}\r\n\r\n') == ""
    assert caller_account(b"NATS/1.0\r\nNats-Request-Info: " + b"[" * 8_000 + b"\r\n\r\n") == ""


# msgspec's errors are no ValueErrors: a marker of another type ended the start with a traceback.
@pytest.mark.parametrize("row", [b"\xf6", b"\x80", b"\xa1\x61a\x00", b"\xc2\x49\x01" + bytes(8), b"\xd8\x1c\x81\xd8\x1d\x00", b""])
def test_an_identity_of_another_form_is_another_release_s(row: bytes) -> None:
    with pytest.raises(WrongStore):
        read_identity({IDENTITY_KEY: row}, "here")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("row", [b"\xf6", b"\x80", b"", b"\xff", b"\xc4\x82\x1a\x7f\xff\xff\xff\x01", b"\xd8\x1c\x81\xd8\x1d\x00"])
def test_a_row_that_is_not_what_we_wrote_is_named(row: bytes) -> None:
    with pytest.raises(CodecError, match="damaged: no Head"):
        decode_value(Head, row)


# Arguments that are not UTF-8 came to be encoded somewhere, with a traceback.
@pytest.mark.parametrize("words", [[b"make", b"receipt", b"--label", b"\xd0o"], [b"send", b"\xff"], [b"config", b"--\xff"]])
def test_arguments_that_are_no_text_are_refused_with_words(words: list[bytes], capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert run_app([os.fsdecode(word) for word in words]) == 2
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "not text in UTF-8" in capsys.readouterr().err


# "²" is a digit to Python, and no number.
def test_an_answer_whose_status_is_no_number_is_no_answer() -> None:
    with pytest.raises(ConnectionError):
        _answer(b"HTTP/1.1 \xb2 OK\r\nContent-Length: 0\r\n\r\n", 1)


# A body of a few hundred KiB of one-byte values took 9 to 50 ms; a feed file or `overseer decode` half a second and 70 MiB.
@pytest.mark.parametrize("name", ["cbor", "feed", "decode", "json"])
def test_as_many_values_as_fit_are_refused_at_once(name: str) -> None:
    most = 768 * 1024 - 32
    empty = {"json": b"\0\0" + b"[" + b"[]," * (most // 3) + b"[]]"}.get(name, b"\x9a" + most.to_bytes(4, "big") + b"\x80" * most)
    data = b"\xa2\x64body" + empty + b"\x67message\x63foo" if name == "feed" else empty
    verdict = attempt(TARGETS[name], data)
    assert verdict.error is None
    assert verdict.outcome in ("too_many_items", "exit 2")
    assert verdict.seconds < 0.1, json.dumps(verdict.seconds)


# A size of thousands of digits is none that Python turns into a number: ValueError came out.
@pytest.mark.parametrize(
    "text", ["9" * 5000 + "\n", "9\nMANIFEST-" + "9" * 5000 + f" 1 {'0' * 64}\n", f"9\nMANIFEST-5 {'9' * 5000} {'0' * 64}\n"]
)
def test_a_seal_with_endless_numbers_is_damaged_by_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "SEAL").write_text(text)
    with pytest.raises(StoreCorrupted, match="SEAL is damaged"):
        read_seal(tmp_path)
