"""Each explainer over journals made by hand: votes checked again, ids, what is missing, wrong ones."""

import json
from collections.abc import Sequence

import msgspec
import pytest

from messages.chain_api import BlocksReverted, ImportBlock
from messages.chain_events import BestChainMoved, BlacklistRecorded, BlockRecorded, BlocksMarked, Conviction, GovernanceExited, MarkedRun
from messages.consensus_journal import DealerConvicted, GroupAccepted, HeadMoved
from messages.consensus_manager import Attempt, Identity, Member
from messages.polkadot import DisputeRef, VoteKind
from messages.scale import candidate_hash
from messages.signals import BlockRef
from messages.votes_db_journal import CandidateOpened, ChallengeRaised, DisputeResolved, PackedVotes, SessionOpened, VotesImported
from overseer.feeds.make import make_receipt, make_validators, make_vote
from overseer.history.explaining.blocks import explain_blocks
from overseer.history.explaining.disputes import explain_dispute
from overseer.history.explaining.elections import explain_election
from overseer.history.explaining.groups import explain_group
from overseer.history.explaining.ids import Unknown, chosen
from overseer.history.explaining.items import explain_item
from overseer.history.explaining.positions import explain_message
from overseer.history.explaining.validators import explain_validator
from overseer.history.reasons import Explanation, SignedVote, every
from tests.explain.books import Book, teller_of

KEYS = make_validators("explain", 4, ed25519_every=4)
PARENT = b"\x09" * 32
RECEIPT = make_receipt("explain", para_id=2000, relay_parent=PARENT)
CANDIDATE = candidate_hash(RECEIPT)
ROOT, CHILD, LATER = (bytes([each]) * 32 for each in (0xA1, 0xA2, 0xB3))
LETTERS = {VoteKind.EXPLICIT_INVALID: "I", VoteKind.BACKING_SECONDED: "S", VoteKind.EXPLICIT_VALID: "V"}


def packed(votes: Sequence[tuple[int, VoteKind]], *, forged: bool = False) -> PackedVotes:
    made = [
        make_vote(KEYS[index], index, kind, candidate=CANDIDATE if not forged else PARENT, session=1, relay_parent=PARENT)
        for index, kind in votes
    ]
    return PackedVotes(
        validators=[vote.validator for vote in made],
        kinds="".join(LETTERS[vote.kind] for vote in made),
        signatures=b"".join(vote.signature for vote in made),
    )


def imported(votes: PackedVotes) -> VotesImported:
    return VotesImported(session=1, candidate=CANDIDATE, votes=votes, slots=[], at_ms=1)


SESSION = SessionOpened(
    session=1, validators=b"".join(bytes([key.scheme == "ed25519"]) + key.public for key in KEYS.keys), current=1, oldest=1
)
OPENED = CandidateOpened(session=1, candidate=CANDIDATE, receipt=RECEIPT, pov=None, block_number=5, validators=4, known=True)
RESOLVED = DisputeResolved(session=1, candidate=CANDIDATE, valid=False, validators=[0, 1, 2, 3], valid_kinds="---S", invalid_kinds="III-")
CAUSE = DisputeRef(session=1, candidate=CANDIDATE)


def votes_book(*, forged: bool = False) -> Book:
    """A backing vote, and three against in two messages, the second of which decides."""
    book = Book("votes_db")
    book.command(SESSION, id="")
    opening = packed([(3, VoteKind.BACKING_SECONDED), (0, VoteKind.EXPLICIT_INVALID)])
    book.command(OPENED, imported(opening), id="opening")
    deciding = packed([(1, VoteKind.EXPLICIT_INVALID), (2, VoteKind.EXPLICIT_INVALID)], forged=forged)
    book.command(imported(deciding), ChallengeRaised(session=1, candidate=CANDIDATE), RESOLVED, id="deciding")
    return book


def block(hash: bytes, parent: bytes, number: int, included: Sequence[bytes] = ()) -> ImportBlock:
    return ImportBlock(hash=hash, parent=parent, number=number, session=1, included=list(included))


def key(hash: bytes, number: int) -> bytes:
    return number.to_bytes(4, "big") + hash


def recorded(made: ImportBlock, conviction: int | None = None) -> BlockRecorded:
    return BlockRecorded(block=made, skip=BlockRef(PARENT, 4), convicted_by=conviction)


def moved(reverted: bytes, applied: bytes, best: BlockRef) -> BestChainMoved:
    return BestChainMoved(
        best=best, told=best, search=None, reverted=reverted, applied=applied, returned=[], included=[], page=0, last=True
    )


def chain_book(votes: Book) -> Book:
    """A root at 5 and its child are convicted; one more child comes later."""
    book = Book("chain_api")
    importing = {"sender": "op_feed", "input": "chain_api.cmd.import_block", "id": ""}
    book.command(recorded(block(ROOT, PARENT, 5, [CANDIDATE])), moved(b"", key(ROOT, 5), BlockRef(ROOT, 5)), **importing)
    book.command(recorded(block(CHILD, ROOT, 6)), moved(b"", key(CHILD, 6), BlockRef(CHILD, 6)), **importing)
    conviction = BlacklistRecorded(
        cascade=1, cascade_id=PARENT, cause=CAUSE, convictions=[Conviction(7, ROOT, 5, True)], final=[], governance=None
    )
    marked = BlocksMarked(
        cascade=1, cascade_id=PARENT, roots=[ROOT], cause=CAUSE, runs=[MarkedRun(7, key(ROOT, 5) + key(CHILD, 6))], cursors=[],
        page=0, last=True, count=2, digest=PARENT,
    )  # fmt: skip
    book.heard(votes, 3, conviction, marked, moved(key(CHILD, 6) + key(ROOT, 5), b"", BlockRef(PARENT, 4)))
    book.command(recorded(block(LATER, CHILD, 7), conviction=7), **importing)
    return book


def signed_in(*explanations: Explanation) -> dict[str, SignedVote]:
    found = [each.vote for explanation in explanations for each in every(explanation.reasons) if each.vote is not None]
    return {vote.signature: vote for vote in found}


def texts(*explanations: Explanation) -> str:
    return "\n".join(each.what for explanation in explanations for each in every(explanation.reasons))


# ------------------------------------------------------------------------------------------------ votes and disputes


def test_a_dispute_comes_down_to_the_votes_that_were_signed_each_checked_again() -> None:
    found = explain_dispute(teller_of(votes_book()), f"0x{CANDIDATE.hex()[:6]}")
    votes = signed_in(found)
    expected = {
        f"0x{make_vote(KEYS[index], index, kind, candidate=CANDIDATE, session=1, relay_parent=PARENT).signature.hex()}": (index, kind.value)
        for index, kind in [(3, VoteKind.BACKING_SECONDED), *((index, VoteKind.EXPLICIT_INVALID) for index in range(3))]
    }
    assert {signature: (vote.validator, vote.kind) for signature, vote in votes.items()} == expected
    assert {vote.verifies for vote in votes.values()} == {True}
    assert {vote.key for vote in votes.values()} == {f"0x{key.public.hex()}" for key in KEYS.keys}
    verdict = next(each for each in found.reasons if "decided against" in each.what)
    assert "3 validators found it invalid, 3 of 4 are enough" in verdict.what
    assert [message.command_id for message in verdict.because] == ["opening", "deciding"]


def test_a_vote_whose_signature_is_of_something_else_is_named() -> None:
    votes = signed_in(explain_dispute(teller_of(votes_book(forged=True)), CANDIDATE.hex()))
    assert [vote.validator for vote in votes.values() if vote.verifies is False] == [1, 2]


def test_votes_whose_validators_are_not_known_any_more_are_told_unchecked() -> None:
    book = votes_book()
    book.forget(2)
    found = explain_dispute(teller_of(book), CANDIDATE.hex())
    assert {vote.verifies for vote in signed_in(found).values()} == {None}
    assert found.missing == ["the journal of votes_db begins with record 2: what was before went behind a checkpoint"]


def test_a_dispute_of_another_session_is_not_told() -> None:
    with pytest.raises(Unknown, match="not voted on in session 9") as unknown:
        explain_dispute(teller_of(votes_book()), CANDIDATE.hex(), 9)
    assert unknown.value.remedy == "It was in: 1."


# ------------------------------------------------------------------------------------------------ blocks


@pytest.mark.parametrize(
    ("hash", "why"),
    [
        (ROOT, "blacklisted: it is itself convicted, as it includes candidate"),
        (CHILD, "blacklisted: it descends from block 5 0xa1a1a1a1a1, 1 block before it"),
        (LATER, "blacklisted: it arrived later, and descends from block 5 0xa1a1a1a1a1, 2 blocks before it"),
    ],
)
def test_a_block_is_blacklisted_for_a_root_that_was_convicted_by_votes(hash: bytes, why: str) -> None:
    votes = votes_book()
    (found,) = explain_blocks(teller_of(votes, chain_book(votes)), hash.hex())
    (reason,) = [each for each in found.reasons if each.what.startswith("blacklisted")]
    assert reason.what.startswith(why)
    told = signed_in(msgspec.structs.replace(found, reasons=[reason]))
    assert sorted(vote.validator for vote in told.values()) == [0, 1, 2]
    assert {vote.verifies for vote in told.values()} == {True}


def test_the_path_from_the_root_is_told() -> None:
    votes = votes_book()
    (found,) = explain_blocks(teller_of(votes, chain_book(votes)), LATER.hex())
    (reason,) = [each for each in found.reasons if each.what.startswith("blacklisted")]
    assert reason.about["path"] == " ".join(f"0x{each.hex()}" for each in (ROOT, CHILD, LATER))


def test_a_number_stands_for_all_blocks_of_that_height() -> None:
    votes = votes_book()
    chain = chain_book(votes)
    chain.command(recorded(block(b"\xcc" * 32, ROOT, 6)), sender="op_feed")
    found = explain_blocks(teller_of(votes, chain), "6")
    assert [each.id for each in found] == [f"0x{CHILD.hex()}", f"0x{'cc' * 32}"]
    with pytest.raises(Unknown) as unknown:
        explain_blocks(teller_of(votes, chain), "99")
    assert unknown.value.remedy == "The highest is 7."


def test_a_conviction_behind_a_checkpoint_is_said_to_be_missing() -> None:
    votes = votes_book()
    chain = chain_book(votes)
    chain.forget(4)
    (found,) = explain_blocks(teller_of(votes, chain), LATER.hex())
    assert "the journal of chain_api begins with record 4: what was before went behind a checkpoint" in found.missing
    ends = [each.ends for each in every(found.reasons) if each.what == "the conviction"]
    assert ends == found.missing


def test_a_pardon_and_an_early_revert_are_told() -> None:
    votes = votes_book()
    chain = chain_book(votes)
    chain.heard(votes, 3, BlocksReverted(blocks=[CHILD], cause=CAUSE))
    from messages.chain_api import ResumeMode

    pardon = GovernanceExited(
        entry=1, frozen_at=4, mode=ResumeMode.PARDON, author=PARENT, pardoned=[BlockRef(ROOT, 5)], finalized=BlockRef(ROOT, 5), rescan=[]
    )
    chain.command(pardon, id="resume")
    (found,) = explain_blocks(teller_of(votes, chain), CHILD.hex())
    assert "off the blacklist again: the governance authority pardoned it (entry 1)" in texts(found)
    (reverted,) = [each for each in found.reasons if each.what == "nothing is built on it for now"]
    assert sorted(each.vote.validator for each in every([reverted]) if each.vote) == [0, 1, 2]


# ------------------------------------------------------------------------------------------------ groups and validators


def test_a_group_is_revoked_by_the_votes_against_a_block_before_its_accepting_one() -> None:
    votes = votes_book()
    chain = chain_book(votes)
    members = [Member(index, Identity(key.public, PARENT)) for index, key in enumerate(KEYS.keys)]
    accepted = GroupAccepted(
        block=CHILD, number=6, transaction=PARENT, epoch=2, session=PARENT, attempt=Attempt(1, 5, 0, 0), key=b"\x01" * 48,
        members=members, penalties=[],
    )  # fmt: skip
    groups = Book("consensus_manager")
    groups.heard(chain, 2, accepted)
    groups.heard(chain, 3, HeadMoved(reverted=[BlockRef(CHILD, 6), BlockRef(ROOT, 5)], applied=[]))
    teller = teller_of(votes, chain, groups)
    found = explain_group(teller, "2")
    assert found.id == "2"
    begun, revoked = found.reasons
    assert "accepted it: epoch 2 begins, with validators 0, 1, 2, 3" in begun.what
    assert revoked.what.startswith("revoked: block 6")
    assert sorted({each.vote.validator for each in every([revoked]) if each.vote}) == [0, 1, 2]
    with pytest.raises(Unknown) as unknown:
        explain_group(teller, "5")
    assert unknown.value.remedy == "Accepted groups: there are 2 to 2."
    with pytest.raises(Unknown, match="no epoch"):
        explain_group(teller, "two")


def test_a_validator_is_found_by_key_and_by_its_place_in_a_session() -> None:
    groups = Book("consensus_manager")
    groups.command(DealerConvicted(session=PARENT, dealer=0))
    teller = teller_of(votes_book(), groups)
    by_key = explain_validator(teller, f"0x{KEYS[1].public.hex()[:12]}")
    assert by_key == explain_validator(teller, "1/1")
    assert "voted explicit invalid in the dispute" in texts(by_key)
    assert [vote.validator for vote in signed_in(by_key).values()] == [1]
    for wrong, what in (("1/4", "has no validator 4"), ("7/0", "session 7 has no validator"), ("one/2", "is no validator")):
        with pytest.raises(Unknown, match=what):
            explain_validator(teller, wrong)


# ------------------------------------------------------------------------------------------------ messages, and what is not there


def test_a_message_is_told_with_its_cause_and_its_consequences() -> None:
    votes = votes_book()
    chain = chain_book(votes)
    teller = teller_of(votes, chain)
    found = explain_message(teller, str(votes.position(3)))
    said, led = found.reasons
    assert (said.message, said.command_id, said.ends) == ("votes_db.cmd.register_vote", "deciding", "asked of votes_db by a client")
    assert [each.record for each in every(led.led_to)] == ["n1/votes_db:3", "n1/chain_api:3"]
    caused = explain_message(teller, str(chain.position(3)))
    assert [each.record for each in caused.reasons[0].because] == ["n1/votes_db:3"]
    with pytest.raises(Unknown, match="nobody here recorded anything of message 1000000") as unknown:
        explain_message(teller, "1000000")
    assert "The journals have messages from" in unknown.value.remedy


def test_a_long_chain_of_consequences_is_told_so_deep_and_says_that_there_is_more() -> None:
    books = [Book("votes_db"), Book("chain_api")]
    books[0].command(SESSION)
    for link in range(1, 600):
        said, hears = books[(link - 1) % 2], books[link % 2]
        hears.heard(said, said.head.index, SESSION)
    found = explain_message(teller_of(*books), str(books[0].position(1)))
    chain = list(every(found.reasons[1].led_to))
    assert len(chain) == 101
    assert [each.record for each in chain[:3]] == ["n1/votes_db:1", "n1/chain_api:1", "n1/votes_db:2"]
    assert (chain[-1].what, chain[-1].record) == ("and more: 100 levels are told", "")
    # As deep as it is, it can be printed.
    assert len(json.dumps(msgspec.to_builtins(found))) > 10_000


def test_a_chain_that_ends_at_the_last_level_that_is_told_says_nothing_of_more() -> None:
    books = [Book("votes_db"), Book("chain_api")]
    books[0].command(SESSION)
    for link in range(1, 100):
        said, hears = books[(link - 1) % 2], books[link % 2]
        hears.heard(said, said.head.index, SESSION)
    found = explain_message(teller_of(*books), str(books[0].position(1)))
    assert [each.record for each in every(found.reasons[1].led_to)][-1] == "n1/chain_api:50"


def test_wrong_ids_get_a_near_match() -> None:
    teller = teller_of(votes_book())
    with pytest.raises(Unknown) as unknown:
        explain_dispute(teller, f"0x{CANDIDATE.hex()[:4]}00000")
    assert f"Did you mean 0x{CANDIDATE.hex()[:16]}?" in unknown.value.remedy
    with pytest.raises(Unknown, match="no hash"):
        explain_dispute(teller, "xyz")
    with pytest.raises(Unknown, match="names no item"):
        explain_item(teller, "ingestion")
    with pytest.raises(Unknown) as unknown:
        explain_election(teller, "mayor")
    assert unknown.value.remedy == "This node has no elections."


def test_the_beginning_of_a_hash_is_enough_where_it_is_the_only_one() -> None:
    known = [b"\x12\x34" + bytes(30), b"\x12\x35" + bytes(30)]
    assert chosen("0x1234", known, "block", "") == known[0]
    assert chosen("0X12350", known, "block", "") == known[1]
    with pytest.raises(Unknown, match="2 blocks begin with 0x12") as unknown:
        chosen("0x12", known, "block", "")
    assert unknown.value.remedy == "Give more digits: 0x12340000, 0x12350000."
