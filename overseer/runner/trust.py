"""Messages between nodes: signed by the node on their way out, checked against its key on their way in (docs/security.md)."""

from typing import Protocol

from messages.envelope_signing import HEADER_SIGNATURE, SIGNATURE_DIGITS, envelope_payload
from overseer.ports.bus import Outgoing, StoredMessage
from overseer.subsystem import Check
from overseer.verification import verify_check

__all__ = ["Trust", "signed", "untrusted"]


class Trust(Protocol):
    """Whom a node believes to be whom."""

    def sign(self, payload: bytes) -> bytes:
        """By this node's identity (Ed25519); the same bytes for the same payload."""
        ...

    def key_of(self, node: str) -> bytes | None:
        """The public key of a node of the network; None: not one of it."""
        ...


def signed(trust: Trust | None, message: Outgoing) -> Outgoing:
    """The message as it goes out. Without trust (a network of tests in memory) nothing is signed nor checked."""
    if trust is None:
        return message
    signature = trust.sign(envelope_payload(message.subject, message.headers, message.body))
    return Outgoing(message.subject, {**message.headers, HEADER_SIGNATURE: signature.hex()}, message.body)


def untrusted(trust: Trust | None, node: str, message: StoredMessage) -> str:
    """What is wrong with a network message that says it is of `node`; "" when nothing is."""
    if trust is None:
        return ""
    key = trust.key_of(node)
    if key is None:
        return f"{node} is no node of this network"
    text = message.headers.get(HEADER_SIGNATURE, "")
    try:
        signature = bytes.fromhex(text) if len(text) == SIGNATURE_DIGITS else b""
    except ValueError:
        signature = b""
    payload = envelope_payload(message.subject, message.headers, message.body)
    return "" if signature and verify_check(Check("ed25519", key, payload, signature)) else f"not signed by {node}"
