"""The parser against whatever arrives, however it is cut; acknowledgement subjects; times; filters."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overseer.nats.exchange import caller_account
from overseer.nats.pull import AckPosition, parse_ack
from overseer.nats.stored import time_ms
from overseer.nats.wire import WireParser, parse_headers, parse_status, wire_text
from overseer.ports.envelope import header_bytes, matches

pytestmark = pytest.mark.anyio


class Heard:
    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def on_message(self, sid: int, subject: bytes, reply: bytes, headers: bytes, body: bytes) -> None:
        self.events.append(("message", sid, subject, reply, headers, body))

    async def on_ping(self) -> None:
        self.events.append(("ping",))

    def on_pong(self) -> None:
        self.events.append(("pong",))

    async def on_info(self, info: dict[str, Any]) -> None:
        self.events.append(("info", info))

    def on_error(self, text: str) -> None:
        self.events.append(("error", text))


async def heard(pieces: list[bytes]) -> list[tuple[Any, ...]]:
    events = Heard()
    parser = WireParser(events)
    for piece in pieces:
        await parser.parse(piece)
    return events.events


STREAM = (
    b'INFO {"max_payload":1024}\r\nPING\r\nMSG a.b 1 5\r\nhello\r\nMSG a.\xff\x0b 22 re.ply 0\r\n\r\n+OK\r\n'
    b"HMSG c 3 12 17\r\nNATS/1.0\r\n\r\nwor\r\n\r\nHMSG d 4 r 1 3\r\nNhi\r\nPONG\r\n-ERR 'Permissions Violation for Publish to \"x\"'\r\n"
)
EVENTS = [
    ("info", {"max_payload": 1024}),
    ("ping",),
    ("message", 1, b"a.b", b"", b"", b"hello"),
    ("message", 22, b"a.\xff\x0b", b"re.ply", b"", b""),
    ("message", 3, b"c", b"", b"NATS/1.0\r\n\r\n", b"wor\r\n"),
    ("message", 4, b"d", b"r", b"N", b"hi"),
    ("pong",),
    ("error", 'Permissions Violation for Publish to "x"'),
]


async def test_operations_come_out_the_same_however_the_bytes_are_cut() -> None:
    assert await heard([STREAM]) == EVENTS
    assert await heard([STREAM[at : at + 1] for at in range(len(STREAM))]) == EVENTS
    for cut in range(len(STREAM)):
        assert await heard([STREAM[:cut], STREAM[cut:]]) == EVENTS


async def test_what_no_server_sends_ends_the_session() -> None:
    for line in (b"HELLO\r\n", b"MSG a\r\n", b"MSG a 1 x\r\n", b"INFO {\r\n"):
        with pytest.raises((ValueError, IndexError)):
            await heard([line])


@given(st.binary(max_size=200))
def test_no_header_block_and_no_text_makes_the_readers_raise(raw: bytes) -> None:
    for block in (raw, b"NATS/1.0\r\n" + raw, b"NATS/1.0 " + raw):
        parse_headers(block)
        parse_status(block)
        caller_account(block)
    wire_text(raw).encode()


NAMES = st.from_regex(r"[A-Za-z0-9-]{1,20}", fullmatch=True)
VALUES = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=20)


@given(st.dictionaries(NAMES, VALUES))
def test_headers_come_back_as_they_went_and_their_size_is_known(headers: dict[str, str]) -> None:
    block = b"NATS/1.0\r\n" + b"".join(f"{name}: {value}\r\n".encode() for name, value in headers.items()) + b"\r\n"
    assert parse_headers(block) == {name: value for name, value in headers.items() if not name.startswith("Nats-")}
    assert header_bytes(headers) == (len(block) if headers else 0)


def test_the_servers_own_headers_stay_out_of_messages_and_in_statuses() -> None:
    assert parse_headers(b"NATS/1.0\r\nNats-Batch-Id: x\r\nOverseer-Id: a b\r\nA:1\r\n\r\n") == {"Overseer-Id": "a b", "A": "1"}
    status = b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 55\r\n\r\n"
    assert parse_status(status) == ("408", "Request Timeout", {"Nats-Pending-Messages": "55"})
    assert parse_status(b"NATS/1.0\r\nA: 1\r\n\r\n")[0] == ""


def test_acknowledgement_subjects_in_both_forms() -> None:
    position = AckPosition(1, 11, 3, 1795240342065793031)
    assert parse_ack(b"$JS.ACK.S.D.1.11.3.1795240342065793031.9") == position
    assert parse_ack(b"$JS.ACK.hub.Hash.S.D.1.11.3.1795240342065793031.9.rnd") == position
    for wrong, why in ((b"$JS.ACK.S.D", "not an ack"), (b"", "not an ack"), (b"$JS.ACK.S.D.1.x.3.4.5", "invalid literal")):
        with pytest.raises(ValueError, match=why):
            parse_ack(wrong)


def test_bytes_that_are_no_text_become_what_the_servers_json_makes_of_them() -> None:
    assert wire_text(b"a.\xff\xfe\xe2\x82b") == "a.\ufffd\ufffd\ufffd\ufffdb"
    assert wire_text("gr\u00fc\u00df".encode()) == "gr\u00fc\u00df"


def test_store_times_in_milliseconds_rounded_down() -> None:
    assert time_ms("2026-11-21T05:52:24.317688969Z") == 1795240344317
    assert time_ms("2026-11-21T05:52:24.31Z") == 1795240344310
    assert time_ms("2026-11-21T05:52:24Z") == 1795240344000


def test_the_account_that_asks_is_read_from_the_servers_own_header_alone() -> None:
    assert caller_account(b'NATS/1.0\r\nNats-Request-Info: {"acc":"n-operator","rtt":1}\r\n\r\n') == "n-operator"
    for line in (b"", b"Nats-Request-Info: []", b"Nats-Request-Info: {", b'X: {"acc":"a"}', b"Nats-Request-Info:"):
        assert caller_account(b"NATS/1.0\r\n" + line + b"\r\n\r\n") == ""


@pytest.mark.parametrize(
    ("pattern", "subject", "covered"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.b.c", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*.c", "a.b.c", True),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        (">", "a", True),
        ("a.*", "a.b.c", False),
    ],
)
def test_filters_cover_subjects_as_the_server_has_it(pattern: str, subject: str, covered: bool) -> None:
    assert matches(pattern, subject) is covered
