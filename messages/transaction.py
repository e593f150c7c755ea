"""The identity of a dispute transaction: what is pooled and executed once, whichever vote is its evidence."""

from hashlib import blake2b

from messages.polkadot import Side, Transaction, TransactionKind

__all__ = ["TRANSACTION_DOMAIN", "transaction_id"]

TRANSACTION_DOMAIN = b"overseer dispute transaction v1\x00"


def transaction_id(t: Transaction) -> bytes:
    """blake2b-256 of the domain and of (kind, session, candidate, validator, verdict); vote and signature do not count (C15).

    Layout after the domain: 00 reward / 01 slash, session u32, candidate 32, validator u32, 00 invalid / 01 valid;
    integers little-endian.
    """
    identity = b"".join(
        (
            b"\x01" if t.kind is TransactionKind.SLASH else b"\x00",
            t.session.to_bytes(4, "little"),
            t.candidate,
            t.validator.to_bytes(4, "little"),
            b"\x01" if t.verdict is Side.VALID else b"\x00",
        )
    )
    return blake2b(TRANSACTION_DOMAIN + identity, digest_size=32).digest()
