"""Malicious operators: bytes, headers and commands that nobody may send. All of it must be refused."""

import json
from collections.abc import Iterator

import cbor2
import msgspec

from messages.chain_api import Blacklist, Descendants, GroupJudged, GroupVerdict, LiftRevert, Revert, SubmitTransaction
from messages.codec import BODY_BYTES_MAX, encode
from messages.dispute_conclusion import Challenged, ChallengeLifted, DescendantsAnswer, Detection, Resolution
from messages.message import CATALOG, Kind, Message, Spec
from messages.polkadot import DisputeRef
from messages.subjects import CONTENT_JSON, HEADER_COMMAND_ID, HEADER_CONTENT_TYPE, HEADER_ID, HEADER_SCHEMA
from messages.text import to_json
from overseer.simulation.byzantine import MALLORY, Mischief, variant
from overseer.simulation.disputes_votes import bundle, candidate

__all__ = ["commands"]

_OWNERS = ("votes_db", "dispute_conclusion", "chain_api")


def commands() -> Iterator[Spec]:
    """All commands of the subsystems that play."""
    return (spec for spec in CATALOG if spec.kind is Kind.COMMAND and spec.owner in _OWNERS)


def _valid(does: Mischief) -> Message:
    """A message that would be taken if it came in a proper form."""
    about = does.dispute
    return bundle(candidate(500), about.session, does.plan.keys(about.session), about.ballots)


@variant
def garbage_at_every_subject(does: Mischief) -> None:
    for spec in commands():
        for size in (0, 1, does.random.randrange(2, 200)):
            does.command(spec.owner, spec.name, does.random.randbytes(size))


@variant
def unknown_and_missing_fields(does: Mischief) -> None:
    for spec in commands():
        does.command(spec.owner, spec.name, cbor2.dumps({"surprise": 1}, canonical=True))
        does.command(spec.owner, spec.name, cbor2.dumps({}, canonical=True))
    whole = cbor2.loads(encode(_valid(does)))
    does.command("votes_db", "register_vote", cbor2.dumps({**whole, "surprise": None}, canonical=True))
    for name in ("candidate", "session_index"):
        does.command("votes_db", "register_vote", cbor2.dumps({k: v for k, v in whole.items() if k != name}, canonical=True))


@variant
def huge_bodies(does: Mischief) -> None:
    """As large as a body may be, and a few bytes that claim to be more. (What is larger the bus refuses: tests/ports/bus.)"""
    for size in (BODY_BYTES_MAX - 1, BODY_BYTES_MAX):
        does.command("votes_db", "register_vote", bytes(size))
    does.command("chain_api", "import_block", b"\x9b\x00\x00\x00\x7f\xff\xff\xff\xff")


@variant
def other_forms_of_one_value(does: Mischief) -> None:
    """Good messages in CBOR that is not the one form of them."""
    body = encode(_valid(does))
    whole = cbor2.loads(body)
    unsorted = dict(sorted(whole.items(), reverse=True))
    wide = b"\xb9" + len(whole).to_bytes(2, "big") + body[1:]
    twice = bytes([body[0] + 1]) + body[1:] + cbor2.dumps("pov") + b"\xf6"
    for other in (cbor2.dumps(unsorted), wide, twice, body + b"\x00", b"\xbf" + body[1:] + b"\xff", b"\xd9\xd9\xf7" + body):
        does.command("votes_db", "register_vote", other)


@variant
def json_bombs(does: Mischief) -> None:
    """JSON that is deep, wide, doubled, of numbers without an end, or no JSON at all."""
    good = to_json(_valid(does))
    bombs = (
        b"[" * 5_000,
        b'{"a":' * 500 + b"1" + b"}" * 500,
        json.dumps({"candidate": [0] * 20_000}).encode(),
        good[:-1] + b',"session_index":1}',
        good.replace(b'"session_index": ', b'"session_index": 1e309, "x": '),
        b'{"hash": "0x' + b"0" * 63 + b'"}',
        b"\xff\xfe{}",
        b'{"session_index": ' + b"9" * 4_000 + b"}",
    )
    for bomb in bombs:
        does.command("votes_db", "register_vote", bomb, {HEADER_CONTENT_TYPE: CONTENT_JSON})


@variant
def forged_headers(does: Mischief) -> None:
    """Schema, content type and command ids that are none. (Whose a message is, is said by its subject, not by a header.)"""
    body = encode(_valid(does))
    for headers in (
        {HEADER_SCHEMA: "99"},
        {HEADER_SCHEMA: "-1"},
        {HEADER_SCHEMA: "one"},
        {HEADER_CONTENT_TYPE: "text/html"},
        {HEADER_COMMAND_ID: "x" * 200},
        {HEADER_COMMAND_ID: "a\x07b"},
    ):
        does.command("votes_db", "register_vote", body, headers)


@variant
def usurped_commands(does: Mischief) -> None:
    """What only a subsystem may ask of another, asked by an operator who claims to be one."""
    cause = DisputeRef(session=1, candidate=candidate(600).hash)
    victims = does.plan.main[1:3]
    about = (1, candidate(600).hash)
    forged: list[Message] = [
        Blacklist(roots=victims, cause=cause),
        Blacklist(roots=does.plan.main[-1:], cause=cause),
        Revert(blocks=victims, cause=cause),
        LiftRevert(blocks=victims, cause=cause),
        Descendants(block=victims[0]),
        SubmitTransaction(transactions=[]),
        GroupJudged(block=victims[0], transaction=bytes(32), verdict=GroupVerdict.ACCEPTED),
        Detection(session=about[0], candidate=about[1], block_number=1, contradicting=0, votes=[], voted_candidates=[]),
        Challenged(session=about[0], candidate=about[1]),
        ChallengeLifted(session=about[0], candidate=about[1]),
        Resolution(session=about[0], candidate=about[1], valid=False, voters=[]),
        DescendantsAnswer(block=victims[0], hashes=[], page=0, last=True),
    ]
    claims = {"chain_api": "dispute_conclusion", "dispute_conclusion": "votes_db"}
    for message in forged:
        spec = message.spec
        who = claims[spec.owner]
        headers = does.random.choice(({}, {HEADER_ID: f"{who} {'0e' * 16} 7 0"}, {HEADER_COMMAND_ID: f"mallory-{spec.name}"}))
        does.command(spec.owner, spec.name, encode(message), headers)


@variant
def awaited_usurpation(does: Mischief) -> None:
    """The same by the way of those who wait for an outcome."""
    cause = DisputeRef(session=1, candidate=candidate(600).hash)
    for message in (Blacklist(roots=does.plan.main[1:2], cause=cause), Revert(blocks=does.plan.main[1:2], cause=cause)):
        does.ask(message, sender=MALLORY)


@variant
def wrong_types(does: Mischief) -> None:
    """Every field of a good message in turn as something that it cannot be."""
    whole = msgspec.to_builtins(_valid(does), builtin_types=(bytes,))
    wrongs: tuple[int | str | bool, ...] = (-1, 2**40, "text", True)
    for name in whole:
        for wrong in wrongs:
            does.command("votes_db", "register_vote", cbor2.dumps({**whole, name: wrong}, canonical=True))
