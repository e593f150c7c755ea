"""The whole matrix: every user x every subject x every verb on a real server, against rules written independently.

The figures of docs/reliability.md come from `pytest tests/security/test_permission_matrix.py -s -m 'slow or not slow'`.
"""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from overseer.nats.connection import Connection
from overseer.nats.keys import KeyFolder
from overseer.ports.bus import BusDenied, BusError
from tests.security.raw_client import refused_at_the_door
from tests.security.rules import rights
from tests.security.shared_bus import DECLARATIONS, NODE, OPERATORS, OTHER_NODE, READERS, SITES, SharedBus
from tests.security.universe import appended, patterns, subjects

pytestmark = [pytest.mark.real, pytest.mark.anyio, pytest.mark.timeout(900)]

NODES = (NODE, OTHER_NODE)
# A refusal is an answer, not a time-out: half of them come within the first, also on a busy machine none later than the second.
PROMPT_S, LATEST_S = 1.0, 5.0


@pytest.mark.slow
async def test_every_user_may_do_at_every_subject_what_the_rules_say_and_nothing_else(bus: SharedBus) -> None:
    said, heard = subjects(NODES, DECLARATIONS, bus.users, SITES), patterns(NODES, bus.users)
    unexpected: list[tuple[str, str, str, str]] = []
    stored: Counter[str] = Counter()
    cells = 0
    for node in NODES:
        for name, allowed in rights(node, DECLARATIONS, OPERATORS, READERS, NODES, SITES).items():
            client = await bus.raw(node, name)
            refused = {
                "publish": await client.refused_publishes(said, asking=False),
                "request": await client.refused_publishes(said, asking=True),
                "subscribe": await client.refused_subscriptions([*said, *heard]),
                "queue": await client.refused_subscriptions([*said, *heard], queue="q"),
            }
            for verb, denied in refused.items():
                sending = verb in ("publish", "request")
                for subject in said if sending else [*said, *heard]:
                    cells += 1
                    wanted = allowed.may_publish(subject) if sending else allowed.may_subscribe(subject)
                    if wanted is (subject in denied):
                        unexpected.append((f"{node}-{name}", verb, subject, "refused" if wanted else "allowed"))
            stored.update({subject: 2 for subject in said if allowed.may_publish(subject) and appended(subject, NODES)})
            assert not [error for error in client.errors if "Permissions Violation" not in error]
    print(f"\npermissions: {len(bus.users)} users, {len(said)} subjects and {len(heard)} patterns, 4 verbs: {cells} cells")
    print(f"unexpected: {len(unexpected)}")
    assert unexpected == []
    # What was let through arrived under its own subject, and nothing else did.
    with anyio.fail_after(20):
        while await bus.contents() != stored:
            await anyio.sleep(0.1)


@pytest.mark.slow
async def test_everything_that_is_refused_is_refused_by_name_at_once(bus: SharedBus) -> None:
    said = subjects(NODES, DECLARATIONS, bus.users, SITES)
    took: list[float] = []
    for name, allowed in rights(NODE, DECLARATIONS, OPERATORS, READERS, NODES, SITES).items():
        connection = await bus.connection(NODE, name)
        forbidden = iter([subject for subject in said if not allowed.may_publish(subject)])

        async def one_after_the_other(connection: Connection = connection, forbidden: "Iterator[str]" = forbidden) -> None:
            for subject in forbidden:
                started = time.perf_counter()
                with pytest.raises(BusDenied, match="may not publish"):
                    await connection.request(subject, b"{", timeout_ms=10_000)
                took.append(time.perf_counter() - started)

        async with anyio.create_task_group() as tasks:
            for _ in range(16):
                tasks.start_soon(one_after_the_other)
    took.sort()
    half, slowest = took[len(took) // 2], took[-1]
    print(f"\nrefusals: {len(took)}, each a named BusDenied; half within {1000 * half:.0f} ms, the slowest {1000 * slowest:.0f} ms")
    assert half < PROMPT_S
    assert slowest < LATEST_S


@pytest.mark.parametrize("subject", ["overseer.alpha.chain_api.qry.best", "_INBOX.alpha.operator.>", "$SYS.>", ">"])
async def test_a_refused_subscription_is_named_at_once(bus: SharedBus, subject: str) -> None:
    connection = await bus.connection(NODE, "votes_db")
    said: list[BusError] = []
    forget = connection.expect([subject], said.append)
    with anyio.fail_after(LATEST_S):
        await connection.listen(subject, lambda *_: None)
        await connection.settle()
    forget()
    assert [type(error) for error in said] == [BusDenied]
    assert subject in str(said[0])


async def test_nobody_without_a_known_key_gets_a_word_in(bus: SharedBus, tmp_path: Path) -> None:
    said = subjects(NODES, DECLARATIONS, bus.users, SITES)
    rest = b"".join(f"PUB {subject} 1\r\n{{\r\nSUB {subject} {i}\r\n".encode() for i, subject in enumerate(said, 1)) + b"PING\r\n"
    before = await bus.contents()
    public = KeyFolder(tmp_path / "stranger").ensure(["stranger"])["stranger"]
    known = bus.keys[NODE].public("operator")
    lines = [
        b'CONNECT {"verbose":false}\r\n',
        b"",
        b'CONNECT {"verbose":false,"user":"operator","pass":"operator"}\r\n',
        f'CONNECT {{"verbose":false,"nkey":"{public}","sig":"AAAA"}}\r\n'.encode(),
        f'CONNECT {{"verbose":false,"nkey":"{known}","sig":"{"A" * 86}"}}\r\n'.encode(),
        f'CONNECT {{"verbose":false,"nkey":"{known}"}}\r\n'.encode(),
        b'CONNECT {"verbose":false,"jwt":"eyJhbGciOiJub25lIn0.e30."}\r\n',
        b'CONNECT {"verbose":false,"auth_token":"x","account":"BUS","new_account":true}\r\n',
    ]
    for line in lines:
        said_back = await refused_at_the_door(bus.server.url, line, rest)
        assert b"Authorization Violation" in said_back or b"Authentication Timeout" in said_back or said_back == b"", said_back[:200]
        assert b"PONG" not in said_back
        assert b"MSG " not in said_back
    print(
        f"\noutsiders: {len(lines)} ways in x {len(said)} subjects x 2 verbs: {2 * len(lines) * len(said)} cells, all refused at the door"
    )
    assert await bus.contents() == before
