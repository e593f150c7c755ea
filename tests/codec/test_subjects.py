"""The grammar of subjects and of `Overseer-Id`."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from message_values import CONTRACT

from messages.chain_api import BlockImported, FinalizeBlock, GetHeader
from messages.message import Kind, Spec
from messages.overseer import IncarnationStarted, Parked
from messages.signals import Conclude
from messages.subjects import Address, MessageId, SubjectError, build, check_token, net_filter, own_filter, parse, request_subject
from messages.votes_db import Dispute

TOKEN = st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True)
TRAVELLING = [s for s in CONTRACT if s.kind not in (Kind.EVENT, Kind.TIMER, Kind.REPLY, Kind.REJECTION, Kind.PAIR)]


@pytest.mark.parametrize("spec", TRAVELLING, ids=lambda spec: spec.key)
def test_every_message_that_travels_is_found_again_by_its_subject(spec: Spec) -> None:
    sender = "op_test" if spec.kind is Kind.COMMAND else "votes_db" if spec.owner == "overseer" else spec.owner
    if spec.body is Conclude:
        sender = "overseer"
    address = parse(build("alpha", sender, spec))
    assert address.node == "alpha"
    assert address.sender == (spec.owner if spec.kind is Kind.QUERY else sender)
    assert address.kind is spec.kind
    assert address.spec() is spec


@pytest.mark.parametrize("spec", [s for s in CONTRACT if s not in TRAVELLING], ids=lambda spec: spec.key)
def test_what_never_travels_has_no_subject(spec: Spec) -> None:
    with pytest.raises(SubjectError, match="never travels"):
        build("alpha", "votes_db", spec)


def test_the_owner_comes_first() -> None:
    assert build("n1", "op_ann", FinalizeBlock.spec) == "overseer.n1.op_ann.cmd.chain_api.finalize_block"
    assert build("n1", "chain_api", BlockImported.spec) == "overseer.n1.chain_api.evt.block_imported"
    assert build("n1", "overseer", Conclude.spec) == "overseer.n1.overseer.sig.conclude"
    assert build("n1", "votes_db", Parked.spec) == "overseer.n1.votes_db.rejected"
    assert build("n1", "op_ann", GetHeader.spec) == "overseer.n1.chain_api.qry.get_header"
    assert build("n1", "votes_db", Dispute.spec) == "overseer.net.n1.votes_db.dispute"
    assert request_subject("n1", FinalizeBlock.spec) == "overseer.n1.chain_api.req.finalize_block"
    assert own_filter("n1", "votes_db") == "overseer.n1.votes_db.>"
    assert net_filter("n1", "votes_db") == "overseer.net.n1.votes_db.>"


def test_a_fact_of_the_framework_is_found_for_every_sender_and_a_signal_only_for_its_own() -> None:
    assert parse("overseer.n1.anyone.evt.incarnation_started").spec() is IncarnationStarted.spec
    assert parse("overseer.n1.anyone.sig.conclude").spec() is None
    assert parse("overseer.n1.votes_db.evt.block_imported").spec() is None
    assert parse("overseer.n1.op_ann.cmd.votes_db.finalize_block").spec() is None


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "overseer",
        "overseer.n1",
        "other.n1.votes_db.evt.x",
        "overseer.n1.votes_db.evt",
        "overseer.n1.votes_db.evt.x.y",
        "overseer.n1.votes_db.cmd.chain_api",
        "overseer.n1.votes_db.event.x",
        "overseer.n1.votes_db.req.x",
        "overseer.n1.votes_db.rejected.x",
        "overseer.net.n1.votes_db",
        "live.overseer.n1.votes_db.evt.x",
    ],
)
def test_other_subjects_are_refused(subject: str) -> None:
    with pytest.raises(SubjectError):
        parse(subject)


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(st.text(max_size=80) | st.lists(TOKEN | st.sampled_from(["overseer", "net", "cmd", "evt", "*", ">", ""]), max_size=7).map(".".join))
def test_any_text_parses_or_is_refused_by_name(subject: str) -> None:
    try:
        address = parse(subject)
    except SubjectError:
        return
    assert isinstance(address, Address)
    address.spec()


@pytest.mark.parametrize("node", ["net", "log", "", "A", "1a", "a.b", "a b", "*", ">", "a-b", "a" * 65, "ä", "a\n"])
def test_names_that_must_not_stand_in_a_subject_are_refused(node: str) -> None:
    with pytest.raises(SubjectError):
        check_token(node, "node")


def test_a_sender_may_be_called_what_a_node_may_not() -> None:
    assert check_token("net", "sender") == "net"


@settings(max_examples=100, deadline=None, database=None, derandomize=True)
@given(TOKEN, st.from_regex(r"[0-9a-f]{32}", fullmatch=True), st.integers(0, 2**63), st.integers(0, 2**31))
def test_a_message_id_is_read_back(sender: str, incarnation: str, sequence: int, index: int) -> None:
    identity = MessageId(sender, incarnation, sequence, index)
    assert MessageId.parse(identity.text()) == identity


@pytest.mark.parametrize("text", ["", "a", "a b 1", "a b 1 2 3", "a b -1 2", "a b 1 x", "a b 1 " + "9" * 20, "a b \u0661 2", "a  b 1 2"])
def test_a_malformed_message_id_is_refused(text: str) -> None:
    with pytest.raises(SubjectError):
        MessageId.parse(text)


def test_ids_of_one_sender_are_ordered_by_record_then_place() -> None:
    ids = [MessageId("a", "00", 2, 0), MessageId("a", "00", 10, 1), MessageId("a", "00", 10, 0)]
    assert sorted(ids) == [ids[0], ids[2], ids[1]]
