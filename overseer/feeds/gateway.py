"""What a development gateway has and makes: its key, which anybody can derive from its name, and signed proofs."""

from messages.execution import execution_payload
from messages.gateways import SubmitExecutionProof
from messages.polkadot import Scheme
from overseer.feeds.keyring import Key, derive

__all__ = ["gateway_key", "make_proof"]


def gateway_key(name: str) -> Key:
    """The key of a development gateway."""
    return Key(Scheme.ED25519, derive("gateway", name))


def make_proof(
    signer: Key, queue: str, *, round: int, request: bytes, content: bytes, size: int, executor: bytes | None = None
) -> SubmitExecutionProof:
    """That `executor` processed the request in that round; a forgery where that is not the signer.

    `content`: its BLAKE3; `size` in bytes.
    """
    executor = signer.public if executor is None else executor
    payload = execution_payload(queue, round=round, request=request, executor=executor, content=content, size=size)
    return SubmitExecutionProof(
        election=queue,
        round=round,
        request=request,
        executor=executor,
        content=content,
        size=size,
        signature=signer.sign(payload),
    )
