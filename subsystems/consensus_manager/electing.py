"""Attempts as this node takes part in them: opening, hearing, and saying what is due.

`act` is asked after every block and every message; it does what `restoring.plan` says. So a start, a restore and the ordinary course are
one and the same.
"""

from collections.abc import Callable, Sequence

from messages.codec import decode, encode
from messages.consensus_journal import AttemptOpened, MessageHeld, MessagesReleased, Spoken
from messages.consensus_manager import Attempt, Confirm, GroupTransaction, Member, NotTaken, OfAttempt
from messages.consensus_signing import Statement
from messages.message import CATALOG, Kind, Message
from subsystems.consensus_manager.draft import Branch, Draft
from subsystems.consensus_manager.handover import Acceptance, Serving
from subsystems.consensus_manager.member import OwnEvent, Speaker, stalled
from subsystems.consensus_manager.outcome import absent_among, statement, statement_of
from subsystems.consensus_manager.progress import Progress
from subsystems.consensus_manager.restoring import Disk, Head, Held, Plan, plan
from subsystems.consensus_manager.schedule import attempts_before, begins
from subsystems.consensus_manager.tables import ATTEMPTS, AWAITED, HELD, HELD_BY, LOST, MINE, PROGRESS
from subsystems.consensus_manager.terms import Terms, faulty_most
from subsystems.consensus_manager.transcript import take

__all__ = ["act", "find_share", "hear", "now_planned", "say_stalled"]


def now_planned(draft: Draft, best: Branch, now: Serving | None) -> Plan:
    """What there is to do at the present head. Nothing while it is not known who serves."""
    if now is None:
        return Plan()
    head = draft.head
    signing = draft.signing
    held = [
        Held(
            session=session,
            attempt=row.attempt,
            formed=(progress := draft.tables.get(PROGRESS, (session,))) is not None and progress.key is not None,
            share=(mine := draft.tables.get(MINE, (session,))) is not None and mine.share is not None,
        )
        for session, row in draft.attempts()
    ]
    place = Head(number=head.number, round=head.round, target=head.target, governance=head.governance)

    return plan(
        place, now, Disk(signing=signing, held=tuple(held)), draft.config.parameters, lambda session, _: is_of(draft, best, now, session)
    )


def is_of(draft: Draft, best: Branch, now: Serving, session: bytes) -> bool:
    """Whether a session is one of this chain, without drawing anew: behind the same acceptance, the same block gives the same members.

    That of the serving group is, however long ago its block was: this chain accepted it.
    """
    row = draft.tables.get(ATTEMPTS, (session,))
    if row is None:
        return False
    is_serving = now.group is not None and now.group.session == session
    return is_serving or (row.epoch == now.epoch + 1 and row.block == best.hash_at(begins(row.attempt)))


def act(draft: Draft, heard: OfAttempt | None = None) -> Plan:
    """Open what lives, and say what is due in it. `heard`: the message that was just heard, if it was one."""
    best = draft.best()
    now = best.serving()
    planned = now_planned(draft, best, now)
    if now is None:
        return planned
    found = [terms for attempt in planned.follow if (terms := best.derive(now, attempt)) is not None]
    for terms in found:
        _open(draft, terms)
    if found:
        planned = now_planned(draft, best, now)
    for session in planned.finish:
        if now.group is None or session != now.group.session:
            _next_round(draft, best, now, session)
            _speak(draft, session)
        elif heard is None or heard.session == session:
            find_share(draft, session)
    if planned.recover and now.group is not None and (heard is None or _is_confirmation(heard, now.group)):
        _recover(draft, best, now.group)
    return planned


def find_share(draft: Draft, session: bytes) -> None:
    """This node's share of the key of a session whose group is accepted, if it has none yet. Nothing more is said in that session."""
    _speak(draft, session, Speaker.share_due)


def _is_confirmation(heard: OfAttempt, group: Acceptance) -> bool:
    return isinstance(heard, Confirm) and heard.session == group.session


def _recover(draft: Draft, best: Branch, group: Acceptance) -> None:
    """Take up the serving group's session, of which nothing is on the disk, from what is held of it (R7).

    Once f + 1 members' `confirm` are held, what made the key is held as well, or lost. It is played on trial: if it comes out as the chain
    accepted it, that is what happened; else the session is known and not followed. Who had a key for it has lost its store, and does not
    know what it signed: it is no member in it any more. The vault is asked for one when this is committed, not before.
    """
    if not draft.tables.has(AWAITED, (group.session,)):
        return
    said = {row.node for _, row in draft.tables.scan(HELD) if row.session == group.session and row.name == Confirm.spec.name}
    confirmed = len(said & _nodes_of(draft, group.members))
    found = best.outcome_of(group) if confirmed > faulty_most(len(group.members)) else None
    if found is None:
        return
    terms, accepted = found
    trial = Draft(draft.tables, draft.config, draft.vault, draft.context)
    _open(trial, terms, absent=accepted.absent, joins=not draft.vault.knows(group.session))
    progress = trial.tables.get(PROGRESS, (group.session,))
    if progress is None or progress.key is None or statement(terms, progress.key) != _accepted_statement(terms, accepted):
        _open(draft, terms, follows=False)
        return
    for event in trial.events:
        draft.record(event)


def _accepted_statement(terms: Terms, transaction: GroupTransaction) -> Statement:
    return statement_of(chain=terms.chain, epoch=terms.epoch, session=terms.session, members=terms.members, transaction=transaction)


def _open(draft: Draft, terms: Terms, *, absent: Sequence[int] | None = None, joins: bool = True, follows: bool = True) -> None:
    """Follow an attempt from here on; what was held for it comes first (E23). Opened once (E03).

    `absent`: what it tells of those before it, where the chain has accepted that. `joins`: takes part, if it is a member; `follows`: the
    attempt is not only known.
    """
    if draft.tables.has(ATTEMPTS, (terms.session,)):
        return
    waiting = [row for _, row in draft.tables.scan(HELD) if row.session == terms.session]
    draft.record(
        AttemptOpened(
            session=terms.session,
            attempt=terms.attempt,
            epoch=terms.epoch,
            begins_with=terms.block,
            members=list(terms.members),
            validators=list(terms.validators),
            stalls=list(terms.stalls),
            place=terms.place_of(draft.signing) if joins else None,
            lossy=not follows or _is_lossy(draft, terms),
        )
    )
    for row in waiting:
        message = _message(row.name, row.body)
        if isinstance(message, OfAttempt):
            _take(draft, terms, message, row.position, absent=absent)
    if waiting:
        draft.record(MessagesReleased(session=terms.session))


def _is_lossy(draft: Draft, terms: Terms) -> bool:
    """Whether something that a member said since the attempt began had to give room: this node would not find what the others find."""
    awaited = draft.tables.get(AWAITED, (terms.session,))
    if awaited is None:
        return False
    return any((draft.tables.get(LOST, (node,)) or 0) >= awaited.first for node in _nodes_of(draft, terms.members))


def _nodes_of(draft: Draft, members: Sequence[Member]) -> set[str]:
    signing = {member.identity.signing for member in members}
    return {each.node for each in draft.config.enrolled if each.signing in signing}


def _next_round(draft: Draft, best: Branch, now: Serving, session: bytes) -> None:
    """The round behind one that the validators gave up."""
    terms, progress = draft.terms(session), draft.tables.get(PROGRESS, (session,))
    if terms is None or progress is None or not progress.given_up:
        return
    attempt = Attempt(terms.attempt.epoch_start, terms.attempt.due, terms.attempt.delay, terms.attempt.round + 1)
    if any(row.attempt == attempt and is_of(draft, best, now, other) for other, row in draft.attempts()):
        return
    following = best.derive(now, attempt, progress.stalled)
    if following is not None:
        _open(draft, following)
        _speak(draft, following.session)


def _message(name: str, body: bytes) -> Message:
    spec = CATALOG.find(Kind.NETWORK, "consensus_manager", name)
    if spec is None:
        raise LookupError(f"{name} is no network message of consensus_manager")
    return decode(spec, body)


def hear(draft: Draft, message: OfAttempt) -> NotTaken | None:
    """A message at its place in the stream: applied, or held until its attempt is known."""
    terms = draft.terms(message.session)
    if terms is not None:
        return _take(draft, terms, message, draft.context.position)
    # Each node has room of its own: who fills it keeps out nobody but itself. The oldest gives room: it may be of an attempt long over.
    node = draft.context.node
    full = (draft.tables.get(HELD_BY, (node,)) or 0) >= draft.config.held_per_node_max
    held = MessageHeld(
        session=message.session,
        node=node,
        position=draft.context.position,
        name=message.spec.name,
        body=encode(message),
        instead_of=next(place for (place,), row in draft.tables.scan(HELD) if row.node == node) if full else None,
        height=draft.head.number,
    )
    draft.record(held)
    return None


def _take(draft: Draft, terms: Terms, message: OfAttempt, position: int, *, absent: Sequence[int] | None = None) -> NotTaken | None:
    row, progress = draft.tables.get(ATTEMPTS, (terms.session,)), draft.tables.get(PROGRESS, (terms.session,))
    if row is None or row.lossy or progress is None:
        return None
    taken = take(
        terms,
        progress,
        draft.deals(terms.session),
        message,
        draft.context.verify,
        position=position,
        absent=lambda: _absent(draft, terms, position) if absent is None else absent,
    )
    if isinstance(taken, NotTaken):
        return taken
    for event in taken:
        draft.record(event)
    return None


def _absent(draft: Draft, terms: Terms, position: int) -> list[int]:
    """Who dealt nothing in the attempts before this one: of its own chain, and only those that whoever follows it follows too."""
    chain = draft.branch(terms.block, begins(terms.attempt))
    before = attempts_before(terms.attempt, draft.config.parameters)
    earlier: list[tuple[Terms, Progress]] = []
    for session, row in draft.attempts():
        if row.attempt in before and row.epoch == terms.epoch and chain.hash_at(begins(row.attempt)) == row.block:
            other, progress = draft.terms(session), draft.tables.get(PROGRESS, (session,))
            if other is not None and progress is not None:
                earlier.append((other, progress))
    return absent_among(earlier, terms, position)


def _speak(draft: Draft, session: bytes, due: Callable[[Speaker], list[OwnEvent]] = Speaker.due) -> None:
    terms, mine = draft.terms(session), draft.tables.get(MINE, (session,))
    progress = draft.tables.get(PROGRESS, (session,))
    if terms is None or mine is None or progress is None:
        return
    wallet = draft.vault.wallet(session)
    for event in due(Speaker(terms, progress, mine, draft.deals(session), head=draft.head.number, wallet=wallet)):
        draft.record(event)


def _is_complete(draft: Draft, session: bytes) -> bool:
    progress = draft.tables.get(PROGRESS, (session,))
    return progress is not None and progress.transaction is not None


def say_stalled(draft: Draft, planned: Plan) -> None:
    """No block came: this node, if it is a validator, says so of the youngest attempt that is due, once for each of its phases.

    Not when a group is complete: then nothing is missing but a block, and other rounds would follow one another for as long.
    """
    now = draft.best().serving()
    # The serving group's own session is finished as well, by who has no share yet.
    due = {session for session in planned.finish if now is None or now.group is None or session != now.group.session}
    rows = [(row.attempt, session, row) for session, row in draft.attempts() if session in due and not row.lossy]
    if not rows or any(_is_complete(draft, session) for _, session, _ in rows):
        return
    _, session, row = max(rows, key=lambda item: (item[0].delay, item[0].round))
    terms, progress = draft.terms(session), draft.tables.get(PROGRESS, (session,))
    if terms is None or progress is None or progress.given_up or progress.phase in row.stalled:
        return
    signing = draft.signing
    index = next((i for i, key in enumerate(terms.validators) if key == signing), None)
    if index is None:
        return
    said = stalled(terms, progress, validator=index, wallet=draft.vault.wallet(session))
    draft.record(Spoken(session=session, name=said.spec.name, about=progress.phase.value, body=encode(said)))
