"""What a fuzz target is: one inlet, the errors it may give, and what must hold of whatever it takes."""

import functools
import signal
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CORPUS", "SECONDS_MAX", "Broken", "Slow", "Target", "Verdict", "attempt", "corpus", "folder", "measured"]

# A folder for each target, a file for each input that was found worth keeping.
CORPUS = Path(__file__).parent / "corpus"

# No input may keep an inlet busy for longer (CPU time: other programs on the machine do not count).
SECONDS_MAX = 1.0
# After so much of it the input is given up.
GIVEN_UP_S = 5.0


class Broken(AssertionError):
    """What was taken is not what it should be: the oracle's verdict."""


class Slow(AssertionError):
    """It took longer than the target's limit."""


class Hung(BaseException):
    """It did not end. No `except Exception` of the target may swallow it."""


@contextmanager
def _given_up() -> Iterator[None]:
    """Raise Hung within, in time of this process's own. Only the main thread can be interrupted so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGVTALRM, _hang)
    signal.setitimer(signal.ITIMER_VIRTUAL, GIVEN_UP_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _hang(_number: int, _frame: object) -> None:
    raise Hung(f"more than {GIVEN_UP_S} s")


@dataclass(frozen=True)
class Target:
    """One inlet. `run` returns a word for what became of the input, or raises one of `allowed`: the inlet's own named errors."""

    name: str
    about: str
    run: Callable[[bytes], str]
    seeds: Callable[[], list[bytes]]
    allowed: tuple[type[BaseException], ...] = ()
    # What mutations may put in.
    tokens: tuple[bytes, ...] = ()
    seconds_max: float = SECONDS_MAX
    # Bytes allocated for one input at most, beyond what was there before (tracemalloc).
    bytes_max: int = 16 * 1024 * 1024
    input_bytes_max: int = 4096


@dataclass(frozen=True)
class Verdict:
    """`outcome`: a word for it. `error` is set when the target must not do that."""

    outcome: str
    seconds: float
    error: BaseException | None = None


def attempt(target: Target, data: bytes) -> Verdict:
    """Give `data` to the target once."""
    error: BaseException | None = None
    began = time.thread_time()
    try:
        with _given_up():
            outcome = target.run(data)
    except target.allowed as refused:
        outcome = str(getattr(refused, "reason", type(refused).__name__))
    except (Exception, Hung) as unexpected:
        outcome, error = type(unexpected).__name__, unexpected
    seconds = time.thread_time() - began
    if error is None and seconds > target.seconds_max:
        error = Slow(f"{seconds:.3f} s for {len(data)} bytes, the limit is {target.seconds_max} s")
    return Verdict(outcome, seconds, error)


def measured(target: Target, data: bytes) -> tuple[Verdict, int]:
    """As `attempt`, with the bytes allocated meanwhile. Tracing is slow: that verdict's Slow says nothing."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        verdict = attempt(target, data)
        return verdict, tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def corpus(target: Target) -> list[bytes]:
    """The inputs kept for the target, always in the same order."""
    return [path.read_bytes() for path in sorted((CORPUS / target.name).glob("*"))]


# Removed when the process ends.
_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []


@functools.cache
def folder(name: str) -> Path:
    """A folder of that name's own for all inputs of this process."""
    place = tempfile.TemporaryDirectory(prefix=f"overseer-fuzz-{name}-")
    _FOLDERS.append(place)
    return Path(place.name)
