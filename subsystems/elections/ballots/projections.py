"""What is counted along with a ballot election: its status, the tally, and turnout over time. Keys begin with the round."""

from messages.ballots import (
    BallotCast,
    BallotInvalidated,
    BallotPhase,
    BallotValidated,
    ElectionClosed,
    ElectionInvalidated,
    ElectionOpened,
    ElectionValidated,
)
from messages.elections import ElectionEvent
from subsystems.elections.projection import Counts

__all__ = ["TURNOUT_BUCKET_MS", "Status", "Tally", "Turnout"]

TURNOUT_BUCKET_MS = 60_000
_PHASES: dict[type[ElectionEvent], BallotPhase] = {
    ElectionOpened: BallotPhase.OPEN,
    ElectionClosed: BallotPhase.CLOSED,
    ElectionValidated: BallotPhase.VALID,
    ElectionInvalidated: BallotPhase.INVALID,
}
_COUNTED: dict[type[ElectionEvent], str] = {BallotCast: "cast", BallotValidated: "valid", BallotInvalidated: "invalid"}


class Status:
    """`round`, `<round> phase <phase>` (when it was entered, ms), and `<round> cast|valid|invalid`."""

    name = "status"
    version = 1

    def apply(self, counts: Counts, event: ElectionEvent) -> None:
        match event:
            case BallotCast() | BallotValidated() | BallotInvalidated():
                counts.add(f"{event.round} {_COUNTED[type(event)]}")
            case ElectionOpened() | ElectionClosed() | ElectionValidated() | ElectionInvalidated():
                counts.put("round", event.round)
                counts.put(f"{event.round} phase {_PHASES[type(event)]}", event.at_ms)
            case _:
                pass


class Tally:
    """`<round> cast|valid|invalid <choice>`: ballots for each choice, those judged valid, those judged invalid."""

    name = "tally"
    version = 1

    def apply(self, counts: Counts, event: ElectionEvent) -> None:
        match event:
            case ElectionOpened():
                for choice in event.choices:
                    counts.put(f"{event.round} cast {choice}", 0)
            case BallotCast() | BallotValidated() | BallotInvalidated():
                counts.add(f"{event.round} {_COUNTED[type(event)]} {event.choice}")
            case _:
                pass


class Turnout:
    """`<round> <minute>`: ballots cast in each minute (ms since the epoch, 16 digits, so that keys are in order of time)."""

    name = "turnout"
    version = 1

    def apply(self, counts: Counts, event: ElectionEvent) -> None:
        if isinstance(event, BallotCast):
            counts.add(f"{event.round} {event.at_ms // TURNOUT_BUCKET_MS * TURNOUT_BUCKET_MS:016d}")
