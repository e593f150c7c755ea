"""An observer that remembers, and kills at a step."""

from collections import Counter

from overseer.runner.observer import Step

__all__ = ["Killed", "Witness"]


class Killed(BaseException):
    """The process dies here. Not an Exception: nothing of the runner may catch it."""


class Witness:
    """Implements `overseer.runner.observer.Observer`."""

    def __init__(self) -> None:
        self.steps: Counter[Step] = Counter()
        # (status, code) of every input.
        self.results: Counter[tuple[str, str]] = Counter()
        self.batches: list[int] = []
        self.troubles: list[str] = []
        self._kill_at: tuple[Step, int] | None = None

    def kill_at(self, step: Step, times: int) -> None:
        """Raise Killed when `step` is passed for the `times`-th time from now."""
        self._kill_at = (step, times)

    def step(self, step: Step) -> None:
        self.steps[step] += 1
        if self._kill_at is not None and self._kill_at[0] is step:
            left = self._kill_at[1] - 1
            self._kill_at = (step, left) if left else None
            if not left:
                raise Killed(step)

    def batch(self, size: int, decide_s: float, commit_s: float) -> None:
        self.batches.append(size)

    def flight(self, seconds: float) -> None:
        pass

    def result(self, status: str, code: str) -> None:
        self.results[status, code] += 1

    def trouble(self, what: str) -> None:
        self.troubles.append(what)
