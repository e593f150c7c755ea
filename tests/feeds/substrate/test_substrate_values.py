"""Decoding a relay chain: metadata, events, inherents and sessions into our messages; and what is not as it should be, told by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from messages.polkadot import CandidateReceipt, Scheme, Validator, Vote, VoteKind
from messages.scale import candidate_hash, commitments_hash, decode_committed_receipt, encode_compact
from overseer.feeds.make import make_receipt, make_validators, make_vote
from overseer.feeds.substrate.header import read_header
from overseer.feeds.substrate.runtime import CANDIDATES, DISPUTES, SESSIONS, Runtime
from overseer.feeds.substrate.troubles import RemoteLies, Unreadable
from overseer.feeds.substrate.values import StatementSet, bundles, receipt_of, statement_sets, validators_of
from overseer.verification import verify_check
from tests.feeds.substrate.relay import RelayRuntime, framed, timestamp
from tests.feeds.substrate.remote_chain import RemoteChain
from tests.feeds.substrate.runtimes import Entry, Pallet, Registry, metadata, storage_key

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "polkadot_votes.json").read_text())
KEYS = make_validators("values", 7)
RECEIPT = make_receipt("values", para_id=2000, relay_parent=bytes([7]) * 32, plain=True)
CANDIDATE = candidate_hash(RECEIPT)


@pytest.fixture(scope="module", params=[1, 2], ids=["descriptor v1", "descriptor v2"])
def relay(request: pytest.FixtureRequest) -> RelayRuntime:
    return RelayRuntime(1, receipts=request.param)


@pytest.fixture(scope="module")
def runtime(relay: RelayRuntime) -> Runtime:
    return Runtime(relay.metadata)


def votes(*kinds: VoteKind) -> list[Vote]:
    return [
        make_vote(
            KEYS[index],
            index,
            kind,
            candidate=CANDIDATE,
            session=1,
            relay_parent=RECEIPT.descriptor.relay_parent,
            candidates=[CANDIDATE, bytes(32)] if kind is VoteKind.APPROVAL_MULTIPLE else [],
        )
        for index, kind in enumerate(kinds)
    ]


def relay_parent(_: bytes) -> bytes:
    return RECEIPT.descriptor.relay_parent


# ------------------------------------------------------------------------------------------------ what is read


def test_a_runtime_that_is_known_lacks_nothing(runtime: Runtime) -> None:
    assert runtime.lacking == {}


def test_keys_of_storage_are_hashed_names(runtime: Runtime) -> None:
    # As Substrate's documentation has it.
    assert runtime.events_key.hex() == "26aa394eea5630e07c48ae0c9558cef780d41e5e16056765bc8461851072c9d7"
    assert runtime.session_info_key(5) == storage_key("ParaSessionInfo", "Sessions", b"\x05\0\0\0")


def test_events_give_receipts_whose_hash_is_the_candidates(relay: RelayRuntime, runtime: Runtime) -> None:
    other = make_receipt("other", para_id=2001, relay_parent=bytes(32), plain=True)
    found = runtime.candidate_events(relay.events_bytes([RECEIPT], [other, RECEIPT]))
    assert found.backed == [RECEIPT]
    assert found.included == [other, RECEIPT]
    assert candidate_hash(found.backed[0]) == CANDIDATE


def test_the_inherents_votes_are_taken_with_kinds_and_signatures_as_they_are(relay: RelayRuntime, runtime: Runtime) -> None:
    cast = votes(*VoteKind)
    extrinsics = [timestamp(), relay.inherent_bytes([(1, CANDIDATE, cast)], [RECEIPT], relay_parent)]
    assert runtime.disputes(extrinsics) == [StatementSet(CANDIDATE, 1, cast, frozenset({RECEIPT.descriptor.relay_parent}))]


def test_votes_become_commands_of_bounded_size_that_verify(relay: RelayRuntime, runtime: Runtime, checks_of: Callable[..., Any]) -> None:
    (found,) = runtime.disputes([relay.inherent_bytes([(1, CANDIDATE, votes(*VoteKind))], [], relay_parent)])
    (message,) = bundles(found, RECEIPT, 12)
    assert (message.session_index, message.block_number, message.candidate_hash) == (1, 12, CANDIDATE)
    assert [verify_check(check) for check in checks_of(message, KEYS.validators)] == [True] * len(VoteKind)


def test_many_votes_become_several_commands() -> None:
    vote = Vote(0, VoteKind.APPROVAL_MULTIPLE, bytes(64), [bytes(32)] * 60)
    made = list(bundles(StatementSet(CANDIDATE, 1, [vote] * 500, frozenset()), RECEIPT, 1))
    assert len(made) == 5
    assert sum(len(message.explicit_votes) for message in made) == 500
    short = list(bundles(StatementSet(CANDIDATE, 1, votes(VoteKind.EXPLICIT_VALID) * 2001, frozenset()), RECEIPT, 1))
    assert [len(message.explicit_votes) for message in short] == [2000, 1]


def test_a_session_gives_the_keys_that_vote_by_index(relay: RelayRuntime, runtime: Runtime) -> None:
    assert runtime.validators(relay.session_bytes(KEYS.validators)) == [Validator(k.public, Scheme.SR25519) for k in KEYS]


@pytest.mark.parametrize("number", range(len(VECTORS["votes"])))
def test_votes_of_polkadots_own_libraries_come_out_of_a_block_and_verify(number: int, checks_of: Callable[..., Any]) -> None:
    """Real signed bytes and receipts in the layout of a real inherent and real events."""
    vector, relay = VECTORS["votes"][number], RelayRuntime(1, receipts=1)
    runtime = Runtime(relay.metadata)
    real = next(r for r in VECTORS["receipts"] if r["candidate_hash"] == vector["candidate_hash"])
    committed = decode_committed_receipt(bytes.fromhex(real["committed_receipt_scale"][2:]))
    assert committed.commitments is not None
    plain = CandidateReceipt(descriptor=committed.descriptor, commitments_hash=commitments_hash(committed.commitments))
    (receipt,) = runtime.candidate_events(relay.events_bytes([], [plain])).included
    vote = Vote(0, VoteKind(vector["kind"]), bytes.fromhex(vector["signature"][2:]))
    candidate = bytes.fromhex(vector["candidate_hash"][2:])
    cast = [(vector["session"], candidate, [vote])]
    (found,) = runtime.disputes([relay.inherent_bytes(cast, [], lambda _: bytes.fromhex(vector["relay_parent"][2:]))])
    (message,) = bundles(found, receipt, 1)
    key = Validator(bytes.fromhex(vector["validator_id"][2:]), Scheme(vector["scheme"]))
    assert [verify_check(check) for check in checks_of(message, [key])] == [True]


# ------------------------------------------------------------------------------------------------ what is not


@pytest.mark.parametrize(
    ("made", "lacking"),
    [
        (RelayRuntime(2, without=["ParaInclusion"]), {CANDIDATES: "no event of a pallet ParaInclusion"}),
        (RelayRuntime(2, backed_name="CandidateSeconded"), {CANDIDATES: "no ParaInclusion.CandidateBacked"}),
        (RelayRuntime(2, without=["ParaInherent"]), {DISPUTES: "no calls of a pallet ParaInherent"}),
        (RelayRuntime(2, enter="enter_all"), {DISPUTES: "no ParaInherent.enter"}),
        (RelayRuntime(2, without=["ParasShared"]), {SESSIONS: "no storage of a pallet ParasShared"}),
        (RelayRuntime(2, without=["ParaSessionInfo"]), {SESSIONS: "no storage of a pallet ParaSessionInfo"}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_a_runtime_lacks_is_named_and_refused(made: RelayRuntime, lacking: dict[str, str]) -> None:
    runtime = Runtime(made.metadata)
    assert runtime.lacking == lacking
    uses = {
        CANDIDATES: lambda: runtime.candidate_events(b"\0"),
        DISPUTES: lambda: runtime.disputes([timestamp()]),
        SESSIONS: lambda: runtime.session(bytes(4)),
    }
    for part, use in uses.items():
        if part in lacking:
            with pytest.raises(Unreadable, match=lacking[part]):
                use()
        else:
            use()


@pytest.mark.parametrize("data", [b"", b"meta", b"meta\x0e", b"meta\x63" + bytes(40), b"no metadata at all"], ids=repr)
def test_metadata_that_is_none_is_unreadable(data: bytes) -> None:
    with pytest.raises(Unreadable, match="metadata that cannot be read"):
        Runtime(data)


def test_cut_metadata_is_unreadable() -> None:
    data = RelayRuntime(1).metadata
    for end in range(6, len(data), 97):
        with pytest.raises(Unreadable):
            Runtime(data[:end])


def test_a_type_that_holds_itself_is_refused_before_it_is_decoded() -> None:
    registry = Registry()
    number = registry.primitive("u32")
    # 1 holds 2, and 2 holds 1.
    registry.group([2])
    registry.composite("a::Loop", [("again", 1)])
    data = metadata(registry, [Pallet("System", 0, [Entry("Events", 1)])], number)
    with pytest.raises(Unreadable, match="holds itself"):
        Runtime(data)


def test_events_cut_anywhere_are_unreadable(relay: RelayRuntime, runtime: Runtime) -> None:
    data = relay.events_bytes([RECEIPT], [RECEIPT])
    for end in range(0, len(data), 13):
        with pytest.raises(Unreadable):
            runtime.candidate_events(data[:end])
    with pytest.raises(Unreadable):
        runtime.candidate_events(data + b"\0")
    with pytest.raises(Unreadable):
        runtime.candidate_events(b"\xfe\xff\xff\xff" + data[1:])


def test_inherents_cut_anywhere_are_unreadable(relay: RelayRuntime, runtime: Runtime) -> None:
    whole = relay.inherent_bytes([(1, CANDIDATE, votes(*VoteKind))], [RECEIPT], relay_parent)
    body = whole[2:]
    for end in range(3, len(body), 29):
        with pytest.raises(Unreadable):
            runtime.disputes([framed(body[:end])])
    with pytest.raises(Unreadable, match="not as long as it says"):
        runtime.disputes([whole[:-1]])


def test_other_extrinsics_are_passed_over(runtime: Runtime) -> None:
    signed = framed(b"\x84" + bytes([54, 0]) + bytes(100))
    assert runtime.disputes([timestamp(), signed, framed(b"\x04"), encode_compact(0)]) == []


GOOD: dict[str, Any] = {
    "candidate_hash": "0x" + CANDIDATE.hex(),
    "session": 1,
    "statements": [({"Invalid": "Explicit"}, 3, "0x" + "11" * 64)],
}


@pytest.mark.parametrize(
    "change",
    [
        {"candidate_hash": "0x11"},
        {"candidate_hash": 5},
        {"session": -1},
        {"session": 2**32},
        {"session": True},
        {"statements": "Explicit"},
        {"statements": [1]},
        {"statements": [("Valid", 3)]},
        {"statements": [({"Invalid": "Backing"}, 3, "0x" + "11" * 64)]},
        {"statements": [({"Valid": "Unheard"}, 3, "0x" + "11" * 64)]},
        {"statements": [({"Perhaps": "Explicit"}, 3, "0x" + "11" * 64)]},
        {"statements": [({"Valid": {"BackingValid": "0x12"}}, 3, "0x" + "11" * 64)]},
        {"statements": [({"Valid": {"ApprovalCheckingMultipleCandidates": 7}}, 3, "0x" + "11" * 64)]},
        {"statements": [({"Invalid": "Explicit", "Valid": "Explicit"}, 3, "0x" + "11" * 64)]},
        {"statements": [({"Invalid": "Explicit"}, 3, "0x" + "11" * 63)]},
        {"statements": [({"Invalid": "Explicit"}, 3, "0x" + "zz" * 64)]},
        {"statements": [({"Invalid": "Explicit"}, 2**32, "0x" + "11" * 64)]},
        {"more": 1},
    ],
    ids=str,
)
def test_a_set_of_statements_of_another_form_is_unreadable(change: dict[str, Any]) -> None:
    assert statement_sets({"disputes": [GOOD]})[0].votes == [Vote(3, VoteKind.EXPLICIT_INVALID, b"\x11" * 64)]
    with pytest.raises(Unreadable):
        statement_sets({"disputes": [{**GOOD, **change}]})


@pytest.mark.parametrize("value", [None, [], {}, {"disputes": 1}, {"disputes": [None]}], ids=str)
def test_an_inherent_of_another_form_is_unreadable(value: Any) -> None:
    with pytest.raises(Unreadable):
        statement_sets(value)


@pytest.mark.parametrize("value", [None, {}, {"validators": []}, {"validators": ["0x11"]}, {"validators": ["0x" + "11" * 32] * 3001}])
def test_a_session_of_another_form_is_unreadable(value: Any) -> None:
    with pytest.raises(Unreadable):
        validators_of(value)


def test_a_descriptor_of_other_fields_is_unreadable() -> None:
    with pytest.raises(Unreadable, match="descriptor of the fields para_id, seat"):
        receipt_of({"descriptor": {"para_id": 1, "seat": 2}, "commitments_hash": "0x" + "00" * 32})


def test_no_command_is_made_with_anothers_receipt_or_another_relay_parent() -> None:
    cast = votes(VoteKind.BACKING_VALID)
    with pytest.raises(Unreadable, match="no receipt of candidate"):
        list(bundles(StatementSet(bytes(32), 1, cast, frozenset()), RECEIPT, 1))
    with pytest.raises(Unreadable, match="another relay parent"):
        list(bundles(StatementSet(CANDIDATE, 1, cast, frozenset({bytes(32)})), RECEIPT, 1))


# ------------------------------------------------------------------------------------------------ headers


def test_a_headers_hash_is_worked_out() -> None:
    chain = RemoteChain()
    block = chain.blocks[chain.grow()]
    assert read_header(block.header, block.hash) == (block.hash, block.parent, 1)
    with pytest.raises(RemoteLies, match="whose hash is"):
        read_header(block.header, bytes(32))


def test_polkadots_first_block_has_the_hash_that_everybody_knows() -> None:
    genesis = {
        "parentHash": "0x" + "00" * 32,
        "number": "0x0",
        "stateRoot": "0x29d0d972cd27cbc511e9589fcb7a4506d5eb6a9e8df205f00472e5ab354a4e17",
        "extrinsicsRoot": "0x03170a2e7597b7b7e3d84c05391d139a62b157e78786d8c082f29dcf4c111314",
        "digest": {"logs": []},
    }
    assert read_header(genesis).hash.hex() == "91b171bb158e2d3848fa23a9f1c25182fb8e20313b2c1eb49219da7a70ce90c3"


@pytest.mark.parametrize(
    "change",
    [
        {"parentHash": "0x00"},
        {"parentHash": None},
        {"number": 7},
        {"number": "0xzz"},
        {"number": "0x1ffffffff"},
        {"number": "-0x1"},
        {"stateRoot": "00" * 32},
        {"digest": None},
        {"digest": {"logs": "0x00"}},
        {"digest": {"logs": ["0x0"]}},
        {"digest": {"logs": ["0x00"] * 65}},
        {"digest": {"logs": ["0x" + "00" * 300_000]}},
    ],
    ids=lambda change: str(change)[:40],
)
def test_a_header_of_another_form_is_a_lie(change: dict[str, Any]) -> None:
    chain = RemoteChain()
    header = chain.blocks[chain.grow()].header
    with pytest.raises(RemoteLies):
        read_header({**header, **change})
