"""Messages and questions that the tests of `dispute_conclusion` are written in."""

import hashlib

from messages.chain_api import BlockImported
from messages.dispute_conclusion import (
    Challenged,
    ChallengeLifted,
    Conclusion,
    ConclusionState,
    DescendantsAnswer,
    Detection,
    GetConclusion,
    Resolution,
    Voter,
)
from messages.message import Message
from messages.polkadot import DisputeRef, Validator, Vote, VoteKind
from messages.signals import BlocksBlacklisted, SessionChange
from overseer.testing.given import Given, Then
from subsystems.dispute_conclusion.declaration import Config
from subsystems.dispute_conclusion.subsystem import DisputeConclusion


def h(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=32).digest()


SESSION = 5
CANDIDATE = h("candidate")
CAUSE = DisputeRef(session=SESSION, candidate=CANDIDATE)
VOTERS = [
    Voter(0, VoteKind.BACKING_SECONDED, None),
    Voter(1, VoteKind.APPROVAL, VoteKind.EXPLICIT_INVALID),
    Voter(2, None, VoteKind.EXPLICIT_INVALID),
]


def given(**config: bool | int) -> Given:
    return Given(DisputeConclusion(Config(**config)))  # type: ignore[arg-type]


def block(name: str, *candidates: bytes, number: int = 1, session: int = SESSION, blacklisted: bool = False) -> BlockImported:
    return BlockImported(
        hash=h(name),
        parent=h("parent of " + name),
        number=number,
        session=session,
        backed=[],
        included=list(candidates),
        blacklisted=blacklisted,
    )


def detection(candidate: bytes = CANDIDATE, session: int = SESSION) -> Detection:
    votes = [
        Vote(0, VoteKind.BACKING_SECONDED, bytes(64)),
        Vote(1, VoteKind.APPROVAL, bytes(64)),
        Vote(1, VoteKind.EXPLICIT_INVALID, bytes(64)),
    ]
    return Detection(session=session, candidate=candidate, block_number=1, contradicting=1, votes=votes, voted_candidates=[h("other")])


def challenged() -> Challenged:
    return Challenged(session=SESSION, candidate=CANDIDATE)


def lifted() -> ChallengeLifted:
    return ChallengeLifted(session=SESSION, candidate=CANDIDATE)


def resolution(valid: bool, candidate: bytes = CANDIDATE) -> Resolution:
    return Resolution(session=SESSION, candidate=candidate, valid=valid, voters=VOTERS)


def answer(name: str, count: int = 0, *, page: int = 0, last: bool = True, known: bool = True) -> DescendantsAnswer:
    hashes = [h(f"{name} {page} {i}") for i in range(count)]
    return DescendantsAnswer(block=h(name), hashes=hashes, page=page, last=last, known=known)


def cascade(*names: str, hashes: tuple[bytes, ...] = (), cause: DisputeRef = CAUSE) -> BlocksBlacklisted:
    roots = [h(name) for name in names]
    return BlocksBlacklisted(
        cascade=h("cascade"), roots=roots, hashes=[*roots, *hashes], cause=cause, page=0, last=True, count=len(roots), digest=h("all")
    )


def session_change(index: int) -> SessionChange:
    return SessionChange(index=index, validators=[Validator(bytes(32))])


def conclusion(node: Given, candidate: bytes = CANDIDATE) -> Conclusion:
    reply = node.ask(GetConclusion(session=SESSION, candidate=candidate))
    assert isinstance(reply, Conclusion)
    return reply


def state(node: Given, candidate: bytes = CANDIDATE) -> ConclusionState:
    return conclusion(node, candidate).state


def nothing(then: Then) -> bool:
    return not then.events and not then.sent


def all_sent(node: Given, kind: type[Message]) -> list[Message]:
    """What the whole history told the world, of one type."""
    return [m for event in node.history for m in node.subsystem.react(event) if isinstance(m, kind)]
