"""A node's part in peer elections as rows: loaded once, and after each step the rows that are others than before.

The participant lives in memory; what each step left of it is in the journal and in these rows, so that a restart goes on (P23).
"""

from collections.abc import Iterator, Mapping
from typing import TypeVar

import msgspec

from messages.codec import decode_value, encode_value
from messages.peers import PeerElectionEnded, PeerRow
from overseer.tables import U8, U64, Table, Tables, View
from subsystems.elections.peers.adapting import Adaptation, SplitWatch
from subsystems.elections.peers.local import Introduction, Remembered, Running, State
from subsystems.elections.peers.measures import Measures
from subsystems.elections.peers.participant import Participant
from subsystems.elections.peers.roster import Peer
from subsystems.elections.peers.tokens import TOKEN_BLOCKS, TOKEN_RING

__all__ = ["HISTORY", "HISTORY_MAX", "MEASURES", "PEER_STATE", "TABLES", "Mirror", "apply_rows", "loaded", "note_ended", "step_of"]

# (kind, id) -> one of the values below
PEER_STATE = Table("peer_state", key=(U8, U64), value=bytes)
# (0)
MEASURES = Table("peer_measures", key=(U8,), value=Measures)
# (number) -> the latest of the node's elections that ended, counted from 1
HISTORY = Table("peer_history", key=(U64,), value=PeerElectionEnded)
TABLES = (PEER_STATE, MEASURES, HISTORY, TOKEN_BLOCKS, TOKEN_RING)
HISTORY_MAX = 1_000
# Tickets whose rows go in one step: what it leaves is one message.
_FORGOTTEN_MAX = 500

_T = TypeVar("_T")

_COURSE, _VOID, _PEER, _ELECTION, _INTRODUCTION, _FINISHED, _HANDLED = range(7)
_KINDS = 7


class _Course(msgspec.Struct, frozen=True, kw_only=True):
    """The one row of what is no collection. `step` names the step that left these rows: another one for each."""

    step: bytes
    self_id: int
    recent: list[int]
    next_start_ms: int
    turns: int
    held: bool
    splits: SplitWatch
    adaptation: Adaptation


class _Void(msgspec.Struct, frozen=True, array_like=True):
    blocks: list[int]


def step_of(view: View) -> bytes | None:
    """The step that left what `view` has; None before the first."""
    data = view.get(PEER_STATE, (_COURSE, 0))
    return None if data is None else decode_value(_Course, data).step


def loaded(view: View) -> State | None:
    """The state that the last step left; None before the first."""
    data = view.get(PEER_STATE, (_COURSE, 0))
    if data is None:
        return None
    course, void = decode_value(_Course, data), view.get(PEER_STATE, (_VOID, 0))
    return State(
        self_id=course.self_id,
        elections=sorted(_values(view, _ELECTION, Running), key=lambda each: each.started_ms),
        finished=sorted(_values(view, _FINISHED, Remembered), key=lambda each: each.until_ms),
        handled=sorted(_values(view, _HANDLED, Remembered), key=lambda each: each.until_ms),
        introductions=sorted(_values(view, _INTRODUCTION, Introduction), key=lambda each: each.until_ms),
        peers=list(_values(view, _PEER, Peer)),
        recent=course.recent,
        next_start_ms=course.next_start_ms,
        turns=course.turns,
        held=course.held,
        void=[] if void is None else decode_value(_Void, void).blocks,
        measures=view.get(MEASURES, (0,)) or Measures(),
        splits=course.splits,
        adaptation=course.adaptation,
    )


def _values(view: View, kind: int, value: type[_T]) -> Iterator[_T]:
    return (decode_value(value, data) for _, data in view.scan(PEER_STATE, (kind,)))


class Mirror:
    """What was recorded of a participant, to tell what a step changed; in a time that does not grow with what it remembers."""

    def __init__(self, view: View, stored: State) -> None:
        """`stored`: the state of these rows."""
        # By kind and id.
        self._known: dict[int, dict[int, bytes]] = {kind: {} for kind in range(_KINDS)}
        for (kind, number), data in view.scan(PEER_STATE):
            self._known[kind][number] = data
        # The tickets, the oldest first, and until when.
        self._tickets: dict[int, dict[int, int]] = {
            _FINISHED: {each.ticket: each.until_ms for each in stored.finished},
            _HANDLED: {each.ticket: each.until_ms for each in stored.handled},
        }

    def moved(self, participant: Participant, step: bytes) -> list[PeerRow]:
        """The rows that are others than when it was asked last."""
        course, roster = participant.course, participant.roster
        rows: list[PeerRow] = []
        for peer in sorted(roster.touched):
            found = roster.find(peer)
            self._note(rows, _PEER, peer, None if found is None else encode_value(found))
        roster.touched.clear()
        self._note_all(rows, _ELECTION, {each.election.token: encode_value(each) for each in participant.elections})
        self._note_all(rows, _INTRODUCTION, {each.ticket: encode_value(each) for each in participant.introductions})
        self._note_tickets(rows, _FINISHED, participant.finished)
        self._note_tickets(rows, _HANDLED, participant.handled)
        self._note(rows, _VOID, 0, encode_value(_Void(course.void)))
        told = _Course(
            step=step,
            self_id=course.self_id,
            recent=course.recent,
            next_start_ms=course.next_start_ms,
            turns=course.turns,
            held=course.held,
            splits=course.splits,
            adaptation=course.adaptation,
        )
        self._note(rows, _COURSE, 0, encode_value(told))
        return rows

    def _note(self, rows: list[PeerRow], kind: int, number: int, value: bytes | None) -> None:
        known = self._known[kind]
        if known.get(number) == value:
            return
        if value is None:
            del known[number]
        else:
            known[number] = value
        rows.append(PeerRow(kind, number, value))

    def _note_all(self, rows: list[PeerRow], kind: int, now: Mapping[int, bytes]) -> None:
        """A small collection: each is looked at."""
        for number in sorted(self._known[kind].keys() - now.keys()):
            self._note(rows, kind, number, None)
        for number, value in now.items():
            self._note(rows, kind, number, value)

    def _note_tickets(self, rows: list[PeerRow], kind: int, now: Mapping[int, int]) -> None:
        """Tickets come at the end, and are forgotten from the beginning on; one may be forgotten and come again in one step.

        What is left of a flood goes little by little.
        """
        known = self._tickets[kind]
        for _ in range(_FORGOTTEN_MAX):
            oldest = next(iter(known), None)
            if oldest is None or now.get(oldest) == known[oldest]:
                break
            del known[oldest]
            if oldest not in now:
                self._note(rows, kind, oldest, None)
        fresh: list[int] = []
        for ticket in reversed(now):
            if known.get(ticket) == now[ticket]:
                break
            fresh.append(ticket)
        for ticket in reversed(fresh):
            # At the end, also where it was not forgotten yet.
            known.pop(ticket, None)
            known[ticket] = now[ticket]
            self._note(rows, kind, ticket, encode_value(Remembered(ticket, now[ticket])))


def apply_rows(tables: Tables, rows: list[PeerRow]) -> None:
    """What a step left."""
    for row in rows:
        if row.value is None:
            tables.delete(PEER_STATE, (row.kind, row.id))
        else:
            tables.put(PEER_STATE, (row.kind, row.id), row.value)


def note_ended(tables: Tables, number: int, ended: PeerElectionEnded) -> None:
    """The history has so many."""
    tables.put(HISTORY, (number,), ended)
    if number > HISTORY_MAX:
        tables.delete(HISTORY, (number - HISTORY_MAX,))
