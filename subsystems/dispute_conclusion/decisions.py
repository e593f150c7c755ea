"""What follows from each message: pure functions from tables and message to events.

Every step is idempotent by what it is about: (session, candidate), the including block, the page. A message that changes
nothing any more is an empty decision.
"""

from collections.abc import Iterable, Iterator

import msgspec

from messages.chain_api import BlockImported
from messages.dispute_conclusion import (
    BlacklistedBlocksRecorded,
    BlacklistRequested,
    BlacklistSeen,
    Challenged,
    ChallengeLifted,
    ChallengeLiftRecorded,
    ChallengeRecorded,
    ConclusionConcluded,
    DescendantsAnswer,
    DescendantsAsked,
    DescendantsPageRecorded,
    DescendantsSeen,
    Detection,
    DetectionRecorded,
    InclusionsRecorded,
    Resolution,
    ResolutionRecorded,
    RevertAsked,
    SessionRecorded,
    Voter,
)
from messages.message import Message
from messages.polkadot import Side, Vote
from messages.signals import BlocksBlacklisted, SessionChange
from overseer.subsystem import Context
from overseer.tables import View
from subsystems.dispute_conclusion.declaration import Config
from subsystems.dispute_conclusion.tables import (
    ANSWERS,
    ASKED,
    AWAITED,
    BLACKLISTED,
    BLOCKS,
    INCLUSIONS,
    PAGES,
    ROUNDS,
    SESSIONS,
    WATCHED,
    AnswerRow,
    ConclusionRow,
    Key,
    Phase,
    block_row,
    conclusion_row,
    including_blocks,
    newest_session,
)

__all__ = [
    "on_blacklisted",
    "on_challenge_lifted",
    "on_challenged",
    "on_descendants_answer",
    "on_detection",
    "on_import",
    "on_resolution",
    "on_session_change",
]


def voters_of(votes: Iterable[Vote]) -> list[Voter]:
    """How each validator stands after `votes`, by index; a later vote of a side replaces an earlier one."""
    sides: dict[int, Voter] = {}
    for vote in votes:
        voter = sides.get(vote.validator) or Voter(vote.validator, None, None)
        changed = {"valid": vote.kind} if vote.kind.side is Side.VALID else {"invalid": vote.kind}
        sides[vote.validator] = msgspec.structs.replace(voter, **changed)
    return [sides[index] for index in sorted(sides)]


def _chunks(blocks: list[bytes], size: int) -> Iterator[list[bytes]]:
    return (blocks[at : at + size] for at in range(0, len(blocks), size))


def on_detection(view: View, message: Detection, context: Context) -> list[Message]:
    key = (message.session, message.candidate)
    if conclusion_row(view, key).contradicting is not None:
        return []
    return [
        DetectionRecorded(
            session=message.session,
            candidate=message.candidate,
            block_number=message.block_number,
            contradicting=message.contradicting,
            voters=voters_of(message.votes),
            voted_candidates=message.voted_candidates,
            at_ms=context.now_ms,
            position=context.position,
        )
    ]


def on_challenged(view: View, message: Challenged, context: Context, config: Config) -> list[Message]:
    """Early action (D25), unless the dispute is resolved already: then the verdict has acted, or has nothing to act on."""
    key = (message.session, message.candidate)
    row = conclusion_row(view, key)
    if row.challenged:
        return []
    noted = ChallengeRecorded(session=key[0], candidate=key[1], at_ms=context.now_ms, position=context.position)
    if row.valid is not None or row.lifted:
        return [noted]
    return [noted, *_revert(view, key, including_blocks(view, key[1]), context, config)]


def on_challenge_lifted(view: View, message: ChallengeLifted, context: Context, config: Config) -> list[Message]:
    key = (message.session, message.candidate)
    return _lift(view, key, conclusion_row(view, key), context, config)


def on_resolution(view: View, message: Resolution, context: Context, config: Config) -> list[Message]:
    """Against overrides for (D08), never the other way (D09); the same verdict again is no news."""
    key = (message.session, message.candidate)
    row = conclusion_row(view, key)
    if row.valid is False or row.valid is message.valid:
        return []
    events: list[Message] = [
        ResolutionRecorded(
            session=key[0],
            candidate=key[1],
            valid=message.valid,
            voters=message.voters,
            at_ms=context.now_ms,
            position=context.position,
        )
    ]
    if message.valid:
        events += _lift(view, key, row, context, config)
        events.append(_concluded(key, valid=True, context=context))
    else:
        events += _ask(view, key, including_blocks(view, key[1]), context, config)
    return events


def on_import(view: View, message: BlockImported, context: Context, config: Config) -> list[Message]:
    """Remember what the block includes; a candidate under challenge or concluded against is acted on (D24, D25)."""
    if not message.included:
        return []
    events: list[Message] = []
    candidates = list(dict.fromkeys(message.included))
    new = [c for c in candidates if not view.has(INCLUSIONS, (message.session, c, message.hash))]
    if new:
        events.append(
            InclusionsRecorded(
                block=message.hash,
                number=message.number,
                session=message.session,
                blacklisted=message.blacklisted,
                candidates=new,
            )
        )
    for candidate in candidates:
        for (_, session), _ in view.scan(WATCHED, (candidate,)):
            key = (session, candidate)
            row = conclusion_row(view, key)
            if row.valid is False:
                events += _ask(view, key, [message.hash], context, config)
            elif row.valid is None and not row.lifted:
                events += _revert(view, key, [message.hash], context, config)
    return events


def on_descendants_answer(view: View, message: DescendantsAnswer, context: Context, config: Config) -> list[Message]:
    """Record the page; with the last missing one, every conclusion that waits for this block goes a step on (D20, D21)."""
    block = message.block
    waiting: list[Key] = [(session, candidate) for (_, session, candidate), _ in view.scan(ASKED, (block,))]
    if not waiting or view.has(PAGES, (block, message.page)):
        return []
    answer = view.get(ANSWERS, (block,)) or AnswerRow()
    listed = min(len(message.hashes), max(0, config.descendants_listed_max - answer.listed))
    events: list[Message] = [
        DescendantsPageRecorded(
            block=block, page=message.page, last=message.last, known=message.known, hashes=message.hashes, listed=listed
        )
    ]
    last = message.page if message.last else answer.last
    complete = last is not None and answer.pages + 1 == last + 1
    if not message.known or complete:
        count = answer.count + len(message.hashes)
        for key in waiting:
            events += _answered(view, key, block, count, message.known, context)
    return events


def on_blacklisted(view: View, message: BlocksBlacklisted, context: Context) -> list[Message]:
    """Remember the page, and find the requested roots that are in it. By block and not by cause: another dispute's cascade
    may have taken our root along, and the chain then tells nothing for ours (C08)."""
    told = {*message.roots, *message.hashes}
    newest = newest_session(view)
    new = sorted(h for h in told if not view.has(BLACKLISTED, (newest, h)))
    events: list[Message] = [BlacklistedBlocksRecorded(session=newest, hashes=new)] if new else []
    seen: dict[Key, list[bytes]] = {}
    for (block, session, candidate), _ in view.scan(AWAITED):
        if block in told:
            seen.setdefault((session, candidate), []).append(block)
    for key, blocks in seen.items():
        row = conclusion_row(view, key)
        events.append(BlacklistSeen(session=key[0], candidate=key[1], blocks=blocks, at_ms=context.now_ms, position=context.position))
        if not row.asked and row.requested == len(blocks) and not row.concluded_against:
            events.append(_concluded(key, valid=False, context=context))
    return events


def on_session_change(view: View, message: SessionChange, config: Config) -> list[Message]:
    if message.index <= newest_session(view):
        return []
    inclusions = message.index - config.inclusion_sessions
    conclusions = message.index - config.conclusion_sessions
    return [
        SessionRecorded(
            session=message.index,
            inclusions_through=inclusions if inclusions >= 0 else None,
            conclusions_through=conclusions if conclusions >= 0 else None,
        )
    ]


# ------------------------------------------------------------------------------------------------ steps


def _revert(view: View, key: Key, blocks: list[bytes], context: Context, config: Config) -> list[Message]:
    if not config.early_action:
        return []
    fresh = [block for block in blocks if not block_row(view, key, block).reverted]
    return [
        RevertAsked(session=key[0], candidate=key[1], blocks=chunk, at_ms=context.now_ms, position=context.position)
        for chunk in _chunks(fresh, config.blocks_per_round_max)
    ]


def _lift(view: View, key: Key, row: ConclusionRow, context: Context, config: Config) -> list[Message]:
    """End the challenge, once; a verdict against keeps what was reverted."""
    if not row.challenged or row.lifted or row.valid is False:
        return []
    reverted = [block for (_, _, block), found in view.scan(BLOCKS, key) if found.reverted]
    return [
        ChallengeLiftRecorded(session=key[0], candidate=key[1], blocks=chunk, at_ms=context.now_ms, position=context.position)
        for chunk in (list(_chunks(reverted, config.blocks_per_round_max)) or [[]])
    ]


def _ask(view: View, key: Key, blocks: list[bytes], context: Context, config: Config) -> list[Message]:
    """One round for all including blocks that are not in the cascade yet; several when there are very many."""
    fresh = [block for block in blocks if block_row(view, key, block).phase is Phase.NONE]
    rounds = conclusion_row(view, key).rounds
    return [
        DescendantsAsked(
            session=key[0],
            candidate=key[1],
            round=rounds + index,
            blocks=chunk,
            at_ms=context.now_ms,
            position=context.position,
        )
        for index, chunk in enumerate(_chunks(fresh, config.blocks_per_round_max))
    ]


def _answered(view: View, key: Key, block: bytes, count: int, known: bool, context: Context) -> list[Message]:
    """The block's answer is complete; when it was the round's last, the round's blocks become the roots of one blacklist."""
    at = {"at_ms": context.now_ms, "position": context.position}
    events: list[Message] = [DescendantsSeen(session=key[0], candidate=key[1], block=block, count=count, known=known, **at)]
    number = block_row(view, key, block).round
    pending = view.get(ROUNDS, (*key, number))
    if pending is None or pending.pending > 1:
        return events
    answered = [b for (_, _, b), row in view.scan(BLOCKS, key) if row.round == number and row.phase is Phase.ANSWERED]
    roots = sorted([*answered, block] if known else answered)
    already = [root for root in roots if _is_blacklisted(view, key, root)]
    if roots:
        events.append(BlacklistRequested(session=key[0], candidate=key[1], roots=roots, **at))
    if already:
        events.append(BlacklistSeen(session=key[0], candidate=key[1], blocks=already, **at))
    row = conclusion_row(view, key)
    settled = row.asked == 1 and row.requested + len(roots) == len(already) and row.blacklisted + len(already) > 0
    if settled and not row.concluded_against:
        events.append(_concluded(key, valid=False, context=context))
    return events


def _is_blacklisted(view: View, key: Key, block: bytes) -> bool:
    """Whether the chain has told so, by the block's import or by an earlier cascade."""
    sessions = {session for (session,), _ in view.scan(SESSIONS)} | {newest_session(view)}
    imported = (view.get(INCLUSIONS, (session, key[1], block)) for session in sessions)
    return any(row is not None and row.blacklisted for row in imported) or any(
        view.has(BLACKLISTED, (session, block)) for session in sessions
    )


def _concluded(key: Key, *, valid: bool, context: Context) -> ConclusionConcluded:
    return ConclusionConcluded(session=key[0], candidate=key[1], valid=valid, at_ms=context.now_ms, position=context.position)
