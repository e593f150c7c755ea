"""`decode` and `encode` as filters: what they print, how they fail, and that `decode` starts light."""

import json
import os
import subprocess
import sys

import cbor2
import pytest

from messages import codec
from messages.chain_api import FinalizeBlock
from messages.codec import decode, encode
from overseer.cli import translate

HASH = "0x" + "ab" * 32
DECODE = "import sys; from overseer.cli.translate import decode_main; sys.exit(decode_main(sys.argv[1:]))"
ENCODE = "import sys; from overseer.cli.translate import encode_main; sys.exit(encode_main(sys.argv[1:]))"


def run(program: str, *argv: str, stdin: bytes = b"") -> tuple[int, bytes, str]:
    done = subprocess.run([sys.executable, "-c", program, *argv], input=stdin, capture_output=True, timeout=30, check=False)
    return done.returncode, done.stdout, done.stderr.decode()


def test_decode_shows_a_body_on_one_line_or_indented_when_it_is_long() -> None:
    code, out, error = run(DECODE, stdin=encode(FinalizeBlock(hash=bytes.fromhex("ab" * 32))))
    assert (code, out.decode(), error) == (0, f'{{"hash": "{HASH}"}}\n', "")
    code, out, _ = run(DECODE, stdin=cbor2.dumps({"a": [bytes(32)] * 9}))
    assert code == 0
    assert len(out.splitlines()) > 9
    assert json.loads(out) == {"a": ["0x" + "00" * 32] * 9}


def test_decode_passes_a_json_body_on() -> None:
    body = b'{"hash": "0x"}'
    assert run(DECODE, stdin=body)[:2] == (0, body + b"\n")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "no body"),
        (b"\xa1\x61a", "not CBOR"),
        (b"\xa0\x00\x00", "2 bytes behind"),
        (b"\xa1\x61a\xd8\x23\x61x", "semantic tag 35"),
        (b"\xa1\x61a\x9f\xff", "not CBOR"),
        (b"{nonsense", "neither CBOR nor JSON"),
        (b"{\xff", "neither CBOR nor JSON"),
        (b"\xa1\x61a" + b"\x81" * 400, "not CBOR"),
        (bytes(translate.BODY_BYTES_MAX + 1), "larger than"),
        # A text, and an array, as CBOR.
        (b"garbage\n", "neither CBOR as messages use it, a map, nor JSON"),
        (b"\x80", "neither CBOR as messages use it, a map, nor JSON"),
    ],
)
def test_decode_refuses_what_is_no_body_in_words_and_with_exit_code_2(body: bytes, said: str) -> None:
    code, out, error = run(DECODE, stdin=body)
    assert (code, out) == (2, b"")
    assert error.startswith("overseer decode: ")
    assert said in error
    assert "Traceback" not in error


def test_decode_starts_without_the_messages_and_the_command_line() -> None:
    program = DECODE.replace("sys.exit(decode_main(sys.argv[1:]))", "decode_main([]); print(*sys.modules, sep='\\n', file=sys.stderr)")
    modules = run(program, stdin=b"\xa0")[2].split()
    heavy = {"messages", "msgspec", "typer", "click", "rich", "nats", "asyncio", "anyio", "blake3", "rocksdict", "difflib", "inspect"}
    assert heavy.isdisjoint(name.partition(".")[0] for name in modules)
    assert "cbor2" in modules


def test_its_limits_are_those_of_the_codec() -> None:
    assert (translate.BODY_BYTES_MAX, translate.DEPTH_MAX) == (codec.BODY_BYTES_MAX, codec.DEPTH_MAX)


@pytest.mark.parametrize(
    "argv", [("finalize_block", f'{{"hash": "{HASH}"}}'), ("chain_api.finalize_block",), ("chain_api.cmd.finalize_block", "-")]
)
def test_encode_writes_the_canonical_body_of_json_from_the_argument_or_stdin(argv: tuple[str, ...]) -> None:
    code, out, error = run(ENCODE, *argv, stdin=f'{{"hash": "{HASH}"}}'.encode())
    assert (code, error) == (0, "")
    assert decode(FinalizeBlock.spec, out) == FinalizeBlock(hash=bytes.fromhex("ab" * 32))


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ((), "usage: overseer encode"),
        (("a", "b", "c"), "usage: overseer encode"),
        (("finalise_block", "{}"), "did you mean finalize_block"),
        (("zzzzzzzzzz", "{}"), "there is no message"),
        (("finalize_block", "{}"), "missing required field `hash`"),
        (("finalize_block", '{"hash": "ab"}'), "$.hash"),
        (("finalize_block", "{"), "not JSON"),
        (("finalize_block", "\udcff"), "not JSON"),
        (("blocks_blacklisted", "{}"), "say which"),
    ],
)
def test_encode_refuses_in_words_and_with_exit_code_2(argv: tuple[str, ...], said: str) -> None:
    code, out, error = run(ENCODE, *argv)
    assert (code, out) == (2, b"")
    assert said in error
    assert "Traceback" not in error


@pytest.mark.parametrize(("program", "argv", "stdin"), [(ENCODE, ("finalize_block", f'{{"hash": "{HASH}"}}'), b""), (DECODE, (), b"\xa0")])
def test_a_reader_that_is_gone_is_no_traceback(program: str, argv: tuple[str, ...], stdin: bytes) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, *argv], input=stdin, stdout=writer, stderr=subprocess.PIPE, timeout=30, check=False
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (translate.READER_GONE, b"")


def test_help_is_no_error() -> None:
    assert run(DECODE, "--help")[0] == 0
    assert run(ENCODE, "--help")[1].startswith(b"usage: overseer encode")
    assert run(DECODE, "x")[0] == 2
