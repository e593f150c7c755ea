"""Targets: what comes over the bus. Subjects, headers, deliveries, the NATS protocol, HTTP answers."""

import functools
import json
from typing import Any

from messages.codec import encode
from messages.message import Kind
from messages.subjects import (
    CONTENT_CBOR,
    CONTENT_JSON,
    HEADER_COMMAND_ID,
    HEADER_CONTENT_TYPE,
    HEADER_CORRELATION,
    HEADER_ID,
    HEADER_SCHEMA,
    HEADER_TRACEPARENT,
    MessageId,
    SubjectError,
    build,
    check_token,
    parse,
)
from messages.tracing import parse_traceparent, trace_of, traceparent
from overseer.nats.exchange import caller_account
from overseer.nats.wire import WireParser, parse_headers, parse_status, wire_text
from overseer.node.catalogue import CATALOGUE, SECTIONS, build_subsystem
from overseer.observe.http import _answer
from overseer.ports.bus import Delivery, StoredMessage
from overseer.ports.envelope import check_envelope
from overseer.runner.intake import Reader, identity
from overseer.runner.wire import correlation_of
from overseer.settings import load_config
from tests.codec.message_values import CONTRACT, simplest
from tests.fuzz.target import Broken, Target

__all__ = ["TARGETS", "told"]

_TRAVELS = {Kind.COMMAND, Kind.FACT, Kind.SIGNAL, Kind.PARKED, Kind.NETWORK}
_SUBJECTS = [build("node", "op_fuzz", spec) for spec in CONTRACT if spec.kind in _TRAVELS]


# ------------------------------------------------------------------------------------------------ a delivery


@functools.cache
def _readers() -> tuple[Reader, ...]:
    loaded = load_config(environ={"OVERSEER_CONFIG": ""}, sections=SECTIONS)
    return tuple(Reader("node", build_subsystem(name, loaded).declaration) for name in CATALOGUE)


def _delivery(data: bytes) -> str:
    """Subject, header block and body, cut apart at NUL bytes: as the bus parses and every subsystem reads them."""
    subject, _, rest = data.partition(b"\0")
    block, _, body = rest.partition(b"\0")
    headers = parse_headers(block)
    stored = StoredMessage(1, 1, wire_text(subject), headers, body)
    if len(identity(stored)) != 32:
        raise Broken("no identity")
    outcome = "nothing"
    for reader in _readers():
        intake = reader.read(Delivery(1, stored, ""))
        if intake.refusal is not None:
            outcome = intake.refusal.reason
            if not outcome or not intake.refusal.detail:
                raise Broken("refused without a word")
        elif intake.message is not None:
            outcome = "taken"
    _relay(headers)
    return outcome


def _relay(headers: dict[str, str]) -> None:
    """What of foreign headers goes onto our own messages must be sendable."""
    correlation = correlation_of(headers.get(HEADER_CORRELATION, ""))
    parent = traceparent(trace_of(headers.get(HEADER_TRACEPARENT), correlation), "sender 00 1 0")
    if parse_traceparent(parent) is None:
        raise Broken(f"not a traceparent: {parent!r}")
    check_envelope("overseer.node.votes_db.evt.x", {HEADER_CORRELATION: correlation, HEADER_TRACEPARENT: parent}, b"")


def _deliveries() -> list[bytes]:
    found: list[bytes] = []
    for sender in ("op_fuzz", "votes_db", "overseer", "req_votes_db"):
        for spec in CONTRACT:
            if spec.kind in _TRAVELS:
                lines = [
                    b"NATS/1.0",
                    f"{HEADER_ID}: {sender} {'00' * 16} 1 0".encode(),
                    f"{HEADER_SCHEMA}: 1".encode(),
                    f"{HEADER_CONTENT_TYPE}: {CONTENT_CBOR}".encode(),
                    f"{HEADER_COMMAND_ID}: once".encode(),
                    f"{HEADER_CORRELATION}: all".encode(),
                    f"{HEADER_TRACEPARENT}: 00-{'1' * 32}-{'2' * 16}-01".encode(),
                    b"\r\n",
                ]
                found.append(build("node", sender, spec).encode() + b"\0" + b"\r\n".join(lines) + b"\0" + encode(simplest(spec)))
    return found


# ------------------------------------------------------------------------------------------------ texts


def _subject(data: bytes) -> str:
    text = wire_text(data)
    address = parse(text)
    spec = address.spec()
    if spec is not None and spec.kind is not Kind.QUERY and build(address.node, address.sender, spec) != text:
        raise Broken("another subject comes back")
    check_token(address.node, "node")
    check_token(address.sender, "sender")
    return "taken" if spec is not None else "unknown"


def _message_id(data: bytes) -> str:
    found = MessageId.parse(wire_text(data))
    if MessageId.parse(found.text()) != found:
        raise Broken("another id comes back")
    return "taken"


def _traceparent(data: bytes) -> str:
    text = wire_text(data)
    trace = trace_of(text, "x")
    if len(trace) != 32 or not trace.strip("0"):
        raise Broken(f"no trace id: {trace!r}")
    return "taken" if parse_traceparent(text) is not None else "ignored"


def _headers(data: bytes) -> str:
    headers = parse_headers(data)
    code, description, details = parse_status(data)
    caller_account(data)
    for text in (*headers, *headers.values(), code, description, *details, *details.values()):
        # What a log or a journal cannot hold must not come out.
        text.encode()
        json.dumps(text)
    if any("\r\n" in value for value in headers.values()):
        raise Broken("two lines in one header")
    return "taken" if headers else "none"


# ------------------------------------------------------------------------------------------------ protocols


class _Heard:
    """Everything the parser told, one list."""

    def __init__(self) -> None:
        self.all: list[tuple[object, ...]] = []

    def on_message(self, sid: int, subject: bytes, reply: bytes, headers: bytes, body: bytes) -> None:
        self.all.append((sid, subject, reply, headers, body))

    async def on_ping(self) -> None:
        self.all.append(("ping",))

    def on_pong(self) -> None:
        self.all.append(("pong",))

    async def on_info(self, info: dict[str, Any]) -> None:
        self.all.append(("info", repr(info)))

    def on_error(self, text: str) -> None:
        self.all.append(("error", text))


def told(pieces: list[bytes], heard: _Heard | None = None) -> list[tuple[object, ...]]:
    """What the parser tells of these bytes. Raises ValueError for what no server sends."""
    heard = heard or _Heard()
    parser = WireParser(heard)

    async def feed() -> None:
        for piece in pieces:
            await parser.parse(piece)

    try:
        # Nothing in it waits: the coroutine is driven by hand.
        feed().send(None)
    except StopIteration:
        return heard.all
    raise Broken("the parser waits for something")


def _steps(pieces: list[bytes]) -> tuple[list[tuple[object, ...]], str]:
    """What is told of these bytes, and how it ends."""
    heard = _Heard()
    try:
        told(pieces, heard)
    except ValueError:
        return heard.all, "refused"
    return heard.all, "taken"


def _frames(data: bytes) -> str:
    """The first byte is the size of the pieces: however it is cut, the same is told."""
    size, stream = (data[0] or 1, data[1:]) if data else (1, b"")
    whole, end = _steps([stream])
    if _steps([stream[at : at + size] for at in range(0, len(stream), size)]) != (whole, end):
        raise Broken("it matters how the bytes are cut")
    if len(whole) > len(stream):
        raise Broken("more is told than was sent")
    return end if whole else f"nothing {end}"


_FRAMES = [
    b"\x07PING\r\nPONG\r\n+OK\r\n-ERR 'no'\r\n",
    b'\x05INFO {"server_id": "x", "max_payload": 1048576}\r\n',
    b"\x03MSG overseer.a 1 5\r\nhello\r\nMSG overseer.a 1 reply.to 0\r\n\r\n",
    b"\x0bHMSG overseer.a 9 12 17\r\nNATS/1.0\r\n\r\nhello\r\nHMSG a 1 r 30 30\r\nNATS/1.0 503 No Responders\r\n\r\n\r\n",
    b"\x40" + b"MSG a 1 2\r\nab\r\n" * 8,
]


def _http(data: bytes) -> str:
    return str(_answer(data, 1).status)


def _text_seeds() -> list[bytes]:
    return [*(subject.encode() for subject in _SUBJECTS), b"overseer.net.node.votes_db.dispute_gossip", b"overseer.node.votes_db.rejected"]


TARGETS = (
    Target(
        "delivery",
        "a stored message as every subsystem reads it: subject, headers, ids, trace, body",
        _delivery,
        _deliveries,
        tokens=(
            b"\0",
            b"\r\n",
            CONTENT_JSON.encode(),
            b"{}",
            b"\xff",
            b"op_",
            b"req_",
            b"net",
            b".",
            b":",
            b"Nats-",
            b"\x0b",
            b"\xe2\x80\xa8",
        ),
    ),
    Target(
        "subject",
        "a subject",
        _subject,
        _text_seeds,
        allowed=(SubjectError,),
        tokens=(b".", b"cmd", b"evt", b"sig", b"net", b"log", b"rejected", b" ", b"\r\n", b">", b"*", b"\xff", b"\xc3\xa9"),
    ),
    Target(
        "message_id",
        "an Overseer-Id",
        _message_id,
        lambda: [b"votes_db " + b"00" * 16 + b" 1 0", b"a b 9999999999999999999 9"],
        allowed=(SubjectError,),
        tokens=(b" ", b"-1", b"1_0", b"\xd9\xa3", b"99999999999999999999", b"+1", b"\xc2\xb2"),
    ),
    Target(
        "traceparent",
        "a traceparent",
        _traceparent,
        lambda: [b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01", b"cc-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01-what"],
        tokens=(b"-", b"ff", b"0" * 32, b"0" * 16, b"\n"),
    ),
    Target(
        "headers",
        "a header block, as message headers and as a status",
        _headers,
        lambda: [
            b"NATS/1.0\r\nA: b\r\n\r\n",
            b"NATS/1.0 404 No Messages\r\nNats-Pending: 1\r\n\r\n",
            b'NATS/1.0\r\nNats-Request-Info: {"acc":"OP"}\r\n\r\n',
        ],
        tokens=(b"\r\n", b":", b"NATS/1.0", b"Nats-", b"\0", b"\xff", b"\xed\xa0\x80", b"\n", b"\r"),
    ),
    Target(
        "frames",
        "the NATS protocol from a hostile server, cut anywhere",
        _frames,
        lambda: list(_FRAMES),
        tokens=(
            b"\r\n",
            b"MSG ",
            b"HMSG ",
            b" -1",
            b" -13",
            b"INFO ",
            b"{",
            b"[",
            b" 1_0",
            b"\xff",
            b"-ERR",
            b" 9999999999",
            b"  ",
            b"+OK",
        ),
    ),
    Target(
        "http",
        "the answer of another process to a request for its metrics",
        _http,
        lambda: [b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"],
        allowed=(ConnectionError,),
        tokens=(b"\r\n", b"\r\n\r\n", b" ", b"\xb2", b"Content-Length: 0", b":"),
    ),
)
