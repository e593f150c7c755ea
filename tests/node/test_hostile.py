"""Bad input from an operator, over the bus: named and set aside; the line goes on."""

import json

import anyio
import pytest

from messages.codec import decode, encode
from messages.overseer import Parked
from messages.subjects import CONTENT_CBOR, HEADER_COMMAND_ID, HEADER_CONTENT_TYPE, HEADER_ID, HEADER_SCHEMA
from overseer.nats.connection import Connection
from tests.node.nodes import Node, Place, ballots, eventually, told, verified, votes_of

pytestmark = [pytest.mark.anyio, pytest.mark.real]

SUBJECT = "overseer.node.op_operator.cmd.votes_db.register_vote"
GOOD = {HEADER_CONTENT_TYPE: CONTENT_CBOR, HEADER_SCHEMA: "1"}


async def put(connection: Connection, body: bytes, headers: dict[str, str]) -> int:
    """Into the stream, as the operator may; its sequence there."""
    reply = await connection.request(SUBJECT, body, headers=headers or None, timeout_ms=5_000)
    return json.loads(reply.body)["seq"]


async def test_hostile_bodies_and_headers_become_dead_letters_with_reasons_and_the_line_goes_on(here: Place) -> None:
    made = ballots(2, 10)
    good = encode(made.bundles[0])
    hostile = [
        (b"\xff\x00garbage", GOOD),
        (b"\x81" * 400, GOOD),
        (b"{}", {**GOOD, HEADER_CONTENT_TYPE: "application/json"}),
        (good[:-1], GOOD),
        (good + b"\0", GOOD),
        (good, {**GOOD, HEADER_SCHEMA: "99"}),
        (good, {**GOOD, HEADER_SCHEMA: "x"}),
        (good, {**GOOD, HEADER_CONTENT_TYPE: "text/html"}),
        (good, {**GOOD, HEADER_ID: "votes_db 00000000000000000000000000000000 1 0"}),
        (good, {**GOOD, HEADER_ID: "\x7f nonsense"}),
        (good, {**GOOD, HEADER_COMMAND_ID: "x" * 5_000}),
    ]
    async with Node.up(here) as node, node.client() as client:
        await told(client, made.opening, "opening")
        heard: list[Parked] = []

        def hear(_subject: bytes, _reply: bytes, _headers: bytes, body: bytes) -> None:
            message = decode(Parked.spec, body)
            assert isinstance(message, Parked)
            heard.append(message)

        await client.connection.listen("overseer.node.votes_db.rejected", hear)
        put_at = [await put(client.connection, body, headers) for body, headers in hostile]
        await told(client, made.bundles[0], "good")
        assert len((await votes_of(client, made.bundles[0])).votes) == 10
        await eventually(lambda: len(heard) >= len(hostile) - 2, "dead letters are told")
        assert {letter.sequence for letter in heard} <= set(put_at)
        assert all(letter.reason and letter.detail for letter in heard)
        assert all(letter.subject == SUBJECT for letter in heard)
        status = here.run("status", "--json").json
        row = next(row for row in status["subsystems"] if row["name"] == "votes_db")
        assert row["dead_letters"] == len(heard)
        assert "--event rejected" in here.run("status").out
        shown = here.run("journal", "votes_db", "--event", "rejected", "--json", "--limit", "100")
        assert len(shown.out.splitlines()) == len(heard)
        assert node.events("child_failed") == []
    verified(here)


async def test_empty_messages_of_an_operator_do_not_hold_the_line_up(here: Place) -> None:
    """The server takes the delivery of one, over an import, for the end of the pull."""
    made = ballots(6, 10)
    async with Node.up(here) as node, node.client() as client:
        await told(client, made.opening, "opening")
        await told(client, made.bundles[0], "before")
        for round_, bundle in enumerate(made.bundles[1:]):
            for _ in range(50):
                await put(client.connection, b"", {})
            with anyio.fail_after(2):
                await told(client, bundle, f"behind {round_}")
        status = here.run("status", "--json").json
        assert next(row["dead_letters"] for row in status["subsystems"] if row["name"] == "votes_db") == 250
        assert "bus:" not in node.text()
    verified(here)


async def test_a_command_beyond_the_size_limit_is_refused_before_it_is_sent(here: Place) -> None:
    async with Node.up(here):
        done = here.run("send", "register_vote", "-", stdin=b"\xa1\x61a" + b"\x5a\x00\x2f\x00\x00" + bytes(0x2F0000))
        assert done.code == 2, done
        assert "larger than" in done.error
        assert here.run("status").code == 0
