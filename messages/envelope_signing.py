"""The signature on the envelope of a message between nodes: by the sending node's identity (Ed25519), over all that its receivers go by.

Signed bytes: `overseer network v1` 00; subject, `Overseer-Id`, `Overseer-Schema` and `Content-Type`, each with 00 behind it; the body.

The subject names node and sender, the id the incarnation and the place in its journal: what is said again elsewhere, or by another, has no
valid signature. The other headers are for people.
"""

from collections.abc import Mapping

from messages.subjects import HEADER_CONTENT_TYPE, HEADER_ID, HEADER_SCHEMA

__all__ = ["HEADER_SIGNATURE", "SIGNATURE_DIGITS", "envelope_payload"]

HEADER_SIGNATURE = "Overseer-Signature"
# In hexadecimal.
SIGNATURE_DIGITS = 128

_DOMAIN = b"overseer network v1\x00"


def envelope_payload(subject: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """What the node signs."""
    parts = (subject, *(headers.get(name, "") for name in (HEADER_ID, HEADER_SCHEMA, HEADER_CONTENT_TYPE)))
    return _DOMAIN + b"".join(part.encode() + b"\x00" for part in parts) + body
