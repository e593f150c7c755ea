"""Why a runner stops.

    RunnerFault               fatal: the process stops and names it
    ├── EvolveFailed          `evolve` raised: the subsystem is broken, its journal is not
    ├── SecondCopy            another incarnation writes under this sender: two copies run
    ├── JournalBroken         the hash chain or a record does not verify
    ├── StreamChanged         while we ran, the stream lost its tail or became another: start again, so that opening repairs it
    └── BadDeclaration        what the subsystem declares contradicts what it does

Everything else is recorded, not raised: rejections and dead letters in the journal, bus trouble as a state that passes.
"""

from typing import cast

from overseer.ports.store import StoreError

__all__ = ["BadDeclaration", "EvolveFailed", "JournalBroken", "RunnerFault", "SecondCopy", "StreamChanged", "first_cause"]


class RunnerFault(Exception):
    """The root: stop, named."""


class EvolveFailed(RunnerFault):
    def __init__(self, subsystem: str, event: str, error: BaseException) -> None:
        super().__init__(f"{subsystem}: evolve failed on {event}: {error!r}. The journal is intact; mend the code and start again.")
        self.subsystem = subsystem
        self.event = event


class SecondCopy(RunnerFault):
    def __init__(self, sender: str, ours: str, found: str) -> None:
        super().__init__(
            f"{sender}: another copy is running: the last message under its subjects is of incarnation {found}, ours is {ours}. "
            "Stop one of the two."
        )
        self.sender = sender


class JournalBroken(RunnerFault):
    """`index` names the record at fault; what is behind `last_intact` cannot be trusted."""

    def __init__(self, index: int, what: str, *, last_intact: int | None = None) -> None:
        super().__init__(
            f"journal record {index}: {what}. Restore the store from a copy, or rebuild it from the stream: see `overseer repair --help`."
        )
        self.index = index
        self.last_intact = index - 1 if last_intact is None else last_intact


class StreamChanged(RunnerFault):
    def __init__(self, stream: str, taken: int, last: int, stream_id: str) -> None:
        super().__init__(f"{stream}: we had taken {taken}, it ends at {last} (id {stream_id})")
        self.stream = stream


class BadDeclaration(RunnerFault):
    def __init__(self, subsystem: str, what: str) -> None:
        super().__init__(f"{subsystem}: {what}")


def first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What ended us: the first named error in the group, else the first of any kind."""
    errors: list[BaseException] = []
    stack: list[BaseException] = [group]
    while stack:
        error = stack.pop(0)
        if isinstance(error, BaseExceptionGroup):
            stack = [*cast("BaseExceptionGroup[BaseException]", error).exceptions, *stack]
        else:
            errors.append(error)
    return next((error for error in errors if isinstance(error, RunnerFault | StoreError)), errors[0])
