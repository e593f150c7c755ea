"""The framework's own contract: incarnations, dead letters, outcomes, and the refusals every subsystem can give."""

import enum

import msgspec

from messages.message import CATALOG, Kind, Message, Rejection, Spec, event, rejection, reply
from messages.primitives import U32, U64, Hash32, Incarnation, TimeMs

__all__ = [
    "Busy",
    "CheckpointTaken",
    "CommandOutcome",
    "IncarnationStarted",
    "InvalidRequest",
    "OutcomeStatus",
    "Parked",
    "Position",
    "RepairNoted",
    "Timeout",
]


class Position(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A place in a stream: the stream's id (kept in its metadata), the sequence, and the identity of the message there."""

    stream: str
    sequence: U64
    # BLAKE3 of subject, headers and body of the message there; empty at the beginning.
    identity: bytes = b""


class IncarnationStarted(Message, frozen=True, kw_only=True):
    """Published by every sender before its first message with a new store (owner of the spec: `overseer`).

    `previous` is the incarnation found under the sender's own filter, if any.
    """

    incarnation: Incarnation
    previous: Incarnation | None = None


# A fact that every subsystem sends under its own name: registered once, found for any sender (see messages.subjects).
IncarnationStarted.spec = Spec(kind=Kind.FACT, owner="overseer", name="incarnation_started", version=1, body=IncarnationStarted)
CATALOG.add(IncarnationStarted.spec)


class Parked(Message, frozen=True, kw_only=True):
    """A dead letter: an input that could not be taken, told on `overseer.<node>.<subsystem>.rejected`.

    The original stays in the stream at `sequence`; `head` is its first 4 KiB.
    """

    stream: str
    sequence: U64
    subject: str
    # A stable word: the codec's reasons, unknown_message, wrong_sender, unannounced_incarnation, id_reused, handler_failed, ...
    reason: str
    detail: str
    body_hash: Hash32
    body_bytes: U32
    head: bytes


Parked.spec = Spec(kind=Kind.PARKED, owner="overseer", name="rejected", version=1, body=Parked)
CATALOG.add(Parked.spec)


@event(by="overseer")
class CheckpointTaken(Message, frozen=True, kw_only=True):
    """Tables as of journal index `index` are kept beside the journal under this name, with this hash."""

    index: U64
    name: str
    tables_hash: Hash32
    positions: list[Position]


@event(by="overseer")
class RepairNoted(Message, frozen=True, kw_only=True):
    """The stream was not the one, or not as long, as our position says; what was done and what is lost."""

    expected: Position
    found: Position
    # Our own messages that the stream had lost and that were published again.
    restored: U32
    detail: str
    at_ms: TimeMs


class OutcomeStatus(enum.StrEnum):
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    PARKED = "parked"


@reply(by="overseer")
class CommandOutcome(Message, frozen=True, kw_only=True):
    """What a caller of `req` gets, after the synced commit.

    `reply` is the accepted command's reply body (canonical CBOR of the command's reply type); `code` and `detail`
    name a rejection or dead letter (`detail` is the rejection's body), `sequence` is the command's place in the stream.
    """

    status: OutcomeStatus
    sequence: U64
    reply: bytes | None = None
    code: str | None = None
    detail: bytes | None = None
    retriable: bool = False


@rejection(by="overseer")
class InvalidRequest(Rejection, frozen=True, kw_only=True):
    """The request could not be read. `reason` is the codec's word."""

    reason: str
    detail: str


@rejection(by="overseer")
class Busy(Rejection, frozen=True, kw_only=True):
    """Not taken now: `reason` is outbox_full | not_ready | stopping | stream_full | too_many_requests | too_many_of_one_caller."""

    reason: str

    @property
    def retriable(self) -> bool:
        return True


@rejection(by="overseer")
class Timeout(Rejection, frozen=True, kw_only=True):
    """The command is in the stream; its outcome did not come in time. Retry with the same id to learn it."""

    waited_ms: U32

    @property
    def retriable(self) -> bool:
        return True
