"""The serving group's signature of blocks: parts by members, one signature by any N - f of them, one key for a whole epoch."""

from collections.abc import Iterable, Sequence

from messages.consensus_manager import BlockPartial
from messages.consensus_signing import block_payload
from subsystems.consensus_manager.crypto.curve import MalformedPoint, Scalar
from subsystems.consensus_manager.crypto.secret import Secret
from subsystems.consensus_manager.crypto.threshold import combine, group_signature_holds, hash_message, partial_signature
from subsystems.consensus_manager.transcript import is_share_signature

__all__ = ["block_signature", "is_block_signed", "partial_counts", "sign_block"]


def sign_block(share: Secret[Scalar], *, chain: bytes, epoch: int, block: bytes, key: bytes, place: int) -> BlockPartial:
    """A member's part. Members sign one block of a height, which is for the caller to see to."""
    hashed = hash_message(key, block_payload(chain=chain, epoch=epoch, block=block))
    return BlockPartial(epoch=epoch, block=block, sender=place, partial=partial_signature(share, hashed))


def partial_counts(partial: BlockPartial, *, chain: bytes, commitments: Sequence[bytes]) -> bool:
    """Whether a part is that of its sender's share of the key; `commitments` are the sums that the DKG ended with, the key first."""
    payload = block_payload(chain=chain, epoch=partial.epoch, block=partial.block)
    return is_share_signature(tuple(commitments), partial.sender, payload, partial.partial)


def block_signature(partials: Iterable[BlockPartial], *, degree: int) -> bytes | None:
    """The group's signature of the block that all these parts are of, if each of those that are used counts: which is to be checked.

    None: there are too few, or one is no point at all.
    """
    by_member = {partial.sender: partial.partial for partial in partials}
    if len(by_member) <= degree:
        return None
    try:
        return combine(by_member, degree)
    except MalformedPoint:
        return None


def is_block_signed(signature: bytes, *, chain: bytes, epoch: int, block: bytes, key: bytes) -> bool:
    """Whether the group with this key signed the block."""
    return group_signature_holds(key, block_payload(chain=chain, epoch=epoch, block=block), signature)
