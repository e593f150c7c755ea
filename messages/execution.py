"""The bytes that a gateway signs to prove that it processed a request."""

__all__ = ["EXECUTION_DOMAIN", "execution_payload"]

EXECUTION_DOMAIN = b"overseer execution proof v1\x00"


def execution_payload(queue: str, *, round: int, request: bytes, executor: bytes, content: bytes, size: int) -> bytes:
    """What a `submit_execution_proof` signs: nothing of it can be used for another queue, round, request, executor or content.

    Layout: the domain `overseer execution proof v1` and 00; length of the queue's name u8, its name; round u32; request 32; executor
    32; content 32 (BLAKE3); size u64. Integers little-endian.

    Raises OverflowError for integers beyond their width, which the codec refuses.
    """
    name = queue.encode()
    numbers = (round.to_bytes(4, "little"), size.to_bytes(8, "little"))
    return EXECUTION_DOMAIN + bytes([len(name)]) + name + numbers[0] + request + executor + content + numbers[1]
