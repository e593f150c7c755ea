"""The body of a check worker: one process that verifies packed signatures until its socket ends.

It loads nothing but the signature libraries (about 12 MB, ready in 25 ms), waits in a read when idle, and ends with the
process that started it, however that one ends: then the socket does.

A request is `HEADER` (count, message bytes), then in columns: scheme codes, keys, signatures, message lengths (u32,
native), messages. The answer is one byte for each check: 1 for true.
"""

import signal
import socket
import struct
from array import array
from itertools import accumulate, pairwise

from overseer.verification import KEY_BYTES, SCHEMES, SIGNATURE_BYTES, verify_signature

__all__ = ["FIXED_BYTES", "HEADER", "LENGTHS", "main", "verify_packed"]

HEADER = struct.Struct("<II")
# The array type code of message lengths.
LENGTHS = "I"
# Bytes of a request for each check, beside its message.
FIXED_BYTES = 1 + KEY_BYTES + SIGNATURE_BYTES + array(LENGTHS).itemsize


def verify_packed(count: int, data: bytes) -> bytes:
    """The answer to a request's body."""
    signatures_at = count + count * KEY_BYTES
    lengths_at = signatures_at + count * SIGNATURE_BYTES
    at = count * FIXED_BYTES
    keys = struct.unpack_from(f"{KEY_BYTES}s" * count, data, count)
    signatures = struct.unpack_from(f"{SIGNATURE_BYTES}s" * count, data, signatures_at)
    ends = list(accumulate(memoryview(data[lengths_at:at]).cast(LENGTHS), initial=at))
    messages = [data[low:high] for low, high in pairwise(ends)]
    schemes = [SCHEMES[code] for code in data[:count]]
    return bytes(map(verify_signature, schemes, keys, messages, signatures))


def _read(link: socket.socket, size: int) -> bytes | None:
    """Exactly `size` bytes; None when the other end is gone."""
    parts: list[bytes] = []
    while size:
        part = link.recv(size)
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def main() -> None:
    """Serve standard input, which is a stream socket."""
    # Ctrl-C goes to the whole process group; the parent decides when we end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=0) as link:
        try:
            while (header := _read(link, HEADER.size)) is not None:
                count, message_bytes = HEADER.unpack(header)
                data = _read(link, count * FIXED_BYTES + message_bytes)
                if data is None:
                    return
                link.sendall(verify_packed(count, data))
        except (ConnectionError, BrokenPipeError):
            return
