"""Targets: the command line, in this process: an exit code and a message, never a traceback."""

import contextlib
import io
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from messages.codec import encode
from messages.text import to_json
from overseer.cli.app import run_app
from overseer.cli.translate import decode_main, encode_main
from tests.codec.message_values import CONTRACT, simplest
from tests.fuzz.target import Broken, Target, folder

__all__ = ["TARGETS"]

# Left out: what starts processes, serves for ever, or writes outside the node's folder.
_STARTS_NOTHING = ("config", "status", "journal", "verify", "graph", "send", "query", "make", "dispute", "governance", "subsystem")
_CODES = {0, 1, 2}
_WORDS = (
    b"--json", b"--help", b"--config", b"--data-dir", b"--node", b"--limit", b"--event", b"--cause", b"--follow", b"--example",
    b"--check", b"--dot", b"--id", b"--no-wait", b"--seed", b"--validators", b"--valid", b"--invalid", b"--backing", b"--number",
    b"--parent", b"--session", b"--keys", b"--kind", b"--index", b"--label", b"--para", b"--relay-parent", b"--salt", b"--include",
    b"vote", b"bundle", b"block", b"receipt", b"validator", b"votes_db", b"chain_api", b"dispute_conclusion", b"register_vote",
    b"query_votes", b"best", b"explicit_valid", b"approval_multiple", b"0-6", b"7-1", b"0x", b"-1", b"99999999999999999999", b"-", b"{}",
    b'{"a": 1}', b"@missing", b"@/dev/null", b"", b"\xff", b"[bold]", b"%s", b"\0", b"../..", b"\xe2\x80\xae",
)  # fmt: skip


@contextlib.contextmanager
def _streams(stdin: bytes):
    """Standard streams in memory, the commands' folder, and no settings from outside."""
    # As Python makes them: what cannot be written is an error on the one, and escaped on the other.
    out, error = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace")
    kept = sys.stdin, sys.stdout, sys.stderr, dict(os.environ), Path.cwd(), signal.getsignal(signal.SIGTERM)
    sys.stdin, sys.stdout, sys.stderr = io.TextIOWrapper(io.BytesIO(stdin)), out, error
    for name in [name for name in os.environ if name.startswith("OVERSEER_")]:
        del os.environ[name]
    place = folder("commands")
    os.environ["HOME"] = os.environ["XDG_CONFIG_HOME"] = str(place)
    os.chdir(place)
    try:
        yield out, error
    finally:
        sys.stdin, sys.stdout, sys.stderr = kept[:3]
        os.environ.clear()
        os.environ.update(kept[3])
        os.chdir(kept[4])
        signal.signal(signal.SIGTERM, kept[5])


def _read(stream: io.TextIOWrapper) -> bytes:
    stream.flush()
    raw = stream.buffer
    assert isinstance(raw, io.BytesIO)
    return raw.getvalue()


def _arguments(data: bytes) -> str:
    """The first byte chooses the command; arguments are cut apart at 0xFF 0x00, the last piece is standard input."""
    command = _STARTS_NOTHING[(data[0] if data else 0) % len(_STARTS_NOTHING)]
    pieces = data[1:].split(b"\xff\0")
    given = [os.fsdecode(piece) for piece in pieces[:-1]]
    if any(text.startswith(("--nats", "--follow", "--count", "--validators")) for text in given) or any(_many(text) for text in given):
        # A server of somebody's; for ever; or as many keys as asked for, which takes its time.
        return "left out"
    with _streams(pieces[-1]) as (out, error):
        try:
            code = run_app([command, *given])
        except SystemExit as end:
            code = end.code
        said, told = _read(out), _read(error)
    if code not in _CODES:
        raise Broken(f"exit code {code!r}: {given}")
    if b"Traceback" in told or b"Traceback" in said:
        raise Broken(f"a traceback: {given}")
    if code and not told and not said:
        raise Broken(f"exit code {code} without a word: {given}")
    return f"{command} {code}"


def _many(text: str) -> bool:
    """Whether it is a range of more indices than the development chain has validators."""
    return any(part.isdecimal() and len(part) > 3 for part in text.replace(",", "-").split("-"))


def _filter(main: Callable[[list[str]], int], arguments: list[str], stdin: bytes) -> tuple[int, bytes, bytes]:
    with _streams(stdin) as (out, error):
        code = main(arguments)
        return code, _read(out), _read(error)


def _decode(data: bytes) -> str:
    code, said, told = _filter(decode_main, [], data)
    if code == 0:
        json.loads(said)
    elif code != 2 or not told or said:
        raise Broken(f"exit code {code}: {told!r}")
    return f"exit {code}"


def _encode(data: bytes) -> str:
    """Up to the first NUL the name of the message, then JSON."""
    name, _, text = data.partition(b"\0")
    code, said, told = _filter(encode_main, [os.fsdecode(name)], text)
    if code == 0 and not name.startswith(b"-"):
        if _filter(decode_main, [], said)[0] != 0:
            raise Broken("what encode writes decode does not read")
    elif code not in (0, 2) or not (told or said):
        raise Broken(f"exit code {code}: {told!r}")
    return f"exit {code}"


def _argument_seeds() -> list[bytes]:
    def line(command: str, *words: bytes) -> bytes:
        return bytes((_STARTS_NOTHING.index(command),)) + b"\xff\0".join([*words, b""])

    return [
        line("config", b"--json"),
        line("status", b"--data-dir", b"x"),
        line("journal", b"votes_db", b"--limit", b"3"),
        line("verify", b"votes_db", b"--json"),
        line("graph", b"--check"),
        line("send", b"register_vote", b"-"),
        line("query", b"best", b"{}"),
        line("make", b"bundle", b"--valid", b"0-6", b"--invalid", b"7"),
        line("make", b"vote", b"--index", b"3", b"--kind", b"explicit_valid"),
        line("make", b"block", b"--number", b"1"),
        line("make", b"receipt", b"--label", b"x"),
        line("dispute", b"1", b"0x" + b"ab" * 32),
        line("governance", b"--json"),
        line("subsystem", b"nobody"),
    ]


TARGETS = (
    Target(
        "arguments",
        "arguments of the commands, given in this process",
        _arguments,
        _argument_seeds,
        tokens=tuple(word + b"\xff\0" for word in _WORDS),
        seconds_max=2.0,
        bytes_max=64 * 1024 * 1024,
        input_bytes_max=512,
    ),
    Target(
        "decode",
        "the filter `overseer decode`",
        _decode,
        lambda: [encode(simplest(spec)) for spec in CONTRACT] + [to_json(simplest(CONTRACT[0]))],
        tokens=(
            b"{",
            b"[",
            b"\xf9\x7e\x00",
            b"\xfb\x7f\xf0" + bytes(6),
            b"\xc2\x41\x01",
            b"\x9f\xff",
            b"\xa1\x01\x02",
            b"\xa1\x80\x00",
            b"\xf7",
        ),
    ),
    Target(
        "encode",
        "the filter `overseer encode`",
        _encode,
        lambda: [spec.key.encode() + b"\0" + to_json(simplest(spec)) for spec in CONTRACT],
        tokens=(b"\0", b'"0x"', b"{", b"[", b"null", b"-", b"--help", b"\xff"),
    ),
)
