"""Decoded values of a relay chain, by their names, into our types: pure, and strict where a name or a form is another than known.

Values are as the SCALE library gives them: structs are objects, enums a name or {name: fields}, fixed bytes `0x` text.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

from messages.chain_api import VALIDATORS_PER_SESSION_MAX
from messages.polkadot import CandidateDescriptor, CandidateReceipt, Scheme, Validator, Vote, VoteKind
from messages.scale import candidate_hash
from messages.votes_db import VOTES_PER_BUNDLE_MAX, RegisterVote
from overseer.feeds.substrate.troubles import Unreadable

__all__ = ["StatementSet", "bundles", "receipt_of", "statement_sets", "validators_of"]

_HASHES = ("relay_parent", "persisted_validation_data_hash", "pov_hash", "erasure_root", "para_head", "validation_code_hash")
_V1 = {"para_id", *_HASHES, "collator", "signature"}
_V2 = {"para_id", *_HASHES, "version", "core_index", "session_index", "reserved1", "reserved2"}
_VALID_KINDS = {
    "Explicit": VoteKind.EXPLICIT_VALID,
    "BackingSeconded": VoteKind.BACKING_SECONDED,
    "BackingValid": VoteKind.BACKING_VALID,
    "ApprovalChecking": VoteKind.APPROVAL,
    "ApprovalCheckingMultipleCandidates": VoteKind.APPROVAL_MULTIPLE,
}
_BACKING = (VoteKind.BACKING_SECONDED, VoteKind.BACKING_VALID)
# Bytes of the votes of one message: far below what a message may carry.
_BUNDLE_BYTES_MAX = 256 * 1024
_VOTE_BYTES = 96


class StatementSet(NamedTuple):
    """The votes on one candidate that a block carries. `relay_parents`: those that its backing votes name."""

    candidate: bytes
    session: int
    votes: list[Vote]
    relay_parents: frozenset[bytes]


def receipt_of(value: Any) -> CandidateReceipt:
    """A plain candidate receipt with a descriptor of version 1 or 2: both are the same 292 bytes. Raises Unreadable."""
    receipt = _struct(value, {"descriptor", "commitments_hash"}, "a candidate receipt")
    fields = _mapping(receipt["descriptor"], "a candidate descriptor")
    names = set(fields)
    if names == _V1:
        collator, signature = _bytes(fields["collator"], 32, "collator"), _bytes(fields["signature"], 64, "signature")
    elif names == _V2:
        numbers = [(fields["version"], 1), (fields["core_index"], 2), (fields["session_index"], 4)]
        collator = b"".join(_number(n, size).to_bytes(size, "little") for n, size in numbers) + _bytes(fields["reserved1"], 25, "reserved1")
        signature = _bytes(fields["reserved2"], 64, "reserved2")
    else:
        raise Unreadable(f"a candidate descriptor of the fields {', '.join(sorted(names))}"[:300])
    hashes = {name: _bytes(fields[name], 32, name) for name in _HASHES}
    descriptor = CandidateDescriptor(para_id=_number(fields["para_id"], 4), collator=collator, signature=signature, **hashes)
    return CandidateReceipt(descriptor=descriptor, commitments_hash=_bytes(receipt["commitments_hash"], 32, "commitments_hash"))


def validators_of(value: Any) -> list[Validator]:
    """The keys by which a session's validators vote, by index. Raises Unreadable."""
    keys = _mapping(value, "a session").get("validators")
    if not isinstance(keys, (list, tuple)) or not keys:
        raise Unreadable("a session without validators")
    if len(cast(list[Any], keys)) > VALIDATORS_PER_SESSION_MAX:
        raise Unreadable(f"a session of {len(cast(list[Any], keys))} validators")
    return [Validator(_bytes(key, 32, "a validator's key"), Scheme.SR25519) for key in cast(list[Any], keys)]


def statement_sets(inherent: Any) -> list[StatementSet]:
    """The disputes of a parachains inherent. Raises Unreadable."""
    disputes = _mapping(inherent, "the parachains inherent").get("disputes")
    if not isinstance(disputes, (list, tuple)):
        raise Unreadable("a parachains inherent without disputes")
    return [_statement_set(each) for each in cast(list[Any], disputes)]


def _statement_set(value: Any) -> StatementSet:
    fields = _struct(value, {"candidate_hash", "session", "statements"}, "a set of dispute statements")
    candidate, statements = _bytes(fields["candidate_hash"], 32, "candidate_hash"), fields["statements"]
    if not isinstance(statements, (list, tuple)):
        raise Unreadable("dispute statements that are no list")
    votes: list[Vote] = []
    parents: set[bytes] = set()
    for row in cast(list[Any], statements):
        if not isinstance(row, (list, tuple)) or len(cast(list[Any], row)) != 3:
            raise Unreadable("a dispute statement that is not (statement, validator, signature)")
        statement, validator, signature = cast(tuple[Any, Any, Any], row)
        kind, more = _kind(statement)
        hashes: list[bytes] = []
        if kind in _BACKING:
            parents.add(_bytes(more, 32, "relay parent"))
        elif kind is VoteKind.APPROVAL_MULTIPLE:
            hashes = [_bytes(each, 32, "candidate hash") for each in _listed(more)]
        votes.append(Vote(_number(validator, 4), kind, _bytes(signature, 64, "signature"), hashes))
    return StatementSet(candidate, _number(fields["session"], 4), votes, frozenset(parents))


def _kind(statement: Any) -> tuple[VoteKind, Any]:
    """The kind of a statement, and what it carries."""
    side, inner = _variant(statement)
    name, more = _variant(inner)
    if (side, name) == ("Invalid", "Explicit"):
        return VoteKind.EXPLICIT_INVALID, None
    if side != "Valid" or name not in _VALID_KINDS:
        raise Unreadable(f"a dispute statement of the kind {side}.{name}"[:200])
    return _VALID_KINDS[name], more


def bundles(found: StatementSet, receipt: CandidateReceipt, block_number: int) -> Iterator[RegisterVote]:
    """The commands that carry the votes, each of a bounded size. `block_number`: on this node's chain.

    Raises Unreadable for a receipt that is another candidate's, or a backing vote that names another relay parent: what it signs
    cannot be told from the receipt then.
    """
    if candidate_hash(receipt) != found.candidate:
        raise Unreadable(f"no receipt of candidate {found.candidate.hex()}")
    if not found.relay_parents <= {receipt.descriptor.relay_parent}:
        raise Unreadable(f"backing votes on {found.candidate.hex()} that name another relay parent")
    for votes in _portions(found.votes):
        yield RegisterVote(
            candidate=receipt, candidate_hash=found.candidate, block_number=block_number, session_index=found.session, explicit_votes=votes
        )


def _portions(votes: list[Vote]) -> Iterator[list[Vote]]:
    portion: list[Vote] = []
    size = 0
    for vote in votes:
        weight = _VOTE_BYTES + 34 * len(vote.candidates)
        if portion and (size + weight > _BUNDLE_BYTES_MAX or len(portion) == VOTES_PER_BUNDLE_MAX):
            yield portion
            portion, size = [], 0
        portion.append(vote)
        size += weight
    if portion:
        yield portion


# ------------------------------------------------------------------------------------------------ forms


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Unreadable(f"{what} that has no named fields")
    return cast(Mapping[str, Any], value)


def _struct(value: Any, names: set[str], what: str) -> Mapping[str, Any]:
    fields = _mapping(value, what)
    if set(fields) != names:
        raise Unreadable(f"{what} of the fields {', '.join(sorted(fields))}"[:300])
    return fields


def _variant(value: Any) -> tuple[str, Any]:
    if isinstance(value, str):
        return value, None
    if isinstance(value, dict):
        named = cast(Mapping[Any, Any], value)
        if len(named) == 1:
            name, inner = next(iter(named.items()))
            return str(name), inner
    raise Unreadable("an enum that is no name, and no name with a value")


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise Unreadable("hashes that are no list")
    return list(cast(list[Any], value))


def _number(value: Any, size: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << (8 * size):
        raise Unreadable(f"a number that is none of {8 * size} bits: {str(value)[:40]}")
    return value


def _bytes(value: Any, size: int, what: str) -> bytes:
    if isinstance(value, str) and value.startswith("0x"):
        try:
            data = bytes.fromhex(value[2:])
        except ValueError:
            data = b""
        if len(data) == size:
            return data
    raise Unreadable(f"{what} that has not {size} bytes: {str(value)[:40]}")
