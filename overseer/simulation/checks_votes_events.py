"""What the votes database's journal says, as plain tuples, so that it can be held against a model that knows no events."""

from collections.abc import Iterator

from messages.message import Message
from messages.polkadot import Scheme, TransactionKind, VoteKind
from messages.votes_db import DisputeStatusChanged, DoubleVoteSeen, SessionsPruned
from messages.votes_db_journal import (
    CandidateOpened,
    CascadeTold,
    ChallengeEnded,
    ChallengeRaised,
    DisputeDetected,
    DisputeResolved,
    GossipHeld,
    GossipReleased,
    PackedVotes,
    SessionOpened,
    TransactionsIssued,
    VotesImported,
)

__all__ = ["Outcome", "observed"]

# Its first element says what it is.
Outcome = tuple[object, ...]

_KINDS = {
    "V": VoteKind.EXPLICIT_VALID,
    "I": VoteKind.EXPLICIT_INVALID,
    "S": VoteKind.BACKING_SECONDED,
    "B": VoteKind.BACKING_VALID,
    "A": VoteKind.APPROVAL,
    "M": VoteKind.APPROVAL_MULTIPLE,
}
_SCHEMES = (Scheme.SR25519, Scheme.ED25519)
_ENTRY_BYTES = 33


def _votes(packed: PackedVotes) -> Iterator[tuple[int, VoteKind, bytes, tuple[bytes, ...]]]:
    several = iter(packed.several)
    for place, (validator, letter) in enumerate(zip(packed.validators, packed.kinds, strict=True)):
        kind = _KINDS[letter]
        named = tuple(next(several)) if kind is VoteKind.APPROVAL_MULTIPLE else ()
        yield validator, kind, packed.signatures[64 * place : 64 * place + 64], named


def observed(event: Message) -> Iterator[Outcome]:
    """The outcomes that one event stands for; none for what is the database's own affair."""
    match event:
        case VotesImported():
            key = (event.session, event.candidate)
            yield from (("vote", *key, *vote) for vote in _votes(event.votes))
            yield from (("slot", *key, validator) for validator in event.slots)
        case TransactionsIssued():
            key = (event.session, event.candidate)
            for word, votes in ((TransactionKind.REWARD.value, event.rewards), (TransactionKind.SLASH.value, event.slashes)):
                for validator, kind, signature, _ in _votes(votes):
                    yield (word, *key, validator, event.verdict, kind, signature)
        case DisputeResolved():
            sides = zip(event.validators, event.valid_kinds, event.invalid_kinds, strict=True)
            voters = tuple((v, pro != "-", cons != "-") for v, pro, cons in sides)
            yield ("resolved", event.session, event.candidate, event.valid, voters)
        case DisputeDetected():
            yield ("detected", event.session, event.candidate, event.contradicting, event.gossip is not None)
        case SessionOpened():
            data = event.validators
            entries = [data[at : at + _ENTRY_BYTES] for at in range(0, len(data), _ENTRY_BYTES)]
            yield ("session", event.session, tuple((_SCHEMES[e[0]], e[1:]) for e in entries), event.current, event.oldest)
        case DisputeStatusChanged():
            yield ("status", event.session, event.candidate, event.status, event.previous)
        case GossipHeld():
            yield ("held", event.dispute.session_index, event.dispute.candidate_hash)
        case GossipReleased():
            yield ("released", event.session, event.candidate, event.refused)
        case CandidateOpened():
            yield ("opened", event.session, event.candidate, event.known, event.validators)
        case DoubleVoteSeen():
            yield ("double", event.session, event.candidate, event.validator)
        case SessionsPruned():
            yield ("pruned", event.through)
        case ChallengeRaised():
            yield ("challenged", event.session, event.candidate)
        case ChallengeEnded():
            yield ("lifted", event.session, event.candidate)
        case CascadeTold():
            yield ("cascade", event.session, event.candidate)
        case _:
            pass
