"""Who may do what on the bus, tried on a real server: every user at every subject, and every known way around."""

import base64
import hashlib
import json
from collections import Counter

import anyio
import pytest
from nats.aio.msg import Msg
from nats_bus import DEADLINE_S, Bus, User
from nats_declarations import DECLARATIONS, NODE

pytestmark = [pytest.mark.real, pytest.mark.anyio]

STREAM, NET, BUCKET = f"OVERSEER_{NODE}", "OVERSEER_NET", f"OBJ_overseer_{NODE}_povs"
P = f"overseer.{NODE}."

COMMANDS = [
    "votes_db.register_vote",
    "dispute_conclusion.detection",
    "dispute_conclusion.descendants_answer",
    "chain_api.import_block",
    "chain_api.finalize_block",
    "chain_api.blacklist",
    "chain_api.descendants",
    "chain_api.undeclared",
]
SUBSYSTEMS = [declaration.name for declaration in DECLARATIONS]
USERS = [*SUBSYSTEMS, "overseer", "operator", "reader", "provisioner"]
SENDERS = [*SUBSYSTEMS, "overseer", "op_operator", "op_reader", "op_other", *(f"req_{name}" for name in SUBSYSTEMS), "anybody"]
SAID = [
    "evt.dispute_status_changed",
    "evt.block_imported",
    "evt.incarnation_started",
    "evt.undeclared",
    "sig.session_change",
    "sig.active_leaves",
    "sig.conclude",
    "rejected",
    *(f"cmd.{command}" for command in COMMANDS),
]

# By hand, from the declarations: the whole of what each may append to the node's stream, sender token first.
MAY_SAY = {
    "votes_db": {
        "votes_db.evt.dispute_status_changed",
        "votes_db.evt.incarnation_started",
        "votes_db.rejected",
        "votes_db.cmd.dispute_conclusion.detection",
        "req_votes_db.cmd.votes_db.register_vote",
    },
    "dispute_conclusion": {
        "dispute_conclusion.evt.incarnation_started",
        "dispute_conclusion.rejected",
        "dispute_conclusion.cmd.chain_api.blacklist",
        "dispute_conclusion.cmd.chain_api.descendants",
    },
    "chain_api": {
        "chain_api.evt.block_imported",
        "chain_api.evt.incarnation_started",
        "chain_api.sig.session_change",
        "chain_api.sig.active_leaves",
        "chain_api.rejected",
        "chain_api.cmd.dispute_conclusion.descendants_answer",
        "req_chain_api.cmd.chain_api.import_block",
        "req_chain_api.cmd.chain_api.finalize_block",
    },
    "overseer": {"overseer.sig.conclude", "overseer.evt.incarnation_started", "overseer.rejected"},
    "operator": {
        "op_operator.cmd.votes_db.register_vote",
        "op_operator.cmd.chain_api.import_block",
        "op_operator.cmd.chain_api.finalize_block",
    },
    "reader": set(),
    "provisioner": set(),
}


async def accepted(user: User, subjects: list[str]) -> set[str]:
    """The subjects that the server lets `user` publish to; nothing is said twice about the rest."""
    user.errors.clear()
    for subject in subjects:
        await user.client.publish(subject, b"{}")
    await user.settle()
    denied = Counter(error.partition('publish to "')[2].rstrip('"') for error in user.errors)
    assert set(denied) <= {subject.lower() for subject in subjects}, user.errors
    return {subject for subject in subjects if subject.lower() not in denied}


async def stored_subjects(user: User) -> dict[str, int]:
    """How many messages the streams hold under each subject."""
    found: dict[str, int] = {}
    for stream in (STREAM, NET):
        found |= (await user.ask(f"$JS.API.STREAM.INFO.{stream}", {"subjects_filter": ">"}))["state"].get("subjects") or {}
    return found


@pytest.mark.parametrize("name", USERS)
async def test_each_user_appends_under_its_own_token_what_it_declares_and_nothing_else(bus: Bus, name: str) -> None:
    user = await bus.user(name)
    subjects = [f"{P}{sender}.{said}" for sender in SENDERS for said in SAID]
    subjects += [f"overseer.net.{node}.{sender}.dispute" for node in (NODE, "beta") for sender in SUBSYSTEMS]
    subjects += [f"overseer.beta.{sender}.{said}" for sender in SENDERS[:3] for said in SAID] + [f"live.{P}votes_db.evt.x", "overseer.x"]
    expected = {P + said for said in MAY_SAY[name]}
    if name == "votes_db":
        expected.add(f"overseer.net.{NODE}.votes_db.dispute")
    assert await accepted(user, subjects) == expected
    reader = await bus.user("reader")
    stored: set[str] = set()
    with anyio.fail_after(DEADLINE_S):
        while not stored >= expected:
            stored = set(await stored_subjects(reader))
    assert stored == expected


VERBS = ["STREAM.CREATE", "STREAM.UPDATE", "STREAM.DELETE", "STREAM.PURGE", "STREAM.INFO", "STREAM.MSG.GET", "STREAM.MSG.DELETE"]
VERBS += ["STREAM.SNAPSHOT", "STREAM.RESTORE", "DIRECT.GET", "CONSUMER.LIST", "CONSUMER.CREATE"]
OF_CONSUMER = ["CONSUMER.CREATE", "CONSUMER.DELETE", "CONSUMER.INFO", "CONSUMER.MSG.NEXT", "CONSUMER.RESET", "CONSUMER.PAUSE"]


def calls() -> list[str]:
    found = ["$JS.API.INFO", "$JS.API.STREAM.LIST", "$JS.API.SERVER.REMOVE", "$JS.API.ACCOUNT.PURGE.BUS"]
    found += [f"$JS.API.{verb}.{stream}" for verb in VERBS for stream in (STREAM, NET, BUCKET, "OTHER")]
    for stream, durable in ((STREAM, "votes_db"), (STREAM, "chain_api"), (STREAM, "mine"), (NET, "alpha-votes_db"), (NET, "beta-votes_db")):
        found += [f"$JS.API.{verb}.{stream}.{durable}" for verb in OF_CONSUMER]
        found += [f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{durable}", f"$JS.API.CONSUMER.CREATE.{stream}.{durable}.filter"]
        found.append(f"$JS.ACK.{stream}.{durable}.1.1.1.1.0")
    return found


def on_streams(verbs: list[str], *streams: str) -> set[str]:
    return {f"$JS.API.{verb}.{stream}" for verb in verbs for stream in streams}


def own_consumer(stream: str, durable: str) -> set[str]:
    api = {f"$JS.API.CONSUMER.{verb}.{stream}.{durable}" for verb in ("MSG.NEXT", "INFO", "RESET")}
    return api | {f"$JS.ACK.{stream}.{durable}.1.1.1.1.0"}


READING = {"$JS.API.INFO", "$JS.API.STREAM.LIST"} | on_streams(["STREAM.INFO", "STREAM.MSG.GET", "CONSUMER.LIST"], STREAM, NET, BUCKET)
READING |= {f"$JS.API.CONSUMER.INFO.{STREAM}.{name}" for name in ("votes_db", "chain_api", "mine")}
READING |= {f"$JS.API.CONSUMER.INFO.{NET}.{name}" for name in ("alpha-votes_db", "beta-votes_db")}
LOOKING = ["STREAM.INFO", "STREAM.MSG.GET"]
MINE = {f"$JS.API.CONSUMER.{verb}.{STREAM}.mine" for verb in ("CREATE", "DELETE", "MSG.NEXT")}
MINE |= {f"$JS.API.CONSUMER.CREATE.{STREAM}.mine.filter", f"$JS.ACK.{STREAM}.mine.1.1.1.1.0"}
MAY_CALL = {
    "votes_db": {"$JS.API.INFO"}
    | own_consumer(STREAM, "votes_db")
    | own_consumer(NET, "alpha-votes_db")
    | on_streams(LOOKING, STREAM, NET),
    "dispute_conclusion": {"$JS.API.INFO"} | on_streams(LOOKING, STREAM),
    "chain_api": {"$JS.API.INFO"} | own_consumer(STREAM, "chain_api") | on_streams(LOOKING, STREAM),
    "overseer": READING,
    "reader": READING,
}


@pytest.mark.parametrize("name", sorted(MAY_CALL))
async def test_each_user_calls_of_jetstream_what_it_needs_and_nothing_else(bus: Bus, name: str) -> None:
    assert await accepted(await bus.user(name), calls()) == MAY_CALL[name]


async def test_an_operator_has_consumers_of_its_own_but_not_those_of_subsystems(bus: Bus) -> None:
    allowed = await accepted(await bus.user("operator"), calls())
    assert allowed >= READING | MINE
    for stream, durable in ((STREAM, "votes_db"), (STREAM, "chain_api"), (NET, "alpha-votes_db")):
        theirs = {call for call in allowed if call.endswith(f".{durable}") or f".{durable}." in call}
        assert theirs == {f"$JS.API.CONSUMER.INFO.{stream}.{durable}"}
    rest = allowed - READING - MINE
    assert not [call for call in rest if ".STREAM." in call or "DIRECT" in call or "RESET" in call or "PAUSE" in call]


@pytest.mark.parametrize("name", USERS)
async def test_each_user_listens_to_its_own_inbox_and_no_other(bus: Bus, name: str) -> None:
    user = await bus.user(name)
    others = [f"_INBOX.{NODE}.{other}.>" for other in USERS if other != name]
    for subject in (">", "_INBOX.>", "_R_.>", "$JS.>", "$SYS.>", "live.>", *others):
        user.errors.clear()
        await user.client.subscribe(subject)
        await user.settle()
        assert any("permissions violation" in error for error in user.errors), subject


# ------------------------------------------------------------------------------------------------ what they need works


async def commands(bus: Bus, count: int) -> list[int]:
    operator = await bus.user("operator")
    return [(await operator.ask(f"{P}op_operator.cmd.votes_db.register_vote", {"n": n}))["seq"] for n in range(count)]


async def test_a_subsystem_pulls_acknowledges_resets_and_looks(bus: Bus) -> None:
    await commands(bus, 5)
    votes = await bus.user("votes_db")
    first = await votes.pull(STREAM, "votes_db", 5)
    assert [json.loads(message.data)["n"] for message in first] == [0, 1, 2, 3, 4]
    assert [message.reply.split(".")[6] for message in first] == ["1", "2", "3", "4", "5"]
    await votes.client.request(first[2].reply, b"+ACK", timeout=DEADLINE_S)
    info = await votes.ask(f"$JS.API.CONSUMER.INFO.{STREAM}.votes_db")
    assert (info["ack_floor"]["stream_seq"], info["num_ack_pending"]) == (3, 2)
    await votes.ask(f"$JS.API.CONSUMER.RESET.{STREAM}.votes_db", {"seq": 2})
    again = await votes.pull(STREAM, "votes_db", 4)
    assert [json.loads(message.data)["n"] for message in again] == [1, 2, 3, 4]
    last = await votes.ask(f"$JS.API.STREAM.MSG.GET.{STREAM}", {"last_by_subj": f"{P}op_operator.>"})
    assert last["message"]["seq"] == 5
    assert (await votes.ask(f"$JS.API.STREAM.INFO.{STREAM}"))["config"]["metadata"]["overseer_id"]
    assert (await votes.ask("$JS.API.INFO"))["streams"] == 3


async def test_a_message_without_headers_and_body_ends_its_pull_and_a_reset_brings_the_rest(bus: Bus) -> None:
    """A fact to live with: over an import the server takes an empty message for the end of the answer, heartbeats included."""
    operator, votes = await bus.user("operator"), await bus.user("votes_db")
    for body in (b"1", b"", b"3"):
        await operator.ask(f"{P}op_operator.cmd.votes_db.register_vote", body)
    inbox = votes.client.new_inbox()
    queue = await votes.listen(inbox)
    body = {"batch": 3, "expires": 10**8}
    await votes.client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.votes_db", json.dumps(body).encode(), reply=inbox)
    with anyio.fail_after(DEADLINE_S):
        assert [(await queue.get()).data for _ in range(2)] == [b"1", b""]
    info = await votes.ask(f"$JS.API.CONSUMER.INFO.{STREAM}.votes_db")
    assert info["delivered"]["consumer_seq"] == 3
    assert queue.empty()
    await votes.ask(f"$JS.API.CONSUMER.RESET.{STREAM}.votes_db", {"seq": 3})
    assert [message.data for message in await votes.pull(STREAM, "votes_db", 1)] == [b"3"]


def compare(last: int, sender: str = "votes_db") -> dict[str, str]:
    return {"Nats-Expected-Last-Subject-Sequence": str(last), "Nats-Expected-Last-Subject-Sequence-Subject": f"{P}{sender}.>"}


async def test_a_publish_is_compared_and_set_under_the_senders_filter(bus: Bus) -> None:
    votes = await bus.user("votes_db")
    subject = f"{P}votes_db.evt.dispute_status_changed"
    first = await votes.ask(f"{P}votes_db.evt.incarnation_started", {}, headers=compare(0))
    await commands(bus, 2)
    assert (await votes.ask(subject, {}, headers=compare(0)))["error"]["err_code"] == 10071
    assert (await votes.ask(subject, {}, headers=compare(first["seq"])))["seq"] == 4


async def batch(user: User, subjects: list[str], last: int) -> dict[str, object]:
    for place, subject in enumerate(subjects, start=1):
        headers = {"Nats-Batch-Id": "b1", "Nats-Batch-Sequence": str(place), **(compare(last) if place == 1 else {})}
        if place == len(subjects):
            return await user.ask(subject, {}, headers={**headers, "Nats-Batch-Commit": "1"})
        await user.client.publish(subject, b"{}", headers=headers)
    raise AssertionError


async def test_an_atomic_batch_is_stored_whole_or_not_at_all(bus: Bus) -> None:
    votes = await bus.user("votes_db")
    subjects = [f"{P}votes_db.evt.dispute_status_changed", f"{P}votes_db.cmd.dispute_conclusion.detection", f"{P}votes_db.rejected"]
    done = await batch(votes, subjects * 10, 0)
    assert (done["count"], done["seq"]) == (30, 30)
    refused = await batch(votes, subjects, 0)
    assert refused["error"]["err_code"] in (10071, 10164)  # type: ignore[index]
    assert (await votes.ask(f"$JS.API.STREAM.INFO.{STREAM}"))["state"]["messages"] == 30


async def test_people_see_what_is_stored_live_under_the_original_subjects(bus: Bus) -> None:
    reader, operator, chain = await bus.user("reader"), await bus.user("operator"), await bus.user("chain_api")
    views = [await user.listen("overseer.>") for user in (reader, operator)]
    await chain.ask(f"{P}chain_api.sig.session_change", {"a": 1}, headers={"Overseer-Id": "chain_api 00 1 0"})
    await (await bus.user("votes_db")).ask(f"overseer.net.{NODE}.votes_db.dispute", {"b": 2})
    await (await bus.user("overseer")).ask(f"{P}overseer.rejected", {"c": 3})
    for view in views:
        with anyio.fail_after(DEADLINE_S):
            seen = {message.subject: message for message in [await view.get() for _ in range(3)]}
        assert set(seen) == {f"{P}chain_api.sig.session_change", f"overseer.net.{NODE}.votes_db.dispute", f"{P}overseer.rejected"}
        message = seen[f"{P}chain_api.sig.session_change"]
        assert message.data == b'{"a": 1}'
        assert message.headers is not None
        assert (message.headers["Overseer-Id"], message.headers["Nats-Sequence"]) == ("chain_api 00 1 0", "1")


async def serve(bus: Bus, name: str) -> User:
    """A responder as a subsystem is one: queries, requests, discovery."""
    user = await bus.user(name)

    async def answer(message: Msg) -> None:
        asked = {"by": name, "from": (message.headers or {}).get("Nats-Request-Info", ""), "subject": message.subject}
        await message.respond(json.dumps(asked).encode())

    for subject in ("$SRV.PING", f"{P}{name}.qry.>", *([] if name == "overseer" else [f"{P}{name}.req.>"])):
        await user.client.subscribe(subject, cb=answer)
    await user.settle()
    assert user.errors == []
    return user


@pytest.mark.parametrize("name", ["operator", "reader"])
async def test_discovery_finds_everybody_once(bus: Bus, name: str) -> None:
    everybody = [*SUBSYSTEMS, "overseer"]
    for subsystem in everybody:
        await serve(bus, subsystem)
    user = await bus.user(name)
    inbox = user.client.new_inbox()
    answers = await user.listen(inbox)
    for _ in range(5):
        await user.client.publish("$SRV.PING", b"", reply=inbox)
        with anyio.fail_after(DEADLINE_S):
            found = {json.loads((await answers.get()).data)["by"] for _ in everybody}
        assert found == set(everybody)
    await user.settle()
    assert answers.empty()


async def test_the_overseer_is_discovered_and_asked_as_well(bus: Bus) -> None:
    await serve(bus, "overseer")
    assert (await (await bus.user("reader")).ask(f"{P}overseer.qry.status"))["by"] == "overseer"
    assert (await (await bus.user("operator")).ask("$SRV.PING"))["by"] == "overseer"
    await serve(bus, "votes_db")
    overseer = await bus.user("overseer")
    assert (await overseer.ask(f"{P}votes_db.qry.health"))["by"] == "votes_db"
    assert await overseer.refused("$SRV.PING")


async def test_readers_ask_operators_also_request_and_the_responder_is_told_who_it_was(bus: Bus) -> None:
    await serve(bus, "votes_db")
    reader, operator = await bus.user("reader"), await bus.user("operator")
    asked = await reader.ask(f"{P}votes_db.qry.query_votes")
    assert json.loads(asked["from"])["acc"] == "alpha-reader"
    requested = await operator.ask(f"{P}votes_db.req.register_vote")
    assert json.loads(requested["from"])["acc"] == "alpha-operator"
    assert await reader.refused(f"{P}votes_db.req.register_vote")
    assert await (await bus.user("overseer")).refused(f"{P}votes_db.req.register_vote")
    for name in SUBSYSTEMS:
        assert await (await bus.user(name)).refused(f"{P}votes_db.qry.query_votes")


async def test_an_operator_reads_history_by_the_stock_ways(bus: Bus) -> None:
    await commands(bus, 3)
    operator = await bus.user("operator")
    stream = operator.client.jetstream()
    ordered = await stream.subscribe("overseer.>", stream=STREAM, ordered_consumer=True)
    pushed = [json.loads((await ordered.next_msg(timeout=DEADLINE_S)).data)["n"] for _ in range(3)]
    await ordered.unsubscribe()
    config = {"name": "mine", "ack_policy": "explicit", "filter_subject": "overseer.>"}
    await operator.ask(f"$JS.API.CONSUMER.CREATE.{STREAM}.mine", {"stream_name": STREAM, "action": "create", "config": config})
    pulled = [json.loads(message.data)["n"] for message in await operator.pull(STREAM, "mine", 3)]
    assert pushed == pulled == [0, 1, 2]
    assert operator.errors == []


async def put_pov(user: User, name: str, data: bytes) -> None:
    """As object stores have it, but for the header Nats-Rollup, which is refused: it could wipe the bucket."""
    chunks = [data[start : start + 128 * 1024] for start in range(0, len(data), 128 * 1024)]
    for chunk in chunks:
        await user.ask(f"$O.overseer_{NODE}_povs.C.{name}", chunk)
    digest = "SHA-256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()
    meta = {"name": name, "bucket": f"overseer_{NODE}_povs", "nuid": name, "size": len(data), "chunks": len(chunks), "digest": digest}
    await user.ask(f"$O.overseer_{NODE}_povs.M.{base64.urlsafe_b64encode(name.encode()).decode()}", meta)


async def test_a_pov_goes_through_the_bucket(bus: Bus) -> None:
    operator = await bus.user("operator")
    await put_pov(operator, "ab" * 32, b"pov" * 100_000)
    store = await operator.client.jetstream().object_store(f"overseer_{NODE}_povs")
    assert (await store.get("ab" * 32)).data == b"pov" * 100_000
    reader = await bus.user("reader")
    found = await reader.ask(f"$JS.API.STREAM.MSG.GET.{BUCKET}", {"next_by_subj": f"$O.overseer_{NODE}_povs.C.>", "seq": 1})
    assert found["message"]["seq"] == 1
    assert await reader.refused(f"$O.overseer_{NODE}_povs.C.x")
    assert await (await bus.user("votes_db")).refused(f"$O.overseer_{NODE}_povs.C.x")


# ------------------------------------------------------------------------------------------------ ways around


async def settled(*users: User) -> None:
    """Everything they sent is handled: the server answers each after it."""
    for user in users:
        await user.settle()


FORGED = [
    f"{P}chain_api.sig.session_change",
    f"{P}dispute_conclusion.cmd.chain_api.blacklist",
    f"{P}op_operator.cmd.votes_db.register_vote",
    f"{P}overseer.sig.conclude",
    f"overseer.net.{NODE}.chain_api.dispute",
    f"live.{P}chain_api.evt.block_imported",
]


@pytest.mark.parametrize("forged", FORGED)
async def test_the_servers_answers_are_not_stored_under_a_forged_reply_subject(bus: Bus, forged: str) -> None:
    votes = await bus.user("votes_db")
    await commands(bus, 3)
    before = await stored_subjects(await bus.user("overseer"))
    view = await (await bus.user("reader")).listen("overseer.>")
    own = f"{P}votes_db.evt.dispute_status_changed"
    pull = json.dumps({"batch": 2, "expires": 10**9, "idle_heartbeat": 10**8}).encode()
    asked = [
        (own, b"{}"),
        (f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.votes_db", pull),
        (f"$JS.API.CONSUMER.INFO.{STREAM}.votes_db", b""),
        (f"$JS.API.CONSUMER.RESET.{STREAM}.votes_db", b'{"seq":1}'),
        (f"$JS.API.STREAM.INFO.{STREAM}", b""),
        (f"$JS.API.STREAM.MSG.GET.{STREAM}", b'{"seq":1}'),
        (f"$JS.ACK.{STREAM}.votes_db.1.1.1.1.0", b"+NXT"),
        ("$JS.API.INFO", b""),
    ]
    for subject, body in asked:
        await votes.client.publish(subject, body, reply=forged)
    await settled(votes)
    with anyio.fail_after(DEADLINE_S):
        assert (await view.get()).subject == own
    assert await stored_subjects(await bus.user("overseer")) == {**before, own: 1}
    assert view.empty()


async def test_an_operator_cannot_reach_a_subsystems_consumer_by_a_reply_subject(bus: Bus) -> None:
    """Messages that an operator wrote itself, an empty one among them, pulled with an API subject as reply."""
    operator, votes = await bus.user("operator"), await bus.user("votes_db")
    for body in (b'{"batch":9,"no_wait":true}', b'{"seq":1}', b"+ACK", b""):
        await operator.ask(f"{P}op_operator.cmd.votes_db.register_vote", body)
    delivered = await votes.pull(STREAM, "votes_db", 2)
    before = await votes.ask(f"$JS.API.CONSUMER.INFO.{STREAM}.votes_db")
    targets = [f"$JS.API.CONSUMER.{verb}.{STREAM}.votes_db" for verb in ("DELETE", "MSG.NEXT", "CREATE", "RESET")]
    targets += [f"$JS.API.STREAM.PURGE.{STREAM}", f"$JS.API.STREAM.DELETE.{STREAM}", delivered[-1].reply]
    for number, target in enumerate(targets):
        config = {"name": f"m{number}", "ack_policy": "explicit", "filter_subject": f"{P}op_operator.>"}
        await operator.ask(f"$JS.API.CONSUMER.CREATE.{STREAM}.m{number}", {"stream_name": STREAM, "action": "create", "config": config})
        await operator.client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.m{number}", b'{"batch":4,"no_wait":true}', reply=target)
        for subject in (f"{P}op_operator.cmd.votes_db.register_vote", f"$JS.API.CONSUMER.INFO.{STREAM}.votes_db"):
            await operator.client.publish(subject, b"", reply=target)
    await settled(operator, votes)
    after = await votes.ask(f"$JS.API.CONSUMER.INFO.{STREAM}.votes_db")
    for field in ("ack_floor", "num_ack_pending", "config", "created"):
        assert after[field] == before[field]
    assert after["delivered"]["consumer_seq"] == before["delivered"]["consumer_seq"] == 2
    assert (await votes.ask(f"$JS.API.STREAM.INFO.{STREAM}"))["state"]["first_seq"] == 1


async def test_an_operators_push_consumer_delivers_to_its_own_inbox_only(bus: Bus) -> None:
    operator = await bus.user("operator")
    await (await bus.user("votes_db")).listen(f"{P}votes_db.qry.>")
    view = await (await bus.user("reader")).listen("overseer.>")
    own = await operator.listen(f"{operator.client.new_inbox()}.push")
    await commands(bus, 2)
    for _ in range(2):
        await view.get()
    before = await stored_subjects(await bus.user("overseer"))
    inboxes = [
        FORGED[4],
        FORGED[5],
        f"$JS.API.STREAM.PURGE.{STREAM}",
        f"$JS.API.CONSUMER.DELETE.{STREAM}.votes_db",
        f"_INBOX.{NODE}.votes_db.x",
    ]
    inboxes += [f"$JS.ACK.{STREAM}.votes_db.1.1.1.1.0", f"{P}votes_db.qry.query_votes", f"{P}chain_api.sig.session_change"]
    for number, inbox in enumerate([*inboxes, next(iter(operator.client._subs.values())).subject]):
        config = {"name": f"p{number}", "ack_policy": "none", "deliver_subject": inbox, "filter_subject": f"{P}op_operator.>"}
        body = {"stream_name": STREAM, "action": "create", "config": config}
        await operator.ask(f"$JS.API.CONSUMER.CREATE.{STREAM}.p{number}", body)
    with anyio.fail_after(DEADLINE_S):
        # The last one, made after all the others, does deliver.
        for _ in range(2):
            await own.get()
    await settled(operator)
    assert await stored_subjects(await bus.user("overseer")) == before
    assert view.empty()
