"""The state machine of a ballot election, as a table: in which phase which command is taken, and where it leads."""

from messages.ballots import (
    BallotPhase,
    CastBallot,
    CloseDue,
    CloseElection,
    InvalidateBallot,
    InvalidateElection,
    OpenElection,
    ValidateBallot,
    ValidateElection,
    WrongPhase,
)
from messages.message import Kind, Message

__all__ = ["TRANSITIONS", "allowed", "wrong_phase"]

_IDLE, _OPEN, _CLOSED, _INVALID, _VALID = (
    BallotPhase.IDLE,
    BallotPhase.OPEN,
    BallotPhase.CLOSED,
    BallotPhase.INVALID,
    BallotPhase.VALID,
)

# Everything that is not here is refused (B02, B04, B06, B09).
TRANSITIONS: dict[tuple[BallotPhase, type[Message]], BallotPhase] = {
    (_IDLE, OpenElection): _OPEN,
    (_OPEN, CastBallot): _OPEN,
    (_OPEN, CloseElection): _CLOSED,
    (_OPEN, CloseDue): _CLOSED,
    (_CLOSED, ValidateBallot): _CLOSED,
    (_CLOSED, InvalidateBallot): _CLOSED,
    (_CLOSED, ValidateElection): _VALID,
    (_CLOSED, InvalidateElection): _INVALID,
    # As the next round.
    (_INVALID, OpenElection): _OPEN,
}


def allowed(phase: BallotPhase) -> list[str]:
    """The commands taken in `phase`, by name."""
    return [command.spec.name for (at, command) in TRANSITIONS if at is phase and command.spec.kind is Kind.COMMAND]


def wrong_phase(phase: BallotPhase, command: Message) -> WrongPhase | None:
    """The refusal of a command that is not for this phase."""
    if (phase, type(command)) in TRANSITIONS:
        return None
    return WrongPhase(phase=phase, command=command.spec.name, allowed=allowed(phase))
