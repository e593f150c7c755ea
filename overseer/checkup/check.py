"""What a check is, and how checks are run: each within a bounded time, whatever it meets."""

import enum
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from overseer.settings import Loaded

__all__ = ["CHECK_MS", "Check", "Patient", "Told", "Verdict", "ok", "run_checks", "warning", "wrong"]

# Longer than opening a large store takes, and than a slow disk syncs a few times.
CHECK_MS = 20_000


class Verdict(enum.StrEnum):
    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What a check found: `what`, and for anything but ok what to do. `check` is its name, filled in by who runs it."""

    verdict: Verdict
    what: str
    remedy: str = ""
    check: str = ""


class Patient(msgspec.Struct, frozen=True, kw_only=True):
    """What is checked: a configuration, and whether somebody's node (`config_error`: why the configuration could not be read)."""

    loaded: Loaded
    config_error: str = ""


class Check(msgspec.Struct, frozen=True):
    """`looks_at`: in a few words, for the documentation. `find` may tell several things; what it raises is told as wrong."""

    name: str
    looks_at: str
    find: Callable[[Patient], Iterable[Told]]


def ok(what: str) -> Told:
    return Told(verdict=Verdict.OK, what=what)


def warning(what: str, remedy: str) -> Told:
    return Told(verdict=Verdict.WARNING, what=what, remedy=remedy)


def wrong(what: str, remedy: str) -> Told:
    return Told(verdict=Verdict.WRONG, what=what, remedy=remedy)


def run_checks(checks: Sequence[Check], patient: Patient, *, check_ms: int = CHECK_MS) -> Iterator[Told]:
    """One after another, each at most so long. Raises nothing that a check raises."""
    for check in checks:
        for told in _within(check, patient, check_ms):
            yield msgspec.structs.replace(told, check=check.name)


def _within(check: Check, patient: Patient, check_ms: int) -> list[Told]:
    """In a thread of its own, which is left behind when it hangs (a dead network disk): it holds nobody's end up."""
    results = queue.SimpleQueue[list[Told]]()

    def find() -> None:
        try:
            results.put(list(check.find(patient)))
        except Exception as error:
            problem = f"the check failed: {type(error).__name__}: {error}"
            results.put([wrong(problem, "See what it says; if it makes no sense, report it")])

    threading.Thread(target=find, name=f"check {check.name}", daemon=True).start()
    try:
        return results.get(timeout=check_ms / 1000)
    except queue.Empty:
        return [wrong(f"no result within {check_ms / 1000:g} s", "Something it looks at hangs: a disk, or a network file system")]
