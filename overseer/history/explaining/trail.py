"""Reasons from records: what happened in one, and the trail back from it to where somebody outside spoke."""

from collections.abc import Sequence
from functools import cached_property

import msgspec

from messages.message import Message
from overseer.history.causes import Ending, History, NodeHistory, Origin
from overseer.history.explaining.sentences import sentence
from overseer.history.explaining.votes import Sessions
from overseer.history.reasons import Reason
from overseer.history.trails import Found, Place, Step
from overseer.runner.schema import Record

__all__ = ["Teller"]

# A trail back has a handful of steps; one that goes on for ever would be a defect.
_STEPS_MAX = 64
# Events of one record that are told: the first ones say what it was about.
_EVENTS_TOLD = 3


class Teller:
    """Tells of one history, and of the node in it that is asked about."""

    def __init__(self, history: History, node: NodeHistory | None = None) -> None:
        self.history = history
        self.node = node or history.node

    @cached_property
    def sessions(self) -> Sessions:
        """The validators of the node that is asked about."""
        return Sessions(self.node)

    def told(self, found: Found, what: str = "", *, because: Sequence[Reason] = (), **about: str) -> Reason:
        """An event that was found, in a sentence; its trail ends there when the record came of a message from outside."""
        return self._reason(found.place, found.record, what or sentence(found.event), because, about)

    def traced(self, found: Found, what: str = "", **about: str) -> Reason:
        """As `told`, with the trail back as its reason."""
        return self.told(found, what, because=self.back(found.place, found.record), **about)

    def back(self, place: Place, record: Record) -> list[Reason]:
        """What led to a record, step by step; [] when somebody outside did."""
        steps: list[Step] = []
        origin = self.history.origin(place, record)
        while origin.step is not None and len(steps) < _STEPS_MAX:
            steps.append(origin.step)
            origin = self.history.origin(origin.step.place, origin.step.record)
        reasons: list[Reason] = []
        for step in reversed(steps):
            reasons = [self._reason(step.place, step.record, told_of(step.record, step.events), reasons, {})]
        return reasons

    def step(self, step: Step, *, because: Sequence[Reason] = (), led_to: Sequence[Reason] = ()) -> Reason:
        """A record as a whole."""
        reason = self._reason(step.place, step.record, told_of(step.record, step.events), because, {})
        return msgspec.structs.replace(reason, led_to=list(led_to))

    def _reason(self, place: Place, record: Record, what: str, because: Sequence[Reason], about: dict[str, str]) -> Reason:
        cause = record.cause
        outside = bool(cause.stream) and " " not in cause.id
        return Reason(
            what=what,
            at_ms=record.time_ms,
            record=place.text(),
            message=record.input,
            stream=cause.stream,
            position=cause.sequence,
            sender=cause.sender,
            command_id=cause.id if outside else "",
            about=about,
            ends=_end(self.history.origin(place, record), place, record),
            because=list(because),
        )


def _end(origin: Origin, place: Place, record: Record) -> str:
    """Why the trail ends at this record; "" when it goes on."""
    if origin.ending is None:
        return ""
    if origin.ending is not Ending.OUTSIDE:
        return origin.why
    sender = record.cause.sender
    if sender.startswith("op_"):
        return f"said by {sender.removeprefix('op_')}"
    if sender.startswith("req_"):
        return f"asked of {place.subsystem} by a client"
    return f"said by {sender or 'nobody known'}"


def told_of(record: Record, events: Sequence[Message]) -> str:
    """A record in a sentence or two."""
    if not events:
        name = record.input.rpartition(".")[2] or "nothing"
        return f"{name} was {record.result.status}" + (f" ({record.result.code})" if record.result.code else "")
    told = [sentence(event) for event in events[:_EVENTS_TOLD]]
    more = f"; and {len(events) - _EVENTS_TOLD} more" if len(events) > _EVENTS_TOLD else ""
    return "; ".join(told) + more
