"""Queries: conclusions with their causes, from committed tables."""

from itertools import islice

from messages.dispute_conclusion import Conclusion, Conclusions, ConclusionState, ListConclusions, SeenDescendants, TransactionRef, Voter
from messages.polkadot import Side, TransactionKind
from overseer.tables import View
from subsystems.dispute_conclusion.declaration import Config
from subsystems.dispute_conclusion.tables import (
    ANSWERS,
    BLOCKS,
    CONCLUSIONS,
    DETECTIONS,
    PAGES,
    STEPS,
    VOTERS,
    ConclusionRow,
    Key,
    Phase,
    including_blocks,
    state_of,
)

__all__ = ["full", "page", "transactions_of"]

_HASH_BYTES = 32
_CLOSED = (ConclusionState.VALID, ConclusionState.BLACKLISTED)


def transactions_of(voters: list[Voter], verdict: Side) -> list[TransactionRef]:
    """The winning side rewarded, the losing one slashed; who voted both ways is slashed and never rewarded."""

    def kind(voter: Voter) -> TransactionKind:
        loses = voter.invalid if verdict is Side.VALID else voter.valid
        return TransactionKind.REWARD if loses is None else TransactionKind.SLASH

    return [TransactionRef(kind(voter), voter.validator, verdict) for voter in voters]


def _brief(view: View, key: Key, row: ConclusionRow, listed_max: int) -> Conclusion:
    blocks = [(block, found) for (_, _, block), found in islice(view.scan(BLOCKS, key), listed_max)]
    including = dict.fromkeys([*including_blocks(view, key[1])[:listed_max], *(block for block, _ in blocks)])
    return Conclusion(
        session=key[0],
        candidate=key[1],
        state=state_of(row),
        contradicting=row.contradicting,
        voters=[],
        including_blocks=list(including)[:listed_max],
        reverted=[block for block, found in blocks if found.reverted],
        blacklisted_roots=[block for block, found in blocks if found.phase in (Phase.REQUESTED, Phase.BLACKLISTED)],
        steps=[step for _, step in islice(view.scan(STEPS, key), listed_max)],
    )


def _descendants(view: View, key: Key, listed_max: int) -> list[SeenDescendants]:
    seen: list[SeenDescendants] = []
    room = listed_max
    for (_, _, block), _ in islice(view.scan(BLOCKS, key), listed_max):
        answer = view.get(ANSWERS, (block,))
        if answer is None:
            continue
        kept = b"".join(data for _, data in view.scan(PAGES, (block,)))
        hashes = [kept[at : at + _HASH_BYTES] for at in range(0, len(kept), _HASH_BYTES)][:room]
        room -= len(hashes)
        seen.append(SeenDescendants(block, answer.count, hashes))
    return seen


def full(view: View, key: Key, row: ConclusionRow, config: Config) -> Conclusion:
    """Everything known of one conclusion."""
    brief = _brief(view, key, row, config.listed_max)
    detection = view.get(DETECTIONS, key)
    verdicts = {verdict: view.get(VOTERS, (*key, index)) for index, verdict in ((1, Side.VALID), (0, Side.INVALID))}
    in_force = None if row.valid is None else verdicts[Side.VALID if row.valid else Side.INVALID]
    return Conclusion(
        session=brief.session,
        candidate=brief.candidate,
        state=brief.state,
        contradicting=brief.contradicting,
        voters=in_force if in_force is not None else detection.voters if detection else [],
        including_blocks=brief.including_blocks,
        reverted=brief.reverted,
        blacklisted_roots=brief.blacklisted_roots,
        steps=brief.steps,
        voted_candidates=detection.voted_candidates[: config.listed_max] if detection else [],
        transactions=[ref for verdict, voters in verdicts.items() for ref in transactions_of(voters or [], verdict)],
        descendants=_descendants(view, key, config.listed_max),
    )


def page(view: View, query: ListConclusions, config: Config) -> Conclusions:
    """From the row after the one named; stops at the page's size or after a bounded number of rows looked at."""
    limit = max(1, min(query.limit, config.page_max))
    named: Key = (query.after_session or 0, query.after_candidate or bytes(_HASH_BYTES))
    found: list[Conclusion] = []
    last: Key | None = None
    rows = view.scan(CONCLUSIONS, start=named)
    for looked_at, (key, row) in enumerate(rows):
        if len(found) == limit or looked_at == config.rows_scanned_max:
            return Conclusions(
                conclusions=found, next_session=last[0] if last else query.after_session, next_candidate=last[1] if last else None
            )
        last = (key[0], key[1])
        if last == named and query.after_candidate is not None:
            continue
        if not query.open_only or state_of(row) not in _CLOSED:
            found.append(_brief(view, last, row, config.listed_in_page_max))
    return Conclusions(conclusions=found)
