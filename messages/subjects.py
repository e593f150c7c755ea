"""Subjects and headers: where a message travels and what is written on its envelope (docs/protocol.md).

The owner comes first: `overseer.<node>.<sender>.<kind>...`. The sender is the subject's token, fixed by its account.
"""

import re

import msgspec

from messages.message import CATALOG, Kind, Spec

__all__ = [
    "CONTENT_CBOR",
    "CONTENT_JSON",
    "HEADER_CALLER",
    "HEADER_CAUSE",
    "HEADER_COMMAND_ID",
    "HEADER_CONTENT_TYPE",
    "HEADER_CORRELATION",
    "HEADER_ID",
    "HEADER_SCHEMA",
    "HEADER_TRACEPARENT",
    "Address",
    "MessageId",
    "SubjectError",
    "build",
    "headers_of",
    "live_prefix",
    "net_filter",
    "net_stream",
    "node_stream",
    "own_filter",
    "parse",
]

HEADER_ID = "Overseer-Id"
HEADER_CAUSE = "Overseer-Cause"
HEADER_CORRELATION = "Overseer-Correlation"
HEADER_SCHEMA = "Overseer-Schema"
# An outside caller's own id for a command: makes retries have one effect. Text, at most 128 printable characters.
HEADER_COMMAND_ID = "Overseer-Command-Id"
# The account of the caller of a `req`, as the endpoint was told by the server.
HEADER_CALLER = "Overseer-Caller"
HEADER_CONTENT_TYPE = "Content-Type"
HEADER_TRACEPARENT = "traceparent"
CONTENT_CBOR = "application/cbor"
CONTENT_JSON = "application/json"

_TOKEN = re.compile(r"[a-z][a-z0-9_]{0,63}")
_RESERVED_NODES = ("net", "log")


class SubjectError(ValueError):
    """Not a subject of this grammar."""


class Address(msgspec.Struct, frozen=True):
    """A parsed subject. `receiver` is set for commands; `name` is empty for `rejected`."""

    node: str
    sender: str
    kind: Kind
    name: str
    receiver: str = ""

    def spec(self) -> Spec | None:
        """The registered message that may travel here, or None. Facts common to all senders belong to `overseer`."""
        if self.kind is Kind.COMMAND:
            return CATALOG.find(Kind.COMMAND, self.receiver, self.name)
        if self.kind is Kind.PARKED:
            return CATALOG.find(Kind.PARKED, "overseer", "rejected")
        return CATALOG.find(self.kind, self.sender, self.name) or (
            CATALOG.find(Kind.FACT, "overseer", self.name) if self.kind is Kind.FACT else None
        )


class MessageId(msgspec.Struct, frozen=True, order=True):
    """`Overseer-Id`: sender, incarnation (hex), journal index at the sender, place among that record's messages."""

    sender: str
    incarnation: str
    sequence: int
    index: int

    def text(self) -> str:
        return f"{self.sender} {self.incarnation} {self.sequence} {self.index}"

    @classmethod
    def parse(cls, text: str) -> "MessageId":
        """Raises SubjectError."""
        parts = text.split(" ")
        if len(parts) != 4 or not all(p.isascii() and p.isdigit() and len(p) < 20 for p in parts[2:]):
            raise SubjectError(f"{HEADER_ID} is not 'sender incarnation sequence index': {text[:100]!r}")
        return cls(parts[0], parts[1], int(parts[2]), int(parts[3]))


def check_token(token: str, what: str) -> str:
    """The token, if it may stand in a subject. Raises SubjectError."""
    # fullmatch: "$" would let a newline pass, and with it a protocol line of NATS.
    if not _TOKEN.fullmatch(token):
        raise SubjectError(f"{what} {token!r} must be lower snake case, at most 64 characters")
    if what == "node" and token in _RESERVED_NODES:
        raise SubjectError(f"a node must not be called {token!r}: the token is taken")
    return token


def build(node: str, sender: str, spec: Spec) -> str:
    """The subject on which `sender` sends a message of `spec`."""
    match spec.kind:
        case Kind.COMMAND:
            return f"overseer.{node}.{sender}.cmd.{spec.owner}.{spec.name}"
        case Kind.FACT | Kind.SIGNAL:
            return f"overseer.{node}.{sender}.{spec.kind.value}.{spec.name}"
        case Kind.PARKED:
            return f"overseer.{node}.{sender}.rejected"
        case Kind.QUERY:
            return f"overseer.{node}.{spec.owner}.qry.{spec.name}"
        case Kind.NETWORK:
            return f"overseer.net.{node}.{sender}.{spec.name}"
        case _:
            raise SubjectError(f"{spec.key} never travels")


def headers_of(spec: Spec) -> dict[str, str]:
    """What the envelope of any message of `spec` says of its body, in CBOR."""
    return {HEADER_SCHEMA: str(spec.version), HEADER_CONTENT_TYPE: CONTENT_CBOR}


def request_subject(node: str, spec: Spec) -> str:
    """The subject on which a command's outcome is awaited."""
    return f"overseer.{node}.{spec.owner}.req.{spec.name}"


def parse(subject: str) -> Address:
    """The address of a stored message. Raises SubjectError."""
    parts = subject.split(".")
    match parts:
        case ["overseer", "net", node, sender, name]:
            return Address(node, sender, Kind.NETWORK, name)
        case ["overseer", node, sender, "cmd", receiver, name]:
            return Address(node, sender, Kind.COMMAND, name, receiver)
        case ["overseer", node, sender, ("evt" | "sig" | "qry") as kind, name]:
            return Address(node, sender, Kind(kind), name)
        case ["overseer", node, sender, "rejected"]:
            return Address(node, sender, Kind.PARKED, "")
        case _:
            raise SubjectError(f"not a subject of this system: {subject[:200]!r}")


def own_filter(node: str, sender: str) -> str:
    """Everything `sender` appends to the node's stream."""
    return f"overseer.{node}.{sender}.>"


def net_filter(node: str, sender: str) -> str:
    """Everything `sender` of `node` appends to the network's stream."""
    return f"overseer.net.{node}.{sender}.>"


def node_stream(node: str) -> str:
    return f"OVERSEER_{node}"


def net_stream() -> str:
    return "OVERSEER_NET"


def live_prefix() -> str:
    """The stream republishes what it stored under this prefix, for the live view."""
    return "live."
