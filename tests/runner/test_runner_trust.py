"""Messages between nodes are signed by the node and checked at intake."""

from typing import Any

import pytest
from counting import Gossiper, Heard, Whisper
from nacl.signing import SigningKey

from messages.codec import encode
from messages.envelope_signing import HEADER_SIGNATURE
from messages.overseer import Parked
from messages.subjects import net_stream
from overseer.runner.trust import Trust, untrusted

pytestmark = pytest.mark.anyio


class Keys(Trust):
    """The nodes `one`, `two` and `far`, seen from one of them."""

    def __init__(self, node: str) -> None:
        self.pairs = {name: SigningKey(name.encode().ljust(32)) for name in ("one", "two", "far")}
        self.own = self.pairs[node]

    def sign(self, payload: bytes) -> bytes:
        return self.own.sign(payload).signature

    def key_of(self, node: str) -> bytes | None:
        pair = self.pairs.get(node)
        return None if pair is None else bytes(pair.verify_key)


async def test_what_a_node_says_is_signed_and_heard_also_after_restarts(virtual_overseer: Any) -> None:
    one = await virtual_overseer(Gossiper(), node="one", trust=Keys("one"))
    two = await virtual_overseer(Gossiper(), node="two", trust=Keys("two"))
    for amount in (1, 2, 3):
        await one.inject(one.subsystem.declaration.consumes[0](amount=amount))
        await one.restart()
        await two.restart()
    await one.settled()
    await two.settled()
    assert [event.amount for event in two.events(Heard)] == [1, 2, 3]
    for node in (one, two):
        assert await node.sent(Parked) == []
        assert (await node.verify()).ok


async def test_unsigned_forged_and_strangers_messages_are_parked_and_the_line_goes_on(virtual_overseer: Any) -> None:
    two = await virtual_overseer(Gossiper(), node="two", trust=Keys("two"))
    await two.inject(Whisper(amount=1), sender="gossiper", from_node="far")
    one = await virtual_overseer(Gossiper(), node="stranger", trust=Keys("one"))
    await one.inject(one.subsystem.declaration.consumes[0](amount=2))
    await one.settled()
    liar = await virtual_overseer(Gossiper(), node="far", trust=Keys("one"))
    await liar.inject(liar.subsystem.declaration.consumes[0](amount=3))
    await liar.settled()
    honest = await virtual_overseer(Gossiper(), node="one", trust=Keys("one"))
    await honest.inject(honest.subsystem.declaration.consumes[0](amount=4))
    await honest.settled()
    await two.settled()
    assert [event.amount for event in two.events(Heard)] == [4]
    assert [(m.stream, m.reason) for m in await two.sent(Parked)] == [("net", "bad_signature")] * 3


async def test_every_part_that_receivers_go_by_is_signed(in_memory: Any, memory_world: Any) -> None:
    one = await in_memory(Gossiper(), node="one", trust=Keys("one"))
    await one.inject(one.subsystem.declaration.consumes[0](amount=1))
    await one.settled()
    (stored,) = [m for m in memory_world.broker.streams[net_stream()].messages() if m.subject.endswith(".whisper")]
    trust = Keys("two")
    assert untrusted(trust, "one", stored) == ""
    headers = stored.headers
    others = [
        {"subject": stored.subject.replace("one", "two")},
        {"body": encode(Whisper(amount=2))},
        {"headers": {**headers, "Overseer-Id": headers["Overseer-Id"] + "0"}},
        {"headers": {**headers, "Overseer-Schema": "2"}},
        {"headers": {**headers, "Content-Type": "application/json"}},
        {"headers": {**headers, HEADER_SIGNATURE: headers[HEADER_SIGNATURE][:-1] + "g"}},
    ]
    for change in others:
        fields = {name: getattr(stored, name) for name in stored.__struct_fields__}
        assert untrusted(trust, "one", type(stored)(**{**fields, **change})) == "not signed by one", change
