"""What a story waits for, and what it asks at its end: queries with the answer that must come."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from messages.chain_api import (
    Best,
    BlacklistStatus,
    Finalized,
    GovernanceReport,
    GovernanceStatus,
    Header,
    ImportBlock,
    IsBlacklisted,
    PendingTransactions,
    Session,
    SessionValidators,
    TransactionPool,
)
from messages.dispute_conclusion import Conclusion, ConclusionState, GetConclusion
from messages.message import Message
from messages.signals import GovernanceState
from messages.votes_db import (
    CandidateHashes,
    Candidates,
    QueryBySession,
    QueryByValidatorId,
    QueryVotes,
    VotesSnapshot,
)
from overseer.feeds.story import Await, DisputeKey, Expected

__all__ = ["best_is", "blacklisted", "concluded", "governance", "pooled", "questions", "session_known"]

_R = TypeVar("_R", bound=Message)
_POOL_PAGE = 500
# How many validators are asked about by their key: each answer lists all that they voted on.
_VALIDATORS_ASKED = 4


def _answer(kind: type[_R], holds: Callable[[_R], bool]) -> Callable[[Message], bool]:
    """True of an answer of that type for which `holds`; a rejection is False."""
    return lambda answer: isinstance(answer, kind) and holds(answer)


def session_known(index: int) -> Await:
    return Await(f"session {index} has started", Session(index=index), _answer(SessionValidators, lambda a: a.index == index))


def concluded(key: DisputeKey, state: ConclusionState) -> Await:
    """The process that follows the dispute has come to `state`."""
    query = GetConclusion(session=key[0], candidate=key[1])
    return Await(f"dispute {key[1].hex()[:8]} is {state.value}", query, _answer(Conclusion, lambda a: a.state is state))


def pooled(total: int) -> Await:
    return Await(
        f"{total} transactions wait in the pool",
        PendingTransactions(limit=1),
        _answer(TransactionPool, lambda a: a.total == total),
    )


def blacklisted(block: bytes, *, yes: bool = True) -> Await:
    what = f"block {block.hex()[:8]} is {'' if yes else 'not '}blacklisted"
    return Await(what, IsBlacklisted(hash=block), _answer(BlacklistStatus, lambda a: a.blacklisted is yes))


def best_is(block: bytes) -> Await:
    return Await(f"the best block is {block.hex()[:8]}", Best(), _answer(Header, lambda a: a.hash == block))


def governance(state: GovernanceState, entry: int) -> Await:
    return Await(
        f"governance mode {entry} is {state.value}",
        GovernanceStatus(),
        _answer(GovernanceReport, lambda a: a.state is state and a.entry == entry),
    )


def questions(expected: Expected, blocks: Iterable[ImportBlock]) -> list[Await]:
    """All that can be seen of `expected` by queries."""
    return [
        best_is(expected.best),
        Await("the finalized block", Finalized(), _answer(Header, lambda a: a.hash == expected.finalized)),
        governance(expected.governance, expected.governance_entries),
        *(_session(index, expected) for index in expected.sessions),
        *(blacklisted(b.hash, yes=b.hash in expected.blacklisted) for b in blocks),
        pooled(len(expected.pending)),
        *_pool_pages(sorted(expected.pending)),
        *(_votes(key, expected) for key in expected.votes),
        *(concluded(key, state) for key, state in expected.conclusions.items()),
        *(_by_session(index, expected) for index in expected.sessions),
        *(_by_validator(key, expected) for key in _validators_asked(expected)),
    ]


def _session(index: int, expected: Expected) -> Await:
    holds = _answer(SessionValidators, lambda a: a.validators == expected.sessions[index])
    return Await(f"the validators of session {index}", Session(index=index), holds)


def _pool_pages(ids: list[bytes]) -> list[Await]:
    pages: list[Await] = []
    for at in range(0, len(ids), _POOL_PAGE):
        page = ids[at : at + _POOL_PAGE]
        query = PendingTransactions(after=ids[at - 1] if at else None, limit=_POOL_PAGE)
        pages.append(Await(f"the pool's transactions from {at}", query, _answer(TransactionPool, _lists(page))))
    return pages


def _lists(page: list[bytes]) -> Callable[[TransactionPool], bool]:
    return lambda a: [t.id for t in a.transactions] == page


def _votes(key: DisputeKey, expected: Expected) -> Await:
    pro, cons = expected.votes[key]

    def holds(a: VotesSnapshot) -> bool:
        return a.pro == sorted(pro) and a.cons == sorted(cons) and a.status is expected.statuses[key]

    return Await(f"the votes on {key[1].hex()[:8]}", QueryVotes(session=key[0], candidate=key[1]), _answer(VotesSnapshot, holds))


def _by_session(index: int, expected: Expected) -> Await:
    hashes = {candidate for session, candidate in expected.votes if session == index}
    return Await(
        f"the candidates voted on in session {index}",
        QueryBySession(session=index),
        _answer(CandidateHashes, lambda a: len(a.hashes) == len(hashes) and set(a.hashes) == hashes),
    )


def _validators_asked(expected: Expected) -> list[bytes]:
    """Validators of the first session: those listed last have another index in the second, or none (D27)."""
    first = expected.sessions[min(expected.sessions)]
    return [v.key for v in first[-_VALIDATORS_ASKED:]]


def _by_validator(validator: bytes, expected: Expected) -> Await:
    voted = {
        (session, candidate)
        for (session, candidate), (pro, cons) in expected.votes.items()
        if any(expected.sessions[session][index].key == validator for index in pro | cons)
    }
    return Await(
        f"what validator {validator.hex()[:8]} voted on",
        QueryByValidatorId(validator_id=validator),
        _answer(Candidates, lambda a: len(a.candidates) == len(voted) and {(c.session, c.candidate) for c in a.candidates} == voted),
    )
