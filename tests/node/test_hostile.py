"""Bad input from an operator, over the bus: named and set aside; the line goes on."""

import json
import random
from collections.abc import Iterator

import anyio
import pytest

from messages.codec import decode, encode
from messages.message import Kind
from messages.overseer import Parked
from messages.subjects import CONTENT_CBOR, HEADER_COMMAND_ID, HEADER_CONTENT_TYPE, HEADER_ID, HEADER_SCHEMA
from overseer.nats.connection import Connection
from overseer.node.catalogue import CATALOGUE, SECTIONS, build_subsystem
from overseer.settings import load_config
from tests.codec.message_values import simplest
from tests.fuzz.mutate import mutated
from tests.load.gauges import read
from tests.node.nodes import SUBSYSTEMS, Node, Place, ballots, eventually, told, verified, votes_of

pytestmark = [pytest.mark.anyio, pytest.mark.real]

SUBJECT = "overseer.node.op_operator.cmd.votes_db.register_vote"
GOOD = {HEADER_CONTENT_TYPE: CONTENT_CBOR, HEADER_SCHEMA: "1"}


async def put(connection: Connection, body: bytes, headers: dict[str, str]) -> int:
    """Into the stream, as the operator may; its sequence there."""
    reply = await connection.request(SUBJECT, body, headers=headers or None, timeout_ms=5_000)
    return json.loads(reply.body)["seq"]


@pytest.mark.slow
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


@pytest.mark.slow
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


DECLARATIONS = [build_subsystem(name, load_config(environ={"OVERSEER_CONFIG": ""}, sections=SECTIONS)).declaration for name in CATALOGUE]
# What an operator may put into the stream.
COMMANDS = [body.spec for each in DECLARATIONS for body in each.consumes if body.spec.kind is Kind.COMMAND and body not in each.restricted]
HEADER_VALUES = ["1", "0", "99", "x", CONTENT_CBOR, "application/json", "votes_db 00 1 0", "again", "", "\u00b2", "\x7f", "y" * 900]
AT_ONCE = 16
# Resident memory a subsystem may gain over all of it.
GAINED_BYTES_MAX = 96 * 1024 * 1024


class Hostile:
    """Commands as an enemy with an operator's key would send them, from one seed."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.ids = 0
        self.bodies = [encode(simplest(spec)) for spec in COMMANDS]

    def messages(self, count: int) -> Iterator[tuple[str, dict[str, str], bytes]]:
        for _ in range(count):
            yield self._subject(), self._headers(), self._body()

    def _subject(self) -> str:
        spec = self.chance.choice(COMMANDS)
        return f"overseer.node.op_operator.cmd.{spec.owner}.{spec.name}"

    def _headers(self) -> dict[str, str]:
        names = [HEADER_CONTENT_TYPE, HEADER_SCHEMA, HEADER_ID, HEADER_COMMAND_ID, "traceparent", "X-Other"]
        changed = {name: self.chance.choice(HEADER_VALUES) for name in names if self.chance.random() < 0.1}
        if HEADER_COMMAND_ID in changed:
            # A repeated command is dropped, as it should be, and could not be counted.
            self.ids += 1
            changed[HEADER_COMMAND_ID] += f"{self.ids}"
        return {**GOOD, **{name: value.strip() for name, value in changed.items()}}

    def _body(self) -> bytes:
        return mutated(self.chance, self.bodies, (b"\xff", b"\xf6", b"\x80", b"\xc2\x41\x01", b"\x9f", b"{}"), 4096)


async def stands_up_to(here: Place, seed: int, count: int) -> None:
    """Every one of them is stored, and then a dead letter, a named rejection or accepted; others are served meanwhile."""
    made = ballots(2, 10)
    async with Node.up(here) as node, node.client() as client:
        await told(client, made.opening, "opening")
        await told(client, made.bundles[0], "before")
        before = {name: read(node.pid(name)).rss_bytes for name in SUBSYSTEMS}
        stored: list[int] = []
        hostile = Hostile(seed).messages(count)

        async def send() -> None:
            for subject, headers, body in hostile:
                reply = await client.connection.request(subject, body, headers=headers, timeout_ms=30_000)
                stored.append(json.loads(reply.body)["seq"])

        async with anyio.create_task_group() as senders:
            for _ in range(AT_ONCE):
                senders.start_soon(send)
            while len(stored) < count:
                # Asked while it pours in.
                assert len((await votes_of(client, made.bundles[0])).votes) == 10
                await anyio.sleep(0.05)
        assert len(set(stored)) == count
        await told(client, made.bundles[1], "behind")
        assert len((await votes_of(client, made.bundles[1])).votes) == 10
        outcomes = await outcomes_of(here, set(stored))
        assert sum(outcomes.values()) == count, outcomes
        assert set(outcomes) <= {"accepted", "rejected", "parked"}
        assert outcomes["parked"] > count // 2
        assert node.events("child_failed") == []
        for name in SUBSYSTEMS:
            assert read(node.pid(name)).rss_bytes - before[name] < GAINED_BYTES_MAX
    verified(here)


async def outcomes_of(here: Place, sequences: set[int]) -> dict[str, int]:
    """How often each status stands in the journals for these messages; each message goes to one subsystem alone."""
    counts: dict[str, int] = {}

    def all_there() -> bool:
        counts.clear()
        for name in SUBSYSTEMS:
            for line in here.run("journal", name, "--json", "--limit", "1000000").out.splitlines():
                record = json.loads(line)
                if record["cause"]["stream"] and record["cause"]["sequence"] in sequences:
                    counts[record["result"]] = counts.get(record["result"], 0) + 1
        return sum(counts.values()) >= len(sequences)

    await eventually(all_there, "every message is in a journal")
    return counts


@pytest.mark.slow
async def test_five_hundred_fuzzed_messages_of_an_operator_are_all_accounted_for(here: Place) -> None:
    await stands_up_to(here, seed=1, count=500)


@pytest.mark.full
@pytest.mark.timeout(1200)
async def test_twenty_thousand_fuzzed_messages_of_an_operator_are_all_accounted_for(here: Place) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    await stands_up_to(here, seed, 20_000)
