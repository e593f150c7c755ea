"""Why a dispute came out as it did: every signed vote, what they came to, and what followed."""

from collections.abc import Sequence

from messages.chain_api import BlocksReverted, RevertLifted
from messages.chain_events import BlacklistRecorded
from messages.dispute_conclusion import (
    BlacklistRequested,
    BlacklistSeen,
    ChallengeLiftRecorded,
    ChallengeRecorded,
    ConclusionConcluded,
    DetectionRecorded,
    ResolutionRecorded,
    RevertAsked,
)
from messages.message import Message
from messages.polkadot import Side
from messages.votes_db import DisputeStatusChanged, DoubleVoteSeen
from messages.votes_db_journal import (
    CandidateOpened,
    ChallengeEnded,
    ChallengeRaised,
    DisputeDetected,
    DisputeResolved,
    GossipHeld,
    GossipReleased,
    TransactionsIssued,
    VotesImported,
)
from overseer.history.explaining.ids import Unknown, beginning, chosen
from overseer.history.explaining.sentences import counted, of_dispute
from overseer.history.explaining.trail import Teller
from overseer.history.explaining.votes import Cast, cast_in, vote_reason
from overseer.history.reasons import Explanation, Reason, hexed, short
from overseer.history.trails import Found

__all__ = ["challenge", "disputed", "explain_dispute", "verdict"]

_COURSE: tuple[type[Message], ...] = (
    GossipHeld,
    GossipReleased,
    DisputeDetected,
    ChallengeRaised,
    ChallengeEnded,
    DisputeStatusChanged,
    DoubleVoteSeen,
    TransactionsIssued,
)
_FOLLOWED: tuple[type[Message], ...] = (
    DetectionRecorded,
    ChallengeRecorded,
    ChallengeLiftRecorded,
    RevertAsked,
    ResolutionRecorded,
    BlacklistRequested,
    BlacklistSeen,
    ConclusionConcluded,
)
_BY_CHAIN: tuple[type[Message], ...] = (BlocksReverted, RevertLifted, BlacklistRecorded)


def explain_dispute(teller: Teller, text: str, session: int | None = None) -> Explanation:
    """`text`: the candidate's hash, or the beginning of it. Raises Unknown."""
    node = teller.node
    # Those that begin otherwise are looked at only to find what was meant.
    known = disputed(teller, beginning(text)) or disputed(teller)
    candidate = chosen(text, {each for _, each in known}, "disputed candidate", "See `overseer dispute list`.")
    sessions = sorted(index for index, each in known if each == candidate)
    if session is not None and session not in sessions:
        raise Unknown(f"{short(candidate)} was not voted on in session {session}", f"It was in: {', '.join(map(str, sessions))}.")
    reasons: list[Reason] = []
    for index in sessions if session is None else [session]:
        reasons += [*_votes(teller, index, candidate), *_course(teller, index, candidate)]
    missing = node.shortened("votes_db", "dispute_conclusion")
    return Explanation(kind="dispute", id=hexed(candidate), node=node.name, reasons=reasons, missing=missing)


def disputed(teller: Teller, begins: bytes = b"") -> set[tuple[int, bytes]]:
    """Every (session, candidate) that was voted on, and whose hash begins so."""
    found: set[tuple[int, bytes]] = set()
    for each in teller.node.find("votes_db", [CandidateOpened, VotesImported], begins):
        match each.event:
            case CandidateOpened(session=session, candidate=candidate) | VotesImported(session=session, candidate=candidate):
                if candidate.startswith(begins):
                    found.add((session, candidate))
            case _:
                pass
    return found


# ------------------------------------------------------------------------------------------------ why it is decided so


def verdict(teller: Teller, session: int, candidate: bytes, *, valid: bool = False) -> Reason:
    """Why a dispute was decided for or against the candidate: by which signed votes, in which messages."""
    resolved = _resolved(teller, session, candidate, valid)
    side = "valid" if valid else "invalid"
    about = {"candidate": hexed(candidate), "session": str(session)}
    if resolved is None:
        gone = teller.node.cut_short("votes_db") or "votes_db has no record of it"
        return Reason(what=f"{of_dispute(session, candidate)} was decided, by votes that are not told here", about=about, ends=gone)
    until = resolved.place.index
    votes = [
        cast
        for cast in cast_in(teller.node, session, candidate)
        if cast.found.place.index <= until and (cast.kind.side is Side.VALID) is valid
    ]
    size = len(teller.sessions.sets.get(session, []))
    needed = f", {size - (size - 1) // 3} of {size} are enough" if size else ""
    voters = len({cast.validator for cast in votes})
    decided = f"{of_dispute(session, candidate)} was decided {'for' if valid else 'against'} it"
    what = f"{decided}: {counted(voters, 'validator')} found it {side}{needed}"
    return teller.told(resolved, what, because=_by_message(teller, votes, session, candidate), **about)


def challenge(teller: Teller, session: int, candidate: bytes) -> Reason:
    """Why a dispute was a challenge, so that nothing was built on its blocks before it was decided."""
    for raised in teller.node.find("votes_db", [ChallengeRaised], candidate):
        if isinstance(raised.event, ChallengeRaised) and raised.event.session == session:
            votes = [
                cast
                for cast in cast_in(teller.node, session, candidate)
                if cast.found.place.index <= raised.place.index and cast.kind.side is Side.INVALID
            ]
            return teller.told(raised, because=_by_message(teller, votes, session, candidate), candidate=hexed(candidate))
    gone = teller.node.cut_short("votes_db") or "votes_db has no record of it"
    return Reason(what=f"{of_dispute(session, candidate)} was challenged", ends=gone)


def _resolved(teller: Teller, session: int, candidate: bytes, valid: bool) -> Found | None:
    for found in teller.node.find("votes_db", [DisputeResolved], candidate):
        event = found.event
        if isinstance(event, DisputeResolved) and (event.session, event.valid) == (session, valid) and event.candidate == candidate:
            return found
    return None


def _by_message(teller: Teller, votes: Sequence[Cast], session: int, candidate: bytes) -> list[Reason]:
    """Votes under the message that each came in, with where that came from."""
    messages: dict[int, list[Cast]] = {}
    for cast in votes:
        messages.setdefault(cast.found.place.index, []).append(cast)
    reasons: list[Reason] = []
    for casts in messages.values():
        found = casts[0].found
        signed = [vote_reason(teller.sessions.signed(cast, session, candidate)) for cast in casts]
        arrived = teller.back(found.place, found.record)
        what = f"{counted(len(casts), 'vote')} arrived in one message"
        reasons.append(teller.told(found, what, because=[*signed, *arrived]))
    return reasons


# ------------------------------------------------------------------------------------------------ its course


def _votes(teller: Teller, session: int, candidate: bytes) -> list[Reason]:
    """Every vote, on both sides; and the decisions."""
    decided = [verdict(teller, session, candidate, valid=valid) for valid in (True, False) if _resolved(teller, session, candidate, valid)]
    votes = [reason.vote for each in decided for message in each.because for reason in message.because if reason.vote]
    told = {(vote.validator, vote.kind, vote.signature) for vote in votes}
    cast = cast_in(teller.node, session, candidate)
    others = [each for each in cast if (each.validator, each.kind.value, hexed(each.signature)) not in told]
    reasons = list(decided)
    if others:
        what = (
            "other votes: of the other side, or later" if decided else f"{of_dispute(session, candidate)} is not decided; the votes so far"
        )
        reasons.append(Reason(what=what, because=_by_message(teller, others, session, candidate)))
    return reasons


def _course(teller: Teller, session: int, candidate: bytes) -> list[Reason]:
    """What happened in it, and what came of it, each with its record."""
    node = teller.node
    own = [
        teller.told(found)
        for found in node.find("votes_db", _COURSE, candidate)
        if getattr(found.event, "session", session) == session and getattr(found.event, "candidate", candidate) == candidate
    ]
    followed = [
        teller.told(found)
        for found in node.find("dispute_conclusion", _FOLLOWED, candidate)
        if getattr(found.event, "session", None) == session and getattr(found.event, "candidate", None) == candidate
    ]
    for found in node.find("chain_api", _BY_CHAIN, candidate):
        cause = getattr(found.event, "cause", None)
        if cause is not None and (cause.session, cause.candidate) == (session, candidate):
            followed.append(teller.told(found))
    course = Reason(what="its course", because=own)
    after = Reason(what="what followed from it", led_to=sorted(followed, key=lambda reason: (reason.at_ms, reason.position)))
    return [each for each in (course, after) if each.because or each.led_to]
