"""SCALE, as far as candidate receipts need it, and the hashes made of it (Polkadot's primitives, v5 receipts).

Integers are little-endian; vectors carry a compact length; an option is 00, or 01 and the value. The candidate hash is
that of the *plain* receipt: blake2b-256( SCALE(descriptor) || blake2b-256( SCALE(commitments) ) ).

Decoding is made for hostile bytes: size first, every length checked against what is left before anything is taken, shortest
compact form only, nothing behind the value.
"""

from hashlib import blake2b

from messages.codec import BODY_BYTES_MAX
from messages.polkadot import CandidateCommitments, CandidateDescriptor, CandidateReceipt, HorizontalMessage

__all__ = [
    "DESCRIPTOR_BYTES",
    "MESSAGES_MAX",
    "ScaleError",
    "blake2b_256",
    "candidate_hash",
    "commitments_hash",
    "decode_committed_receipt",
    "encode_commitments",
    "encode_committed_receipt",
    "encode_compact",
    "encode_descriptor",
    "encode_option",
    "encode_vec",
]

DESCRIPTOR_BYTES = 292
# Upward and horizontal messages of one candidate, each at most (Polkadot's MAX_UPWARD/HORIZONTAL_MESSAGE_NUM).
MESSAGES_MAX = 16 * 1024
_COMPACT_MAX = 2**536 - 1


class ScaleError(ValueError):
    """Not SCALE as we allow it. `reason` is a stable snake_case word; `offset` the byte where it was seen (None: no bytes).

    Reasons: too_large | truncated | length_beyond_end | too_many | not_shortest | bad_option | trailing_bytes |
    descriptor_length | out_of_range | commitments_missing | commitments_twice.
    """

    def __init__(self, reason: str, detail: str, offset: int | None = None) -> None:
        super().__init__(f"{reason}: {detail}" + ("" if offset is None else f" (at byte {offset})"))
        self.reason = reason
        self.detail = detail
        self.offset = offset


def blake2b_256(data: bytes) -> bytes:
    """Polkadot's hash: blake2b with a digest of 32 bytes."""
    return blake2b(data, digest_size=32).digest()


# ------------------------------------------------------------------------------------------------ encoding


def encode_compact(value: int) -> bytes:
    """A length or number in 1, 2, 4 or more bytes; the two lowest bits tell which. Raises ScaleError(`out_of_range`)."""
    if not 0 <= value <= _COMPACT_MAX:
        raise ScaleError("out_of_range", f"{value} has no compact form")
    if value < 2**6:
        return bytes([value << 2])
    if value < 2**14:
        return (value << 2 | 1).to_bytes(2, "little")
    if value < 2**30:
        return (value << 2 | 2).to_bytes(4, "little")
    size = (value.bit_length() + 7) // 8
    return bytes([(size - 4) << 2 | 3]) + value.to_bytes(size, "little")


def encode_vec(items: list[bytes]) -> bytes:
    """A vector of items that are encoded already."""
    return encode_compact(len(items)) + b"".join(items)


def _encode_bytes(data: bytes) -> bytes:
    return encode_compact(len(data)) + data


def encode_option(item: bytes | None) -> bytes:
    """An option whose value, if any, is encoded already."""
    return b"\x00" if item is None else b"\x01" + item


def _u32(value: int) -> bytes:
    if not 0 <= value < 2**32:
        raise ScaleError("out_of_range", f"{value} does not fit in 32 bits")
    return value.to_bytes(4, "little")


def encode_descriptor(descriptor: CandidateDescriptor) -> bytes:
    """The 292 bytes of a descriptor. Raises ScaleError(`descriptor_length` | `out_of_range`)."""
    data = b"".join(
        (
            _u32(descriptor.para_id),
            descriptor.relay_parent,
            descriptor.collator,
            descriptor.persisted_validation_data_hash,
            descriptor.pov_hash,
            descriptor.erasure_root,
            descriptor.signature,
            descriptor.para_head,
            descriptor.validation_code_hash,
        )
    )
    if len(data) != DESCRIPTOR_BYTES:
        raise ScaleError("descriptor_length", f"{len(data)} bytes, a descriptor has {DESCRIPTOR_BYTES}")
    return data


def encode_commitments(commitments: CandidateCommitments) -> bytes:
    """The commitments' SCALE bytes, of any length. Raises ScaleError(`out_of_range`)."""
    code = commitments.new_validation_code
    return b"".join(
        (
            encode_vec([_encode_bytes(m) for m in commitments.upward_messages]),
            encode_vec([_u32(m.recipient) + _encode_bytes(m.data) for m in commitments.horizontal_messages]),
            encode_option(None if code is None else _encode_bytes(code)),
            _encode_bytes(commitments.head_data),
            _u32(commitments.processed_downward_messages),
            _u32(commitments.hrmp_watermark),
        )
    )


def encode_committed_receipt(receipt: CandidateReceipt) -> bytes:
    """Descriptor and commitments. Raises ScaleError(`commitments_missing`) for a plain receipt."""
    if receipt.commitments is None:
        raise ScaleError("commitments_missing", "a plain receipt has no committed form")
    return encode_descriptor(receipt.descriptor) + encode_commitments(receipt.commitments)


def commitments_hash(commitments: CandidateCommitments) -> bytes:
    """blake2b-256 of the commitments' SCALE bytes. Raises ScaleError(`out_of_range`)."""
    return blake2b_256(encode_commitments(commitments))


def candidate_hash(receipt: CandidateReceipt) -> bytes:
    """The 32 bytes by which a candidate is voted on (D14).

    Raises ScaleError: `commitments_missing` or `commitments_twice` unless the receipt carries exactly one of commitments and
    their hash; `descriptor_length`, `out_of_range` for values that never passed the codec.
    """
    if receipt.commitments is None:
        if receipt.commitments_hash is None:
            raise ScaleError("commitments_missing", "a receipt carries its commitments or their hash, this one neither")
        tail = receipt.commitments_hash
    elif receipt.commitments_hash is not None:
        raise ScaleError("commitments_twice", "a receipt carries its commitments or their hash, this one both")
    else:
        tail = commitments_hash(receipt.commitments)
    return blake2b_256(encode_descriptor(receipt.descriptor) + tail)


# ------------------------------------------------------------------------------------------------ decoding


class _Cursor:
    """A place in hostile bytes that never takes more than there is."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self.data):
            raise ScaleError("truncated", f"{size} bytes expected, {len(self.data) - self.at} left", self.at)
        piece = self.data[self.at : end]
        self.at = end
        return piece

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def length(self, item_bytes_min: int, items_max: int) -> int:
        """A compact length of items that take at least `item_bytes_min` bytes each."""
        start = self.at
        first = self.take(1)[0]
        if first & 3 == 3:
            # Shortest form of 2**30 or more, which no accepted input can hold.
            raise ScaleError("length_beyond_end", "a length of 2**30 or more", start)
        size = 1 << (first & 3)
        value = int.from_bytes(bytes([first]) + self.take(size - 1), "little") >> 2
        if len(encode_compact(value)) != size:
            raise ScaleError("not_shortest", f"{value} in {size} bytes", start)
        if value * item_bytes_min > len(self.data) - self.at:
            raise ScaleError("length_beyond_end", f"{value} items announced, {len(self.data) - self.at} bytes left", start)
        if value > items_max:
            raise ScaleError("too_many", f"{value} items, the limit is {items_max}", start)
        return value

    def blob(self) -> bytes:
        return self.take(self.length(1, BODY_BYTES_MAX))

    def option_of_bytes(self) -> bytes | None:
        start = self.at
        match self.take(1)[0]:
            case 0:
                return None
            case 1:
                return self.blob()
            case other:
                raise ScaleError("bad_option", f"an option begins with 0 or 1, not {other}", start)

    def end(self) -> None:
        if self.at != len(self.data):
            raise ScaleError("trailing_bytes", f"{len(self.data) - self.at} bytes behind the value", self.at)


def _descriptor(cursor: _Cursor) -> CandidateDescriptor:
    return CandidateDescriptor(
        para_id=cursor.u32(),
        relay_parent=cursor.take(32),
        collator=cursor.take(32),
        persisted_validation_data_hash=cursor.take(32),
        pov_hash=cursor.take(32),
        erasure_root=cursor.take(32),
        signature=cursor.take(64),
        para_head=cursor.take(32),
        validation_code_hash=cursor.take(32),
    )


def _commitments(cursor: _Cursor) -> CandidateCommitments:
    upward = [cursor.blob() for _ in range(cursor.length(1, MESSAGES_MAX))]
    horizontal = [HorizontalMessage(cursor.u32(), cursor.blob()) for _ in range(cursor.length(5, MESSAGES_MAX))]
    return CandidateCommitments(
        upward_messages=upward,
        horizontal_messages=horizontal,
        new_validation_code=cursor.option_of_bytes(),
        head_data=cursor.blob(),
        processed_downward_messages=cursor.u32(),
        hrmp_watermark=cursor.u32(),
    )


def decode_committed_receipt(data: bytes) -> CandidateReceipt:
    """A committed receipt from its SCALE bytes, at most BODY_BYTES_MAX of them. Raises ScaleError, see there."""
    if len(data) > BODY_BYTES_MAX:
        raise ScaleError("too_large", f"{len(data)} bytes, the limit is {BODY_BYTES_MAX}")
    cursor = _Cursor(data)
    receipt = CandidateReceipt(descriptor=_descriptor(cursor), commitments=_commitments(cursor))
    cursor.end()
    return receipt
