"""A reply subject that one has no right to: the server's answer must not arrive there, whoever asks whatever of the API."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.security.raw_client import RawClient
from tests.security.rules import Rights, rights
from tests.security.shared_bus import DECLARATIONS, NODE, OPERATORS, OTHER_NODE, READERS, SITES, SharedBus
from tests.security.universe import appended

pytestmark = [pytest.mark.real, pytest.mark.anyio]

NODES = (NODE, OTHER_NODE)
STREAM, NET, BUCKET = f"OVERSEER_{NODE}", "OVERSEER_NET", f"OBJ_overseer_{NODE}_povs"
OF_SITES = (f"OVERSEER_LOG_{NODE}", f"KV_overseer_{NODE}_topology", f"KV_overseer_{NODE}_lease")
P = f"overseer.{NODE}."
SUBSYSTEMS = [d.name for d in DECLARATIONS]
RIGHTS = rights(NODE, DECLARATIONS, OPERATORS, READERS, NODES, SITES)

FORGED = [
    f"{P}chain_api.evt.block_imported",
    f"{P}chain_api.sig.session_change",
    f"{P}dispute_conclusion.cmd.chain_api.blacklist",
    f"{P}votes_db.rejected",
    f"{P}overseer.sig.conclude",
    f"{P}op_operator.cmd.chain_api.import_block",
    f"{P}op_feed.cmd.chain_api.import_block",
    f"{P}req_chain_api.cmd.chain_api.finalize_block",
    f"overseer.{OTHER_NODE}.votes_db.evt.incarnation_started",
    f"overseer.net.{NODE}.votes_db.dispute",
    f"overseer.net.{OTHER_NODE}.votes_db.dispute",
    f"live.{P}chain_api.evt.block_imported",
    f"$O.overseer_{NODE}_povs.C.x",
    f"$KV.overseer_{NODE}_topology.current",
    f"$KV.overseer_{NODE}_lease.a",
    f"{P}elections_a.mail.mayor.cast_ballot",
    f"{P}elections_b.pair.mayor.appended",
    f"$JS.API.CONSUMER.RESET.OVERSEER_LOG_{NODE}.elections_a-ballots",
    f"$JS.API.STREAM.PURGE.{STREAM}",
    f"$JS.API.STREAM.DELETE.{STREAM}",
    f"$JS.API.STREAM.MSG.DELETE.{STREAM}",
    f"$JS.API.CONSUMER.DELETE.{STREAM}.dispute_conclusion",
    f"$JS.API.CONSUMER.RESET.{STREAM}.dispute_conclusion",
    f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.dispute_conclusion",
    f"$JS.API.CONSUMER.CREATE.{STREAM}.dispute_conclusion",
    f"$JS.API.CONSUMER.PAUSE.{STREAM}.dispute_conclusion",
    f"_INBOX.{NODE}.dispute_conclusion.x",
    f"_INBOX.{NODE}.provisioner.x",
    f"_INBOX.{OTHER_NODE}.operator.x",
    f"{P}chain_api.qry.best",
    f"{P}chain_api.req.finalize_block",
    "$SRV.PING",
    "$SYS.REQ.SERVER.PING",
    "_R_.x",
]


def asked(allowed: Rights, configs: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Everything that a user with these rights may ask, with bodies that get a real answer and change nothing that counts."""
    pull = json.dumps({"batch": 2, "expires": 10**8, "idle_heartbeat": 2 * 10**7}).encode()
    bodies = {
        "STREAM.MSG.GET": [b'{"seq":1}', b'{"last_by_subj":"overseer.>"}'],
        "CONSUMER.MSG.NEXT": [pull, b"1", b'{"batch":3,"no_wait":true}'],
        "CONSUMER.RESET": [b'{"seq":1}'],
        "STREAM.PURGE": [b'{"seq":1}'],
    }
    for pattern in allowed.publish:
        subject = pattern.replace("*", "forger").replace(">", "forger")
        if not allowed.may_publish(subject):
            continue
        verb = ".".join(subject.split(".")[2:4]) if subject.startswith("$JS.API.") else ""
        verb = "STREAM.MSG.GET" if verb == "STREAM.MSG" else "CONSUMER.MSG.NEXT" if verb == "CONSUMER.MSG" else verb
        stream = subject.split(".")[4] if verb in ("STREAM.CREATE", "STREAM.UPDATE") else ""
        if stream:
            yield subject, json.dumps(configs[stream]).encode()
        elif verb == "CONSUMER.CREATE":
            wanted = subject.split(".")[4]
            config = {"ack_policy": "explicit", "name": "forger", "durable_name": "forger"}
            if subject.endswith(f".{wanted}"):
                config = {"ack_policy": "explicit"}
            yield subject, json.dumps({"stream_name": wanted, "config": config}).encode()
        elif subject.startswith("$JS.ACK."):
            stem = subject.removesuffix(".forger")
            stem += "" if stem.count(".") > 2 else ".forger"
            yield from ((f"{stem}.1.1.1.1.0", body) for body in (b"+NXT", b"+ACK", b'+NXT {"batch":2}'))
        elif subject != "_R_.forger":
            yield from ((subject, body) for body in bodies.get(verb, [b""]))


async def state(bus: SharedBus, forger: str) -> dict[str, Any]:
    """All there is in streams and consumers, but for the forger's own doing."""
    reader = await bus.raw(NODE, "reader")
    found: dict[str, Any] = {"contents": dict(await bus.contents())}
    for stream in (STREAM, NET, BUCKET, *OF_SITES):
        info = await reader.ask(f"$JS.API.STREAM.INFO.{stream}")
        found[stream] = {field: value for field, value in info["config"].items() if field != "metadata"}
        if not stream.startswith("KV_"):
            # Of a key the last value is kept.
            found[f"{stream} from"] = info["state"]["first_seq"]
        listed = (await reader.ask(f"$JS.API.CONSUMER.LIST.{stream}")).get("consumers") or []
        for info in listed:
            if info["name"].removeprefix(f"{NODE}-") != forger and info["config"].get("metadata", {}).get("overseer_subsystem"):
                fields = ("config", "created", "delivered", "ack_floor", "num_ack_pending", "num_waiting")
                found[f"{stream}/{info['name']}"] = {field: info[field] for field in fields}
    return found


async def victims(bus: SharedBus, forger: str) -> list[RawClient]:
    """Everybody else listens to all that they may; subsystems have messages in hand that are not acknowledged."""
    listening: list[RawClient] = []
    for name, allowed in RIGHTS.items():
        if name == forger:
            continue
        client = await bus.raw(NODE, name)
        await client.listen(*(s for s in allowed.subscribe if not s.startswith("_INBOX")))
        listening.append(client)
    for name in SUBSYSTEMS:
        if name != forger:
            client = next(c for c in listening if f".{name}." in c.inbox)
            client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{name}", b'{"batch":1,"no_wait":true}', reply=f"{client.inbox}.pulled")
    listening.append(await bus.raw(OTHER_NODE, "operator"))
    return listening


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(RIGHTS))
async def test_no_answer_arrives_under_a_forged_reply_subject(bus: SharedBus, name: str) -> None:
    allowed = RIGHTS[name]
    operator = await bus.raw(NODE, "operator")
    for number in range(3):
        assert "seq" in await operator.ask(f"{P}op_operator.cmd.votes_db.register_vote", b"%d" % number)
        assert "seq" in await (await bus.raw(NODE, "chain_api")).ask(f"{P}chain_api.evt.incarnation_started", b"{}")
    provisioner = await bus.raw(NODE, "provisioner")
    configs = {stream: (await provisioner.ask(f"$JS.API.STREAM.INFO.{stream}"))["config"] for stream in (STREAM, NET, BUCKET, *OF_SITES)}
    markers = [
        (operator, f"{P}op_operator.cmd.votes_db.register_vote"),
        (operator, f"$O.overseer_{NODE}_povs.C.marker"),
        (await bus.raw(NODE, "votes_db"), f"overseer.net.{NODE}.votes_db.dispute"),
    ]
    for client, subject in markers:
        assert "seq" in await client.ask(subject, b"{}")
    others = await victims(bus, name)
    for victim in others:
        await victim.settle()
        victim.heard.clear()
    before = await state(bus, name)
    forger = await bus.raw(NODE, name)
    said = list(asked(allowed, configs))
    tried, own = 0, Counter[str]()
    for forged in FORGED:
        if allowed.may_publish(forged):
            # Saying it openly is its right.
            continue
        for subject, body in said:
            forger.publish(subject, body, reply=forged)
        tried += len(said)
        forger.denied.clear()
        await forger.settle()
        # The server refuses reserved subjects by name; all others it takes, and does not answer there.
        refused = forger.denied == [("publish", forged)] * len(said)
        assert refused or not forger.denied, forger.denied
        own.update(subject for subject, _ in said if appended(subject, NODES) and not refused)
    print(f"\nreply forging: {name}: {tried} tries")
    assert tried > 100
    # Streams store in line: what was put there before these is there with them.
    for client, subject in markers:
        assert "seq" in await client.ask(subject, b"{}")
        own[subject] += 1
    for client in [forger, *others]:
        await client.settle()
    after = await state(bus, name)
    contents = after.pop("contents")
    grown = {subject: count - before["contents"].get(subject, 0) for subject, count in contents.items()}
    del before["contents"]
    assert {subject: count for subject, count in grown.items() if count} == own
    assert after == before
    for victim in others:
        heard = [h for h in victim.heard if h.subject in FORGED and h.subject not in own and not h.headers.startswith(b"NATS/1.0 503")]
        # What it hears of the forger's questions are questions; no answer ever.
        assert [h for h in heard if not h.reply] == [], victim.inbox


@pytest.mark.parametrize("name", ["operator", "reader"])
async def test_what_the_server_tells_of_itself_is_no_order_to_it(bus: SharedBus, name: str) -> None:
    """In the system account a reply subject would be one: to load its configuration anew, say, or to empty all streams."""
    person, asking = await bus.raw(NODE, name), await bus.raw(NODE, "operator")
    figures = [subject for subject in RIGHTS[name].publish if subject.startswith("$SYS.REQ.SERVER.")]
    assert "$SYS.REQ.SERVER.PING.VARZ" in figures
    told = await asking.ask("$SYS.REQ.SERVER.PING.VARZ")
    stored = await bus.contents()
    orders = [f"$SYS.REQ.SERVER.{told['server']['id']}.{order}" for order in ("RELOAD", "KICK", "LDM")]
    for order in (*orders, "$JS.API.ACCOUNT.PURGE.BUS", "$JS.API.META.LEADER.STEPDOWN"):
        assert not RIGHTS[name].may_publish(order)
        for subject in figures:
            person.publish(subject, b"", reply=order)
    await person.settle()
    again = await asking.ask("$SYS.REQ.SERVER.PING.VARZ")
    assert again["data"]["config_load_time"] == told["data"]["config_load_time"]
    assert await bus.contents() == stored


async def test_an_answer_of_a_subsystem_goes_to_its_caller_alone(bus: SharedBus) -> None:
    """The responder's answer, too, is not stored under a reply subject that the caller forged."""
    responder, caller = await bus.raw(NODE, "chain_api"), await bus.raw(NODE, "operator")
    await responder.listen(f"{P}chain_api.qry.>")
    before = await bus.contents()
    for forged in FORGED:
        if RIGHTS["operator"].may_publish(forged):
            continue
        caller.publish(f"{P}chain_api.qry.best", b"{}", reply=forged)
    caller.publish(f"{P}chain_api.qry.best", b"{}", reply=f"{caller.inbox}.honest")
    await caller.settle()
    await responder.settle()
    questions = [heard for heard in responder.heard if heard.subject.endswith(".qry.best")]
    assert questions
    for question in questions:
        assert question.reply.startswith("_R_.")
        responder.publish(question.reply, b'{"answer":true}')
    await responder.settle()
    await caller.until(1)
    assert [heard.body for heard in caller.heard if heard.subject.endswith(".honest")] == [b'{"answer":true}']
    assert await bus.contents() == before
