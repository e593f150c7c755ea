"""What the world is told of each event."""

from collections.abc import Iterable

from messages.chain_api import SubmitTransaction
from messages.dispute_conclusion import Challenged, ChallengeLifted, Detection, Resolution, Voter
from messages.message import Message
from messages.polkadot import Transaction, TransactionKind
from messages.votes_db import Dispute, DisputeStatusChanged, DoubleVoteSeen, SessionsPruned
from messages.votes_db_journal import (
    ChallengeEnded,
    ChallengeRaised,
    DisputeDetected,
    DisputeResolved,
    PackedVotes,
    TransactionsIssued,
    VotesImported,
)
from subsystems.votes_db.packing import KIND, to_votes

__all__ = ["react"]


def react(event: Message) -> Iterable[Message]:
    """The messages that follow from one event, in order; a fact is told as it was recorded."""
    match event:
        # By far the most frequent, and told to nobody, comes first.
        case VotesImported():
            return ()
        case DisputeDetected():
            return _detection(event)
        case ChallengeRaised():
            return (Challenged(session=event.session, candidate=event.candidate),)
        case ChallengeEnded():
            return (ChallengeLifted(session=event.session, candidate=event.candidate),)
        case DisputeResolved():
            return (_resolution(event),)
        case TransactionsIssued():
            rewards = _transactions(event, TransactionKind.REWARD, event.rewards)
            return (SubmitTransaction(transactions=rewards + _transactions(event, TransactionKind.SLASH, event.slashes)),)
        case DoubleVoteSeen() | DisputeStatusChanged() | SessionsPruned():
            return (event,)
        case _:
            return ()


def _detection(event: DisputeDetected) -> Iterable[Message]:
    votes = to_votes(event.votes)
    yield Detection(
        session=event.session,
        candidate=event.candidate,
        block_number=event.block_number,
        contradicting=event.contradicting,
        votes=votes,
        voted_candidates=event.voted_candidates,
    )
    if event.gossip is not None:
        yield Dispute(
            candidate=event.gossip,
            candidate_hash=event.candidate,
            block_number=event.block_number,
            session_index=event.session,
            votes=votes,
        )


def _resolution(event: DisputeResolved) -> Resolution:
    kinds = zip(event.validators, event.valid_kinds, event.invalid_kinds, strict=True)
    voters = [Voter(validator, KIND.get(ord(valid)), KIND.get(ord(invalid))) for validator, valid, invalid in kinds]
    return Resolution(session=event.session, candidate=event.candidate, valid=event.valid, voters=voters)


def _transactions(event: TransactionsIssued, kind: TransactionKind, votes: PackedVotes) -> list[Transaction]:
    return [
        Transaction(kind, event.session, event.candidate, vote.validator, event.verdict, vote.kind, vote.signature, vote.candidates)
        for vote in to_votes(votes)
    ]
