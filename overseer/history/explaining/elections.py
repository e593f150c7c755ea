"""Why an election stands as it does: its events, by whom they were asked for, and what the chain made of them.

The events are those of the election itself, which are kept for as long as it is; a node's journal tells their causes where its elections
are on one site. Several sites have no journals: there the command is told that each event came of.
"""

from collections import Counter
from collections.abc import Iterator

import msgspec

from messages.ballots import (
    BallotCast,
    BallotInvalidated,
    BallotValidated,
    ElectionClosed,
    ElectionInvalidated,
    ElectionOpened,
    ElectionValidated,
)
from messages.elections import ElectionEvent
from messages.message import Message
from overseer.history.explaining.ids import Unknown
from overseer.history.explaining.sentences import counted
from overseer.history.explaining.trail import Teller
from overseer.history.reasons import Explanation, Reason
from overseer.history.trails import Found
from overseer.sites.chronicle import Chronicled, chronicle, known_elections

__all__ = ["Account", "account_of", "explain_election"]

# What an election's writer asks of itself, when the chain or the clock makes it due.
_OWN = "elections"
_VERBS = {BallotCast.spec.name: "cast", BallotValidated.spec.name: "judged valid", BallotInvalidated.spec.name: "judged invalid"}


class Account(msgspec.Struct, frozen=True):
    """An election as one store has it: the one with most of its events. `held` by so many stores."""

    election: str
    store: str
    held: int
    events: list[Chronicled]
    # Of one site: the journal's records of these events.
    journal: dict[bytes, Found]


def account_of(teller: Teller, election: str) -> Account:
    """All that is recorded of an election. Raises Unknown."""
    holding = _holding(teller)
    held = {store: events[election] for store, events in holding.items() if election in events}
    if not held:
        known = sorted({key for events in holding.values() for key in events})
        there = f"There are: {', '.join(known[:10])}{' ...' if len(known) > 10 else ''}." if known else "This node has no elections."
        raise Unknown(f"no election {election!r} is in this node's stores", there)
    store = max(sorted(held), key=lambda name: held[name])
    node = teller.node
    events = list(chronicle(node.stores[store], node.tables[store], election))
    kinds = sorted({type(each.event) for each in events}, key=lambda kind: kind.spec.key)
    recorded = (found for found in node.find(store, kinds, election.encode()))
    return Account(election, store, len(held), events, {_identity(found.event): found for found in recorded})


def _holding(teller: Teller) -> dict[str, dict[str, int]]:
    """By store: how many events of which elections it has."""
    node = teller.node
    return {store: known_elections(rows, node.tables[store]) for store, rows in node.stores.items() if store.partition("_")[0] == _OWN}


def _identity(event: Message) -> bytes:
    return event.spec.key.encode() + msgspec.msgpack.encode(event)


def event_reason(
    teller: Teller, account: Account, each: Chronicled, what: str, *, because: list[Reason] | None = None, **about: str
) -> Reason:
    """One event of an election, with who asked for it."""
    found = account.journal.get(_identity(each.event))
    if found is not None:
        return teller.told(found, what, because=because if because is not None else teller.back(found.place, found.record), **about)
    command = each.command
    asked = command is not None and command.sender != _OWN
    ends = "" if because else "asked of the elections by a client" if asked else "due by the chain or the clock"
    return Reason(
        what=what,
        at_ms=each.event.at_ms,
        record=f"{teller.node.name}/{account.store} event {each.sequence}",
        message=each.event.spec.key,
        sender=command.sender if command is not None and asked else "",
        command_id=command.id if command is not None and asked else "",
        about=about,
        ends=ends,
        because=because or [],
    )


# ------------------------------------------------------------------------------------------------ ballots


def explain_election(teller: Teller, election: str) -> Explanation:
    """An election of any kind; ballots are counted, not listed. Raises Unknown."""
    account = account_of(teller, election)
    where = f"{counted(len(account.events), 'event')}, the same or fewer in {counted(account.held, 'store')}; told by {account.store}"
    reasons = [Reason(what=where), *_told(teller, account)]
    missing = ["its events are gone: it was archived"] if not account.events else []
    return Explanation(kind="election", id=election, node=teller.node.name, reasons=reasons, missing=missing)


def _told(teller: Teller, account: Account) -> Iterator[Reason]:
    """In order; ballots and verdicts that follow each other are one line."""
    run: list[Chronicled] = []
    for each in account.events:
        if run and type(each.event) is not type(run[0].event):
            yield _run(teller, account, run)
            run = []
        if isinstance(each.event, (BallotCast, BallotValidated, BallotInvalidated)):
            run.append(each)
        else:
            yield event_reason(teller, account, each, _sentence(each.event))
    if run:
        yield _run(teller, account, run)


def _run(teller: Teller, account: Account, run: list[Chronicled]) -> Reason:
    first, last = run[0], run[-1]
    choices: Counter[str] = Counter(getattr(each.event, "choice", "") for each in run)
    for_whom = ", ".join(f"{choice} {count}" for choice, count in choices.most_common())
    verb = _VERBS[first.event.spec.name]
    span = f"events {first.sequence} to {last.sequence}" if len(run) > 1 else f"event {first.sequence}"
    return event_reason(teller, account, last, f"{counted(len(run), 'ballot')} {verb} ({for_whom}), {span}")


def _sentence(event: ElectionEvent) -> str:
    match event:
        case ElectionOpened():
            return f"round {event.round} opens: {event.title!r}, {' or '.join(event.choices)}"
        case ElectionClosed():
            return f"the polls of round {event.round} close: {counted(event.cast, 'ballot')} cast"
        case ElectionValidated():
            return f"round {event.round} stands: {event.valid} of {counted(event.cast, 'ballot')} valid, {event.invalid} not"
        case ElectionInvalidated():
            return f"round {event.round} does not count: {event.reason or 'no reason was given'}"
        case _:
            round = getattr(event, "round", None)
            return event.spec.name.replace("_", " ") + ("" if round is None else f" (round {round})")
