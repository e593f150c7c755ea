"""What a validator did and what became of it: sessions, votes, double votes, rewards and slashes, groups."""

from collections.abc import Iterator

from messages.consensus_journal import AttemptOpened, DealerConvicted, GroupAccepted
from messages.polkadot import Validator
from messages.votes_db import DoubleVoteSeen
from messages.votes_db_journal import TransactionsIssued, VotesImported
from overseer.history.explaining.ids import Unknown, chosen
from overseer.history.explaining.sentences import counted, of_dispute
from overseer.history.explaining.trail import Teller
from overseer.history.explaining.votes import Sessions, unpacked, vote_reason
from overseer.history.reasons import Explanation, Reason, hexed, short

__all__ = ["explain_validator"]


def explain_validator(teller: Teller, text: str) -> Explanation:
    """`text`: the validator's key or the beginning of it, or SESSION/INDEX. Raises Unknown."""
    sessions = teller.sessions
    key = _key(sessions, text)
    places = {session: index for session, validators in sessions.sets.items() for index, each in enumerate(validators) if each.key == key}
    scheme = next(each.scheme.value for validators in sessions.sets.values() for each in validators if each.key == key)
    where = ", ".join(f"{session} as {index}" for session, index in sorted(places.items()))
    reasons = [
        Reason(what=f"{scheme} key, in {counted(len(places), 'session')}: {where}"),
        *_votes(teller, sessions, places),
        *_transactions(teller, places),
        *_groups(teller, key),
    ]
    missing = teller.node.shortened("votes_db", "consensus_manager")
    return Explanation(kind="validator", id=hexed(key), node=teller.node.name, reasons=reasons, missing=missing)


def _key(sessions: Sessions, text: str) -> bytes:
    session, slash, index = text.partition("/")
    if not slash:
        return chosen(text, (each.key for each in _all(sessions)), "validator", "SESSION/INDEX is taken as well, as in 1/3.")
    known = f"Sessions: {', '.join(map(str, sorted(sessions.sets)))}."
    if not session.isdecimal() or not index.isdecimal():
        raise Unknown(f"{text!r} is no validator", f"Write SESSION/INDEX, as in 1/3, or its key. {known}")
    found = sessions.validator(int(session), int(index))
    if found is None:
        size = len(sessions.sets.get(int(session), []))
        raise Unknown(f"session {session} has no validator {index} in this node's journals", f"It has {size} of them. {known}")
    return found.key


def _all(sessions: Sessions) -> Iterator[Validator]:
    return (each for validators in sessions.sets.values() for each in validators)


def _votes(teller: Teller, sessions: Sessions, places: dict[int, int]) -> Iterator[Reason]:
    for found in teller.node.find("votes_db", [VotesImported, DoubleVoteSeen]):
        match found.event:
            case VotesImported(session=session, candidate=candidate, votes=votes) if places.get(session) in votes.validators:
                casts = [cast for cast in unpacked(votes, found) if cast.validator == places[session]]
                because = [vote_reason(sessions.signed(cast, session, candidate)) for cast in casts]
                kinds = " and ".join(cast.kind.value.replace("_", " ") for cast in casts)
                what = f"voted {kinds} in {of_dispute(session, candidate)}"
                yield teller.told(found, what, because=because, candidate=hexed(candidate))
            case DoubleVoteSeen(session=session, candidate=candidate, validator=validator) if places.get(session) == validator:
                yield teller.told(found, f"voted both ways in {of_dispute(session, candidate)}", candidate=hexed(candidate))
            case _:
                pass


def _transactions(teller: Teller, places: dict[int, int]) -> Iterator[Reason]:
    for found in teller.node.find("votes_db", [TransactionsIssued]):
        event = found.event
        if not isinstance(event, TransactionsIssued) or event.session not in places:
            continue
        for what, votes in (("rewarded", event.rewards), ("slashed", event.slashes)):
            if places[event.session] in votes.validators:
                why = f"{of_dispute(event.session, event.candidate)} was decided: the candidate is {event.verdict.value}"
                yield teller.told(found, f"{what}: {why}", candidate=hexed(event.candidate))


def _groups(teller: Teller, key: bytes) -> Iterator[Reason]:
    """Groups and attempts it was a member of, and whether it dealt twice."""
    dealt: dict[bytes, int] = {}
    for found in teller.node.find("consensus_manager", [AttemptOpened, GroupAccepted, DealerConvicted]):
        match found.event:
            case AttemptOpened(session=session, members=members, epoch=epoch):
                place = next((place for place, each in enumerate(members) if each.identity.signing == key), None)
                if place is not None:
                    dealt[session] = place
                    yield teller.told(found, f"member {place} of an attempt at electing group {epoch}", session=hexed(session))
            case GroupAccepted(members=members, epoch=epoch, block=block) if any(each.identity.signing == key for each in members):
                yield teller.told(found, f"member of group {epoch}, accepted by {short(block)}", block=hexed(block))
            case DealerConvicted(session=session, dealer=dealer) if dealt.get(session) == dealer:
                yield teller.traced(found, "dealt twice in one attempt, and is out of it", session=hexed(session))
            case _:
                pass
