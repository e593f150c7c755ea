"""The subsystem interface: declared data and pure functions, driven by one generic runner (docs/concepts.md).

A subsystem never sees the bus, the store, a clock or a random source: time, entropy and the facts about signatures are
arguments. It tells the rest of the world what happened by events alone: `decide` proposes them, `evolve` applies them to
the tables, `react` turns each into the messages that follow from it.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from messages.message import Message, Rejection
from overseer.tables import Table, Tables, View

__all__ = [
    "CancelTimer",
    "Check",
    "Context",
    "Decision",
    "Declaration",
    "SetTimer",
    "Subsystem",
    "Verify",
]


class Check(NamedTuple):
    """An expensive pure check: does `signature` over `message` verify under `key` in `scheme` (sr25519 | ed25519)?"""

    scheme: str
    key: bytes
    message: bytes
    signature: bytes


# Asks the memo of checks computed ahead; computes inline what is missing. Malformed input is False, never an error.
Verify = Callable[[Check], bool]


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """All inputs of a decision beside the message and the tables."""

    # max(last, the stream's store timestamp): never goes back; decisions use no other time.
    now_ms: int
    # The subject's sender token: a subsystem, `overseer`, `op_<name>`, `req_<subsystem>`, or the subsystem itself for a timer.
    sender: str
    # The NATS account of whoever asked (awaited commands), else "".
    caller: str = ""
    # The node that a network message is from, as its subject says; else "".
    node: str = ""
    # Sequence in the stream that it came by, the node's or the network's; 0 for a timer.
    position: int = 0
    # Fresh random bytes for this message; what is drawn from it must be recorded in an event to be used.
    entropy: bytes = b""
    verify: Verify


class SetTimer(msgspec.Struct, frozen=True, kw_only=True):
    """Deliver `message` to this subsystem at `at_ms` or later. The same key replaces an earlier timer."""

    key: str
    at_ms: int
    message: Message


class CancelTimer(msgspec.Struct, frozen=True, kw_only=True):
    key: str


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What `decide` wants recorded: events in order (facts may serve as events), timers, and the caller's reply."""

    events: Sequence[Message] = ()
    timers: Sequence[SetTimer | CancelTimer] = ()
    reply: Message | None = None


class Declaration(msgspec.Struct, frozen=True, kw_only=True):
    """What a subsystem is, as data. Everything around it is derived from this (filters, accounts, graph, checks)."""

    name: str
    description: str
    # Commands, facts and signals taken from the node's stream; network messages from the network's.
    consumes: tuple[type[Message], ...]
    # Commands, facts, signals and network messages that `react` may return.
    sends: tuple[type[Message], ...]
    # Queries answered.
    answers: tuple[type[Message], ...]
    # Commands whose outcome a caller may await by request/reply; a subset of `consumes`.
    requests: tuple[type[Message], ...] = ()
    # Commands accepted from subsystems alone (never from an operator): a subset of `consumes`, with who may send each.
    restricted: dict[type[Message], tuple[str, ...]] = {}
    # Events that `decide` may record, besides facts.
    events: tuple[type[Message], ...]
    timers: tuple[type[Message], ...] = ()
    rejections: tuple[type[Rejection], ...] = ()
    tables: tuple[Table[Any], ...]
    # Whether its own network messages come to it as well, at their place among those of other nodes.
    hears_itself: bool = False
    # Raise when `evolve` would build other tables from the same journal: they are then rebuilt before intake.
    evolve_version: int = 1


class Subsystem(Protocol):
    """The five functions. All are pure and synchronous; none may raise for bad input that passed the codec."""

    @property
    def declaration(self) -> Declaration: ...

    def decide(self, view: View, message: Message, context: Context) -> Decision | Rejection:
        """What follows from `message` (consumed, or an own timer that fired). Ignoring it is an empty Decision."""
        ...

    def evolve(self, tables: Tables, event: Message) -> None:
        """Apply one recorded event. Never fails; looks at nothing but the event and the tables."""
        ...

    def react(self, event: Message) -> Iterable[Message]:
        """What the world is told: a function of the event alone."""
        ...

    def answer(self, view: View, query: Message, context: Context) -> Message | Rejection:
        """Answer a query from committed state; bounded work."""
        ...

    def checks(self, view: View, message: Message) -> Iterable[Check]:
        """The checks `decide` will ask for, as far as can be told from `view`; a hint, never needed for correctness."""
        ...
