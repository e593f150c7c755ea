"""What a simulation plays and what judges it: the interface between the machinery and what is simulated on it.

A `Scenario` is a plug-in: the subsystems of each node, the traffic given to them, and the checkers that watch. The machinery
(nodes, clocks, faults, clients) knows no subsystem; a scenario knows no fault. What checkers are told is only what an observer
from outside could see: what was asked and answered, what the streams hold, and the rows of the stores.
"""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Protocol, runtime_checkable

import msgspec

from messages.message import Message
from overseer.ports.bus import StoredMessage
from overseer.ports.store import StoreReader
from overseer.runner.schema import Record
from overseer.subsystem import Subsystem

__all__ = [
    "CALLER",
    "Answer",
    "AtRest",
    "Author",
    "Authored",
    "Cast",
    "Checker",
    "Network",
    "Outside",
    "Scenario",
    "Sized",
    "Submission",
    "Violation",
    "Watcher",
    "alike",
]

# Who asks from outside, where nobody else is named.
CALLER = "op_simulation"
# The subsystems of one node, by name: how each process makes its own.
Cast = Mapping[str, Callable[[], Subsystem]]


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """The size of one simulated network. `hours`: virtual time in which traffic and faults happen."""

    seed: int
    nodes: tuple[str, ...]
    hours: float


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """One input from outside. Made before the run: the same whatever happens in it.

    `command_id` empty: a plain publish without an outcome (`message` None then: `subject`, `headers`, `body` are as they are,
    forged or malformed ones). Otherwise it is asked for under that id, again and again under the same id while no answer
    comes, and under a new one (`<id>.1`, `<id>.2`, ...) as long as the refusal is a retriable one, until `patience_ms`.
    """

    at_ms: int
    node: str
    message: Message | None = None
    command_id: str = ""
    sender: str = CALLER
    patience_ms: int = 3_600_000
    subject: str = ""
    headers: Mapping[str, str] | None = None
    body: bytes = b""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a submission: `code` is "accepted", a rejection's, a dead letter's reason, or "" (given up)."""

    submission: Submission
    command_id: str
    at_ms: int
    code: str
    reply: bytes | None = None


class Violation(Exception):
    """A promise was broken: `checker: what`, with the evidence."""

    def __init__(self, checker: str, what: str) -> None:
        super().__init__(f"{checker}: {what}")
        self.checker = checker


class AtRest(Protocol):
    """The network after all faults have ceased and everything settled (or its time was up)."""

    network: Network
    # Inputs whose answer never came, subsystems that did not settle, with the reason each: liveness is judged by it.
    outstanding: Sequence[str]

    def store(self, node: str, subsystem: str) -> StoreReader:
        """What that subsystem's disk holds."""
        ...

    def stream(self, node: str) -> Sequence[StoredMessage]:
        """The node's stream as it is now ("net": the network's)."""
        ...

    def ask(self, node: str, query: Message) -> Message:
        """What the subsystem itself answers from its rows (reply or rejection)."""
        ...


class Checker(Protocol):
    """Watches one promise. Raises Violation from any method; state is its own, written independently of the code under test."""

    name: str

    def submitted(self, submission: Submission) -> None:
        """It is about to be given (for the first time)."""
        ...

    def answered(self, answer: Answer) -> None:
        """Somebody was told an outcome."""
        ...

    def stored(self, node: str, message: StoredMessage) -> None:
        """The node's stream ("net": the network's) has taken a message."""
        ...

    def lost(self, node: str, last_sequence: int, *, replaced: bool) -> None:
        """A fault took the stream's messages behind `last_sequence` (all of them when it was replaced)."""
        ...

    def recorded(self, node: str, subsystem: str, record: Record, events: Sequence[Message]) -> None:
        """A record became durable in that subsystem's journal, with its events decoded."""
        ...

    def set_back(self, node: str, subsystem: str, index: int) -> None:
        """A fault took that subsystem's journal behind `index` (0: a new, empty store)."""
        ...

    def at_rest(self, rest: AtRest) -> None:
        """The end."""
        ...


class Watcher:
    """A checker that hears everything and minds nothing; others say what they mind. Has what an `InnerChecker` has besides."""

    name = "watcher"

    def submitted(self, submission: Submission) -> None: ...

    def answered(self, answer: Answer) -> None: ...

    def stored(self, node: str, message: StoredMessage) -> None: ...

    def lost(self, node: str, last_sequence: int, *, replaced: bool) -> None: ...

    def recorded(self, node: str, subsystem: str, record: Record, events: Sequence[Message]) -> None: ...

    def set_back(self, node: str, subsystem: str, index: int) -> None: ...

    def acknowledged(self, node: str, subsystem: str, line: str, sequence: int) -> None: ...

    def trimmed(self, node: str, sequences: Sequence[int]) -> None: ...

    def at_rest(self, rest: AtRest) -> None: ...

    def expect(self, holds: bool, what: str) -> None:
        """Raise Violation unless it holds."""
        if not holds:
            raise Violation(self.name, what)


class Scenario(Protocol):
    """What is played. `traffic` and `checkers` depend on the network and the random numbers alone."""

    name: str

    def casts(self, network: Network) -> Mapping[str, Cast]:
        """By node. All have the same subsystems, which need not be alike."""
        ...

    def traffic(self, network: Network, random: Random) -> Sequence[Submission]:
        """All inputs, in order of time (milliseconds from the start)."""
        ...

    def checkers(self, network: Network, traffic: Sequence[Submission]) -> Sequence[Checker]: ...


def alike(network: Network, cast: Cast) -> Mapping[str, Cast]:
    """The same at every node."""
    return dict.fromkeys(network.nodes, cast)


@runtime_checkable
class Sized(Protocol):
    """A scenario that has sizes of its own: how many nodes its networks may have, and each seed's has; hours and faults of a case."""

    sizes: Sequence[int]
    hours: float
    faults: int

    def nodes_of(self, seed: int) -> int: ...


class Outside(Protocol):
    """What somebody outside of all nodes can do and see."""

    network: Network

    def now_s(self) -> float:
        """Virtual time."""
        ...

    def stream(self, node: str) -> Sequence[StoredMessage]:
        """As `AtRest.stream`, now."""
        ...

    async def submit(self, submission: Submission) -> str:
        """One input more, as those of `traffic`; returns its last `Answer.code`. `at_ms` says nothing."""
        ...

    async def query(self, node: str, query: Message) -> Message | None:
        """What the node answers; None: nothing, or a refusal."""
        ...

    def violated(self, violation: Violation) -> None:
        """A promise is broken, as seen from outside: the run ends."""
        ...


class Author(Protocol):
    """Somebody outside who goes by what happens, as the author of a chain does."""

    @property
    def outstanding(self) -> str:
        """What is still to come of it once faults have ceased; "" when nothing is."""
        ...

    async def run(self) -> None: ...

    def cease(self) -> None:
        """Faults have ceased."""
        ...


@runtime_checkable
class Authored(Protocol):
    """A scenario with an author, beside what was planned."""

    def author(self, outside: Outside) -> Author: ...
