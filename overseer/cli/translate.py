"""`overseer decode` and `overseer encode`: filters between CBOR bodies and JSON, made for `nats --translate` and pipes.

`nats` starts the translator once per message, so `decode` imports nothing but cbor2, json and sys: no messages, no typer.
What it shows is therefore untyped: every byte string as "0x..." text.
"""

import json
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn, cast

if TYPE_CHECKING:
    from messages.message import Spec

__all__ = ["decode_main", "encode_main"]

# The limits of messages.codec, repeated to stay light (a test compares them).
BODY_BYTES_MAX = 768 * 1024
DEPTH_MAX = 16
# From here on a body may hold more values than can be shown in good time: it is checked first.
UNCHECKED_BYTES_MAX = 64 * 1024
# Bodies up to this many characters are shown on one line.
LINE_CHARACTERS = 120
# The major type that a CBOR body begins with.
MAP = 5
USER_ERROR = 2
# As shells have it: 128 + SIGPIPE.
READER_GONE = 141

_DECODE_USAGE = """usage: overseer decode < body
Reads one CBOR body on standard input and prints it as JSON; byte strings as "0x...". A JSON body is passed on as it is.
For example: nats sub 'overseer.>' --translate 'overseer decode'"""
_ENCODE_USAGE = """usage: overseer encode MESSAGE [JSON | -]
Writes the canonical CBOR body of a message to standard output; JSON from the argument, or from standard input (-, the default).
For example: overseer encode finalize_block '{"hash": "0x..."}' | nats pub --force-stdin --no-templates SUBJECT"""


class _BodyError(Exception):
    """Not a body that can be shown."""


def decode_main(argv: list[str]) -> int:
    """The `decode` filter; returns the exit code: 0, or 2 when the input is not one CBOR body."""
    if argv:
        return _usage(_DECODE_USAGE, argv)
    data = sys.stdin.buffer.read(BODY_BYTES_MAX + 1)
    try:
        text = _readable(data)
    except _BodyError as error:
        return _fail("decode", str(error))
    return _write(text.encode("utf-8", "backslashreplace") + b"\n")


def encode_main(argv: list[str]) -> int:
    """The `encode` filter; returns the exit code: 0, or 2 for an unknown message or JSON that does not fit it."""
    if not 1 <= len(argv) <= 2 or argv[0].startswith("-"):
        return _usage(_ENCODE_USAGE, argv)
    # Here and not above: `decode` must start light.
    from messages.codec import CodecError, encode
    from messages.contract import load
    from messages.text import JSON_BYTES_MAX, from_json

    found = load().by_name(argv[0])
    if len(found) != 1:
        return _fail("encode", _which(argv[0], found, list(load())))
    source = argv[1] if len(argv) == 2 else "-"
    data = sys.stdin.buffer.read(JSON_BYTES_MAX + 1) if source == "-" else source.encode("utf-8", "surrogateescape")
    try:
        body = encode(from_json(found[0], data))
    except CodecError as error:
        return _fail("encode", str(error))
    return _write(body)


def _write(data: bytes) -> int:
    """To standard output, at once. Its reader may be gone: `nats pub` with a wrong option, say; it has said why."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # So that the interpreter does not complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    return 0


def _usage(text: str, argv: list[str]) -> int:
    asked = argv in (["-h"], ["--help"])
    print(text, file=sys.stdout if asked else sys.stderr)
    return 0 if asked else USER_ERROR


def _fail(command: str, text: str) -> int:
    print(f"overseer {command}: {text}", file=sys.stderr)
    return USER_ERROR


def _which(name: str, found: "list[Spec]", known: "list[Spec]") -> str:
    """Why `name` is not one message, and which ones may be meant."""
    if found:
        return f"{name!r} names several messages; say which: {', '.join(spec.key for spec in found)}"
    import difflib

    names = {spec.name for spec in known} | {spec.key for spec in known}
    near = difflib.get_close_matches(name, sorted(names), n=5)
    hint = f"; did you mean {', '.join(near)}?" if near else "; `overseer graph` shows the messages there are"
    return f"there is no message {name!r}{hint}"


def _refuse_tag(*_: object) -> NoReturn:
    raise ValueError("tags are refused")


def _readable(data: bytes) -> str:
    if not data:
        raise _BodyError("no body on standard input")
    if len(data) > BODY_BYTES_MAX:
        raise _BodyError(f"the body is larger than {BODY_BYTES_MAX} bytes: not one of ours")
    # As CBOR, { and [ begin strings longer than any body: this is JSON (`qry` and `req` take and give it).
    if data[:1] in (b"{", b"["):
        try:
            json.loads(data)
            return data.decode()
        except (ValueError, RecursionError) as error:
            raise _BodyError(f"neither CBOR nor JSON: {error}") from None
    # Much of what is no CBOR at all begins with something that is: a body is a map.
    if data[0] >> 5 != MAP:
        raise _BodyError("neither CBOR as messages use it, a map, nor JSON")
    return _as_json(_loads(data))


def _loads(data: bytes) -> object:
    if len(data) > UNCHECKED_BYTES_MAX:
        from messages.codec import OWN_ITEMS_MAX, CodecError, decode_raw

        try:
            return decode_raw(data, most=OWN_ITEMS_MAX)
        except CodecError as error:
            raise _BodyError(f"not CBOR as messages use it: {error}") from None
    import io

    import cbor2

    stream = io.BytesIO(data)
    built_in_tags = (*range(64), 100, 256, 258, 260, 261, 1004, 43000, 55799)
    try:
        value = cbor2.CBORDecoder(
            stream,
            max_depth=DEPTH_MAX + 1,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
            semantic_decoders=dict.fromkeys(built_in_tags, _refuse_tag),
            tag_hook=_refuse_tag,
            read_size=1,
        ).decode()
    except Exception as error:
        raise _BodyError(f"not CBOR as messages use it: {error}") from None
    behind = len(data) - stream.tell()
    if behind:
        raise _BodyError(f"{behind} bytes behind the body")
    return value


def _plain(value: object) -> Any:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(item) for key, item in cast(dict[object, object], value).items()}
    if isinstance(value, list):
        return [_plain(item) for item in cast(list[object], value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def _as_json(value: object) -> str:
    plain = _plain(value)
    line = json.dumps(plain, ensure_ascii=False)
    return line if len(line) <= LINE_CHARACTERS else json.dumps(plain, ensure_ascii=False, indent=2)


if __name__ == "__main__":
    sys.exit(decode_main(sys.argv[1:]))
