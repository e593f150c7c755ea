"""Why a runner stops.

    RunnerFault               fatal: the process stops and names it
    ├── EvolveFailed          `evolve` raised: the subsystem is broken, its journal is not
    ├── SecondCopy            another incarnation writes under this sender: two copies run
    ├── JournalBroken         the hash chain or a record does not verify
    └── BadDeclaration        what the subsystem declares contradicts what it does

Everything else is recorded, not raised: rejections and dead letters in the journal, bus trouble as a state that passes.
"""

__all__ = ["BadDeclaration", "EvolveFailed", "JournalBroken", "RunnerFault", "SecondCopy"]


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
    def __init__(self, index: int, what: str) -> None:
        super().__init__(f"journal record {index}: {what}. Restore the store from another copy, or rebuild it from the stream.")
        self.index = index


class BadDeclaration(RunnerFault):
    def __init__(self, subsystem: str, what: str) -> None:
        super().__init__(f"{subsystem}: {what}")
