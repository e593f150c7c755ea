"""Blocks as the serving group signs them: this node's part, the others' parts, and the group's signature from any N - f of them."""

from messages.consensus_blocks import (
    BlockNamed,
    BlocksForgotten,
    BlockSigned,
    NextBlockReport,
    NotNext,
    PartialHeld,
    PartialSaid,
    SignBlock,
)
from messages.consensus_manager import BlockPartial
from subsystems.consensus_manager.blocks import block_signature, is_block_signed, partial_counts, sign_block
from subsystems.consensus_manager.draft import Branch, Draft
from subsystems.consensus_manager.electing import is_of
from subsystems.consensus_manager.handover import Acceptance, Serving, next_round
from subsystems.consensus_manager.member import held_share
from subsystems.consensus_manager.schedule import acceptable_until, begins, due_height
from subsystems.consensus_manager.tables import BLOCKS, MINE, NAMED, PARTIALS, PARTIALS_BY, PROGRESS
from subsystems.consensus_manager.terms import faulty_most

__all__ = ["forget_blocks", "hear_partial", "name_block", "next_block", "signature_of"]

# Parts of blocks that are not named, of each node: it is a block or two ahead of this one at most.
_HELD_PER_NODE_MAX = 64
# So many heights behind the head signatures are kept, for a feed that asks late.
_KEPT_HEIGHTS = 16


def next_block(draft: Draft) -> NextBlockReport:
    """What the child of the best block carries."""
    best, head = draft.best(), draft.head
    now = best.serving()
    return NextBlockReport(
        parent=head.hash or draft.config.chain,
        number=head.number + 1,
        epoch=now.epoch,
        epoch_start=now.epoch_start,
        round=next_round(head.round),
        signed=now.group is not None,
        group_transactions=_completed(draft, best, now),
    )


def _completed(draft: Draft, best: Branch, now: Serving) -> list[bytes]:
    """The group transaction of the oldest attempt that is complete and may be accepted by the next block; one is enough."""
    due, number = due_height(now.epoch_start, draft.config.parameters), draft.head.number + 1
    found: list[tuple[int, int, bytes]] = []
    for session, row in draft.attempts():
        attempt, progress = row.attempt, draft.tables.get(PROGRESS, (session,))
        if progress is None or progress.transaction is None or (attempt.epoch_start, attempt.due) != (now.epoch_start, due):
            continue
        if begins(attempt) < number <= acceptable_until(attempt, draft.config.parameters) and is_of(draft, best, now, session):
            found.append((attempt.delay, attempt.round, progress.transaction))
    return [min(found)[2]] if found else []


def name_block(draft: Draft, message: SignBlock) -> NotNext | None:
    """The feed's next block: signed, if this node is a member with a share; and its parts are counted from now on."""
    expected = next_block(draft)
    if message.parent != expected.parent:
        return NotNext(reason="parent", best=draft.head.number)
    header = (message.number, message.epoch, message.epoch_start, message.round)
    if header != (expected.number, expected.epoch, expected.epoch_start, expected.round):
        return NotNext(reason="header", best=draft.head.number)
    group = draft.best().serving().group
    if group is None or draft.tables.has(NAMED, (message.hash,)):
        return None
    signs = not _has_signed(draft, message.parent)
    draft.record(BlockNamed(block=message.hash, parent=message.parent, number=message.number, epoch=message.epoch))
    if signs:
        _sign(draft, group, message.hash)
    _combine(draft, message.hash)
    return None


def _has_signed(draft: Draft, parent: bytes) -> bool:
    """Whether this node stands by another child of that block: by one that it signed, unless that was imported and is not the best."""
    rows = draft.tables.scan(NAMED)
    return any(row.parent == parent and row.signed_here and not draft.tables.has(BLOCKS, key) for key, row in rows)


def _sign(draft: Draft, group: Acceptance, block: bytes) -> None:
    mine = draft.tables.get(MINE, (group.session,))
    share = None if mine is None else held_share(mine, group.session, draft.vault.wallet(group.session))
    if mine is None or share is None:
        # A member without a share does not vote.
        return
    part = sign_block(share, chain=draft.config.chain, epoch=group.epoch, block=block, key=group.key, place=mine.place)
    draft.record(PartialSaid(epoch=part.epoch, block=part.block, sender=part.sender, partial=part.partial))


def hear_partial(draft: Draft, message: BlockPartial) -> None:
    """A part of a signature; held until there are enough, and the block is named. A node that says too much keeps out nobody else."""
    named, node = draft.tables.get(NAMED, (message.block,)), draft.context.node
    signed = named is not None and named.signature is not None
    if signed or draft.tables.has(PARTIALS, (message.block, message.sender)):
        return
    if (draft.tables.get(PARTIALS_BY, (node,)) or 0) >= _HELD_PER_NODE_MAX:
        return
    held = PartialHeld(node=node, block=message.block, sender=message.sender, partial=message.partial, height=draft.head.number)
    draft.record(held)
    _combine(draft, message.block)


def _combine(draft: Draft, block: bytes) -> None:
    """The group's signature, once there are enough parts that count."""
    named = draft.tables.get(NAMED, (block,))
    group = draft.best().serving().group
    if named is None or named.signature is not None or group is None or group.epoch != named.epoch:
        return
    size, chain = len(group.members), draft.config.chain
    degree = size - faulty_most(size) - 1
    parts = [
        BlockPartial(epoch=named.epoch, block=block, sender=sender, partial=row.partial)
        for (_, sender), row in draft.tables.scan(PARTIALS, (block,))
        if sender < size
    ]
    if len(parts) <= degree:
        return
    progress = draft.tables.get(PROGRESS, (group.session,))
    if progress is not None and progress.key is not None:
        commitments = progress.key.commitments
        parts = [part for part in parts if partial_counts(part, chain=chain, commitments=commitments)]
    # Who did not follow that DKG cannot tell which part is wrong, if one is: it has the signature from a block that is sealed.
    signature = block_signature(parts, degree=degree)
    if signature is not None and is_block_signed(signature, chain=chain, epoch=group.epoch, block=block, key=group.key):
        draft.record(BlockSigned(block=block, epoch=group.epoch, signature=signature))


def signature_of(draft: Draft, block: bytes) -> bytes | None:
    row = draft.tables.get(NAMED, (block,))
    return None if row is None else row.signature


def forget_blocks(draft: Draft) -> None:
    """What is far behind the head."""
    oldest = draft.head.number - _KEPT_HEIGHTS
    over = {block for (block,), row in draft.tables.scan(NAMED) if row.number < oldest}
    over |= {block for (block, _), row in draft.tables.scan(PARTIALS) if row.height < oldest}
    if over:
        draft.record(BlocksForgotten(blocks=sorted(over)))
