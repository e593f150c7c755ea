"""What a message is: a frozen, typed body and the specification it is registered under.

    @command(to="votes_db")
    class RegisterVote(Message): ...

    RegisterVote.spec.name      -> "register_vote"
    CATALOG.find(Kind.COMMAND, "votes_db", "register_vote").body is RegisterVote

The *owner* of a command or query is the subsystem that handles it; of a fact, signal, network message, journal event or
timer the subsystem that sends (or records) it. Names are the snake_case of the class name. The wire carries the schema
version beside the body; an older body is brought up to date by the chain of upcasters before it is validated.
"""

import enum
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar

import msgspec

__all__ = [
    "CATALOG",
    "Catalog",
    "Kind",
    "Message",
    "Rejection",
    "Row",
    "Spec",
    "Upcaster",
    "command",
    "event",
    "fact",
    "network",
    "pair",
    "query",
    "rejection",
    "reply",
    "signal",
    "timer",
]

# Raw decoded map of version v -> raw map of version v + 1.
Upcaster = Callable[[dict[str, Any]], dict[str, Any]]


class Kind(enum.StrEnum):
    """The kind of a message; the value is its token in a subject where it has one."""

    COMMAND = "cmd"
    FACT = "evt"
    SIGNAL = "sig"
    PARKED = "rejected"
    QUERY = "qry"
    NETWORK = "net"
    EVENT = "event"
    TIMER = "timer"
    REPLY = "reply"
    REJECTION = "rejection"
    # Between the members of a replicated election's process pair; its subject names the election (docs/elections.md).
    PAIR = "pair"


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """Where a message type stands in the contract."""

    kind: Kind
    owner: str
    name: str
    version: int
    body: type["Message"]
    # The reply type of a query, or of a command whose outcome a caller may await.
    reply: type["Message"] | None = None
    # from version -> function to the next version
    upcasters: Mapping[int, Upcaster] = {}

    @property
    def key(self) -> str:
        """The unique readable name, e.g. `votes_db.cmd.register_vote`."""
        return f"{self.owner}.{self.kind}.{self.name}"


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parent of every message body. Encoded as a CBOR map with field names as keys."""

    spec: ClassVar[Spec]


class Row(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The parent of elements of bulk lists: encoded as a CBOR array, fields in order."""


class Rejection(Message, frozen=True, kw_only=True):
    """The parent of typed refusals: data, not exceptions. The registered name is the error code a caller sees."""

    @property
    def code(self) -> str:
        return self.spec.name

    @property
    def retriable(self) -> bool:
        """Whether the same command may succeed later without a change."""
        return False


class Catalog:
    """All registered message types, by kind, owner and name."""

    def __init__(self) -> None:
        self._specs: dict[tuple[Kind, str, str], Spec] = {}

    def add(self, spec: Spec) -> None:
        key = (spec.kind, spec.owner, spec.name)
        if key in self._specs:
            raise ValueError(f"message {spec.key} is registered twice")
        self._specs[key] = spec

    def find(self, kind: Kind, owner: str, name: str) -> Spec | None:
        return self._specs.get((kind, owner, name))

    def by_key(self, key: str) -> Spec | None:
        """The message of the key `owner.kind.name`."""
        try:
            owner, kind, name = key.split(".")
            return self.find(Kind(kind), owner, name)
        except ValueError:
            return None

    def by_name(self, name: str) -> list[Spec]:
        """All messages of that name, or of that `owner.name`, or of that full key."""
        return [s for s in self if name in (s.name, f"{s.owner}.{s.name}", s.key)]

    def __iter__(self) -> Iterator[Spec]:
        return iter(sorted(self._specs.values(), key=lambda s: s.key))


CATALOG = Catalog()

_M = TypeVar("_M", bound=type[Message])


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _register(
    kind: Kind,
    owner: str,
    *,
    name: str | None = None,
    version: int = 1,
    reply: type[Message] | None = None,
    upcasters: Mapping[int, Upcaster] | None = None,
) -> Callable[[_M], _M]:
    steps = dict(upcasters or {})
    if sorted(steps) != list(range(1, version)):
        raise ValueError(f"{owner}: version {version} needs upcasters from 1 to {version - 1}, has {sorted(steps)}")

    def decorate(body: _M) -> _M:
        body.spec = Spec(
            kind=kind, owner=owner, name=name or _snake(body.__name__), version=version, body=body, reply=reply, upcasters=steps
        )
        CATALOG.add(body.spec)
        return body

    return decorate


def command(
    *, to: str, reply: type[Message] | None = None, version: int = 1, upcasters: Mapping[int, Upcaster] | None = None
) -> Callable[[_M], _M]:
    """Register a command for the subsystem `to`. `reply` is what an accepted outcome carries."""
    return _register(Kind.COMMAND, to, reply=reply, version=version, upcasters=upcasters)


def query(*, to: str, reply: type[Message]) -> Callable[[_M], _M]:
    """Register a read-only query answered by the subsystem `to`."""
    return _register(Kind.QUERY, to, reply=reply)


def fact(*, by: str, name: str | None = None, version: int = 1, upcasters: Mapping[int, Upcaster] | None = None) -> Callable[[_M], _M]:
    """Register a published fact of the subsystem `by`. A fact may also be recorded as a journal event.

    `name` is given where a signal of the same name has the plain class name.
    """
    return _register(Kind.FACT, by, name=name, version=version, upcasters=upcasters)


def signal(*, by: str, version: int = 1) -> Callable[[_M], _M]:
    """Register a signal to all, sent by `by`."""
    return _register(Kind.SIGNAL, by, version=version)


def network(*, by: str, version: int = 1) -> Callable[[_M], _M]:
    """Register a message between nodes, sent by the subsystem `by`."""
    return _register(Kind.NETWORK, by, version=version)


def pair(*, by: str, version: int = 1) -> Callable[[_M], _M]:
    """Register a message between the sites that hold one election, sent by `by` of one site to `by` of another."""
    return _register(Kind.PAIR, by, version=version)


def event(*, by: str, version: int = 1, upcasters: Mapping[int, Upcaster] | None = None) -> Callable[[_M], _M]:
    """Register a journal event: recorded by `by`, never published."""
    return _register(Kind.EVENT, by, version=version, upcasters=upcasters)


def timer(*, by: str) -> Callable[[_M], _M]:
    """Register a timer of the subsystem `by`: a message to itself, delivered when due."""
    return _register(Kind.TIMER, by)


def reply(*, by: str) -> Callable[[_M], _M]:
    """Register the body of an answer given by `by`."""
    return _register(Kind.REPLY, by)


def rejection(*, by: str, name: str | None = None) -> Callable[[_M], _M]:
    """Register a typed refusal given by `by` (`overseer` for those of the framework)."""
    return _register(Kind.REJECTION, by, name=name)
