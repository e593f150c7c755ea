"""Moments: which past state is meant, as a person says it.

    25                     a position: message 25 of the node's stream was processed, and nothing behind it
    votes_db:120           an index: that record of this subsystem's journal is the last one
    14:05   14:05:30.250   a time of day (UTC): the last one that has been
    2026-11-22T14:05:00Z   a time; without an offset it is UTC
    5m   5m ago   -1h30m   so long ago: d, h, m, s, ms
    now                    all that is recorded

What each means for one subsystem is said in `overseer.history.journals`.
"""

import re
from datetime import UTC, datetime, timedelta

import msgspec

__all__ = ["AtIndex", "AtPosition", "AtTime", "BadMoment", "Moment", "Now", "read_moment", "time_text"]


class BadMoment(Exception):
    """There is no such moment, or its state cannot be rebuilt: why, and what can be had instead."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem} {remedy}".strip())
        self.problem = problem
        self.remedy = remedy


class AtPosition(msgspec.Struct, frozen=True):
    """Message `sequence` of the node's stream was processed, and nothing behind it."""

    sequence: int


class AtIndex(msgspec.Struct, frozen=True):
    """Record `index` of the subsystem's journal is its last."""

    subsystem: str
    index: int


class AtTime(msgspec.Struct, frozen=True):
    """Unix ms. The last instant of `ms` belongs to it."""

    ms: int


class Now(msgspec.Struct, frozen=True):
    """All that is recorded; asked at `ms`."""

    ms: int


Moment = AtPosition | AtIndex | AtTime | Now

_FORMS = "A moment is a position of the stream (25), a record (votes_db:120), a time (14:05, 2026-11-22T14:05:00Z, 5m ago), or now."
# Sequences, indices and times are u64.
_U64_MAX = 2**64 - 1
_AGO = re.compile(r"-?((?:\d+(?:ms|d|h|m|s))+)(?: ?ago)?")
_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_CLOCK = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d{1,6})?)?")
_INDEX = re.compile(r"([a-z_][a-z0-9_]*):(\d+)")


def read_moment(text: str, now_ms: int) -> Moment:
    """The moment that `text` means at `now_ms` (Unix ms). Raises BadMoment, also for times to come."""
    said = text.strip()
    if said == "now":
        return Now(now_ms)
    if said.isascii() and said.isdigit():
        return AtPosition(_bounded(int(said), text))
    if found := _INDEX.fullmatch(said):
        return AtIndex(found[1], _bounded(int(found[2]), text))
    if found := _AGO.fullmatch(said):
        parts = re.findall(r"(\d+)(ms|d|h|m|s)", found[1])
        ms = now_ms - sum(int(count) * _UNIT_MS[unit] for count, unit in parts)
        if ms < 0:
            raise BadMoment(f"{text!r} is before all time.", _FORMS)
        return AtTime(ms)
    ms = _clock(said, now_ms) if _CLOCK.fullmatch(said) else _time(said)
    if ms is None or ms < 0:
        raise BadMoment(f"{text!r} is no moment.", _FORMS)
    if ms > now_ms:
        raise BadMoment(f"{time_text(ms)} is yet to come; it is {time_text(now_ms)}.", "Times without an offset are UTC.")
    return AtTime(ms)


def time_text(ms: int) -> str:
    """Unix ms as people and `read_moment` read it: 2026-11-22T14:05:00.250Z."""
    try:
        return (datetime(1970, 1, 1) + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds") + "Z"
    except OverflowError:
        return f"{ms} ms"


def _bounded(number: int, text: str) -> int:
    if number > _U64_MAX:
        raise BadMoment(f"{text!r} is too large a number.", _FORMS)
    return number


def _clock(said: str, now_ms: int) -> int | None:
    """The last time that it was so late."""
    try:
        clock = datetime.strptime(f"{said}{':00' * (2 - said.count(':'))}{'' if '.' in said else '.0'}", "%H:%M:%S.%f").time()
    except ValueError:
        return None
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    ms = _ms(datetime.combine(now.date(), clock, UTC))
    return ms if ms <= now_ms else ms - _UNIT_MS["d"]


def _time(said: str) -> int | None:
    try:
        found = datetime.fromisoformat(said)
    except ValueError:
        return None
    # A date alone names no moment, and numbers such as 20261122 are read as dates.
    if ":" not in said:
        return None
    return _ms(found if found.tzinfo is not None else found.replace(tzinfo=UTC))


def _ms(time: datetime) -> int:
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
