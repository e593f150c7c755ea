"""The rules of ballot elections once more, for a judge: what one order of commands must lead to.

Written from the specification alone (B01 to B11), on plain values; it knows nothing of the subsystem that it judges.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

__all__ = ["BallotModel", "Expected", "Shown"]

# (number of the last event, phase, round, ballots cast, judged valid, judged invalid): what a reader is shown.
Shown = tuple[int, str, int, int, int, int]

# Where each command leads from which phase.
_MOVES = {
    ("idle", "open_election"): "open",
    ("invalid", "open_election"): "open",
    ("open", "close_election"): "closed",
    ("closed", "validate_election"): "valid",
    ("closed", "invalidate_election"): "invalid",
}
_STAYS = {("open", "cast_ballot"), ("closed", "validate_ballot"), ("closed", "invalidate_ballot")}
_EVENTS = {
    "open_election": "election_opened",
    "close_election": "election_closed",
    "validate_election": "election_validated",
    "invalidate_election": "election_invalidated",
    "cast_ballot": "ballot_cast",
    "validate_ballot": "ballot_validated",
    "invalidate_ballot": "ballot_invalidated",
}


class Expected(msgspec.Struct, frozen=True):
    """What must become of a command: the refusal's `code`, or "" and the event's name; fields that the outcome and event must have."""

    code: str
    outcome: Mapping[str, Any]
    event: str = ""
    fields: Mapping[str, Any] = {}


class BallotModel:
    """One election, command by command."""

    def __init__(self) -> None:
        self.phase = "idle"
        self.round = 0
        self.sequence = 0
        self._choices: list[str] = []
        self._electorate: int | None = None
        # Of this round: the voter's choice, and the verdict on it.
        self.ballots: dict[bytes, tuple[str, str]] = {}

    @property
    def shown(self) -> Shown:
        verdicts = [verdict for _, verdict in self.ballots.values()]
        return self.sequence, self.phase, self.round, len(self.ballots), verdicts.count("valid"), verdicts.count("invalid")

    def take(self, name: str, fields: Mapping[str, Any]) -> Expected:
        """The next command of the order."""
        refused = self._refused(name, fields)
        if refused is not None:
            return refused
        self.sequence += 1
        told = self._changed(name, fields)
        return Expected("", {"sequence": self.sequence}, _EVENTS[name], {"round": self.round, **told})

    def _refused(self, name: str, fields: Mapping[str, Any]) -> Expected | None:
        if (self.phase, name) not in _MOVES and (self.phase, name) not in _STAYS:
            return Expected("wrong_phase", {"phase": self.phase, "command": name})
        if name == "cast_ballot":
            return self._not_cast(fields)
        if name in ("validate_ballot", "invalidate_ballot"):
            ballot = self.ballots.get(fields["voter"])
            if ballot is None:
                return Expected("ballot_not_cast", {"round": self.round})
            return Expected("already_judged", {"verdict": ballot[1]}) if ballot[1] else None
        if name == "validate_election":
            unreviewed = sum(not verdict for _, verdict in self.ballots.values())
            return Expected("unreviewed", {"count": unreviewed}) if unreviewed else None
        return None

    def _not_cast(self, fields: Mapping[str, Any]) -> Expected | None:
        if fields["choice"] not in self._choices:
            return Expected("unknown_choice", {"choices": self._choices})
        if fields["voter"] in self.ballots:
            return Expected("already_cast", {"round": self.round})
        if self._electorate is not None and len(self.ballots) >= self._electorate:
            return Expected("electorate_exhausted", {"electorate": self._electorate})
        return None

    def _changed(self, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The step, and what the event tells beside the round."""
        self.phase = _MOVES.get((self.phase, name), self.phase)
        voter = fields.get("voter", b"")
        match name:
            case "open_election":
                self.round, self.ballots = self.round + 1, {}
                self._choices, self._electorate = list(fields["choices"]), fields.get("electorate")
                return {"choices": self._choices, "electorate": self._electorate, "sequence": self.sequence}
            case "cast_ballot":
                self.ballots[voter] = (fields["choice"], "")
                return {"voter": voter, "choice": fields["choice"]}
            case "validate_ballot" | "invalidate_ballot":
                choice, _ = self.ballots[voter]
                self.ballots[voter] = (choice, "valid" if name == "validate_ballot" else "invalid")
                return {"voter": voter, "choice": choice}
            case "close_election":
                return {"cast": len(self.ballots), "sequence": self.sequence}
            case "validate_election":
                _, _, _, cast, valid, invalid = self.shown
                return {"cast": cast, "valid": valid, "invalid": invalid, "sequence": self.sequence}
            case _:
                return {"sequence": self.sequence}
