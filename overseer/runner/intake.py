"""Bytes in -> decoded: what a delivery is, as far as it can be told without the store.

Pure and stateless, so that it runs ahead of the decisions. Whatever cannot be read becomes a `Refusal` with a reason; it is
parked in its place in the order, the line goes on.
"""

from functools import lru_cache

import msgspec
from blake3 import blake3

from messages.codec import HEADERS_BYTES_MAX, CodecError, decode
from messages.message import Kind, Message, Spec
from messages.overseer import IncarnationStarted
from messages.signals import Conclude
from messages.subjects import (
    CONTENT_CBOR,
    CONTENT_JSON,
    HEADER_COMMAND_ID,
    HEADER_CONTENT_TYPE,
    HEADER_ID,
    HEADER_SCHEMA,
    Address,
    MessageId,
    SubjectError,
    parse,
)
from messages.text import from_json
from overseer.ports.bus import Delivery, StoredMessage
from overseer.runner.trust import Trust, untrusted
from overseer.subsystem import Declaration

__all__ = ["COMMAND_ID_CHARS_MAX", "FRAMEWORK", "Intake", "Reader", "Refusal", "identity", "is_outside"]

COMMAND_ID_CHARS_MAX = 128

# What the runner itself listens to, whatever the subsystem consumes.
FRAMEWORK: tuple[type[Message], ...] = (IncarnationStarted, Conclude)


class Refusal(Exception):
    """Why an input is parked: a stable word and a text."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Intake(msgspec.Struct, frozen=True):
    """A delivery after reading: `message` or `refusal` is set; both None: not for us, only the position moves."""

    delivery: Delivery
    address: Address | None = None
    message: Message | None = None
    id: MessageId | None = None
    command_id: str = ""
    refusal: Refusal | None = None


def identity(message: StoredMessage) -> bytes:
    """BLAKE3 over subject, headers and body: the same message has the same identity wherever it is stored."""
    headers = message.headers
    lines = "\n".join([f"{name}:{headers[name]}" for name in sorted(headers) if not name.startswith("Nats-")])
    return blake3(f"{message.subject}\n{lines}\n\n".encode() + message.body).digest()


def is_outside(sender: str) -> bool:
    """Senders without a journal of their own: they go by command id or position, not by watermark."""
    return sender == "overseer" or sender.startswith(("op_", "req_"))


@lru_cache(maxsize=4096)
def _route(subject: str) -> tuple[Address, Spec | None]:
    address = parse(subject)
    return address, address.spec()


class Reader:
    """Reads deliveries for one subsystem of one node."""

    def __init__(self, node: str, declaration: Declaration, trust: Trust | None = None) -> None:
        self._trust = trust
        self._node = node
        self._declaration = declaration
        self._consumed = frozenset((*declaration.consumes, *FRAMEWORK))

    def read(self, delivery: Delivery) -> Intake:
        stored = delivery.message
        try:
            address, spec = _route(stored.subject)
        except SubjectError as error:
            return Intake(delivery, refusal=Refusal("bad_subject", str(error)))
        echo = address.kind is Kind.NETWORK and address.node == self._node and not self._declaration.hears_itself
        if address.kind is Kind.PARKED or echo:
            # Our own echo on the network's line; and a dead letter must never beget another.
            return Intake(delivery, address)
        try:
            if spec is None:
                raise Refusal("unknown_message", f"nothing is registered for {stored.subject}")
            if spec.body not in self._consumed:
                raise Refusal("not_consumed", f"{self._declaration.name} does not consume {spec.key}")
            if address.kind is Kind.NETWORK and (wrong := untrusted(self._trust, address.node, stored)):
                raise Refusal("bad_signature", wrong)
            message_id, command_id = self._identity(address, stored)
            self._permitted(address, spec)
            return Intake(delivery, address, self._body(spec, stored), message_id, command_id)
        except Refusal as refusal:
            return Intake(delivery, address, refusal=refusal)

    def _identity(self, address: Address, stored: StoredMessage) -> tuple[MessageId | None, str]:
        headers = stored.headers
        if sum(map(len, headers)) + sum(map(len, headers.values())) > HEADERS_BYTES_MAX:
            raise Refusal("headers_too_large", f"the limit is {HEADERS_BYTES_MAX} bytes")
        if is_outside(address.sender):
            command_id = headers.get(HEADER_COMMAND_ID, "")
            if len(command_id) > COMMAND_ID_CHARS_MAX or not command_id.isprintable():
                raise Refusal("bad_command_id", f"at most {COMMAND_ID_CHARS_MAX} printable characters")
            return None, command_id
        text = headers.get(HEADER_ID)
        if text is None:
            raise Refusal("no_id", f"a subsystem's message needs {HEADER_ID}")
        try:
            message_id = MessageId.parse(text)
        except SubjectError as error:
            raise Refusal("bad_id", str(error)) from None
        if message_id.sender != address.sender:
            raise Refusal("wrong_sender", f"{HEADER_ID} names {message_id.sender!r}, the subject {address.sender!r}")
        return message_id, ""

    def _permitted(self, address: Address, spec: Spec) -> None:
        allowed = self._declaration.restricted.get(spec.body)
        if allowed is not None and address.sender not in allowed:
            raise Refusal("forbidden_sender", f"{spec.key} is taken from {', '.join(allowed)} alone, not from {address.sender}")

    def _body(self, spec: Spec, stored: StoredMessage) -> Message:
        content = stored.headers.get(HEADER_CONTENT_TYPE, CONTENT_CBOR)
        text = stored.headers.get(HEADER_SCHEMA)
        try:
            if content == CONTENT_JSON:
                return from_json(spec, stored.body)
            if content != CONTENT_CBOR:
                raise Refusal("bad_content_type", f"{content[:100]!r}; known are {CONTENT_CBOR} and {CONTENT_JSON}")
            if text is None:
                return decode(spec, stored.body)
            if not (text.isascii() and text.isdigit() and len(text) < 6):
                raise Refusal("bad_schema", f"{HEADER_SCHEMA} is not a version number: {text[:40]!r}")
            return decode(spec, stored.body, version=int(text))
        except CodecError as error:
            raise Refusal(error.reason, error.detail) from None
