"""Blocks as the serving group signs them: this node's part, the others' parts, and the group's signature from any N - f of them."""

from collections.abc import Sequence

from messages.consensus_blocks import (
    BlockNamed,
    BlocksForgotten,
    BlockSignatureReport,
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
from subsystems.consensus_manager.electing import find_share, is_of
from subsystems.consensus_manager.handover import Acceptance, Serving, next_round
from subsystems.consensus_manager.member import held_share
from subsystems.consensus_manager.schedule import acceptable_until, begins, due_height
from subsystems.consensus_manager.tables import BLOCKS, MINE, NAMED, PARTIALS, PARTIALS_BY, PROGRESS
from subsystems.consensus_manager.terms import faulty_most

__all__ = ["forget_blocks", "hear_partial", "name_block", "next_block", "signature_report"]

# Parts of blocks that are not named, of each node: it is a block or two ahead of this one at most.
_HELD_PER_NODE_MAX = 64
# So many heights behind the head signatures are kept, for a feed that asks late.
_KEPT_HEIGHTS = 16


def next_block(draft: Draft) -> NextBlockReport | None:
    """What the child of the best block carries; None: it is not known who serves."""
    best, head = draft.best(), draft.head
    now = best.serving()
    if now is None:
        return None
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
    """The feed's next block: signed, if this node is a member with a share by now; and its parts are counted from now on."""
    expected = next_block(draft)
    if expected is None:
        return NotNext(reason="unknown", best=draft.head.number)
    if message.parent != expected.parent:
        return NotNext(reason="parent", best=draft.head.number)
    header = (message.number, message.epoch, message.epoch_start, message.round)
    if header != (expected.number, expected.epoch, expected.epoch_start, expected.round):
        return NotNext(reason="header", best=draft.head.number)
    group, named = draft.best().group, draft.tables.get(NAMED, (message.hash,))
    if group is None or (named is not None and named.signature is not None):
        return None
    signs = not _has_signed(draft, message.parent)
    if named is None:
        draft.record(BlockNamed(block=message.hash, parent=message.parent, number=message.number, epoch=message.epoch))
    if signs:
        # Also one that was named before: the network may have been behind the chain, and the share come after the block.
        find_share(draft, group.session)
        _sign(draft, group, message.hash)
    if named is None:
        _combine(draft, message.hash, is_new=True)
    return None


def _has_signed(draft: Draft, parent: bytes) -> bool:
    """Whether this node stands by a child of that block: by one that it signed, unless that was imported and is not the best."""
    rows = draft.tables.scan(NAMED)
    return any(row.parent == parent and row.signed_here and not draft.tables.has(BLOCKS, key) for key, row in rows)


def _sign(draft: Draft, group: Acceptance, block: bytes) -> None:
    mine, progress = draft.tables.get(MINE, (group.session,)), draft.tables.get(PROGRESS, (group.session,))
    if progress is None or progress.key is None or progress.key.key != group.key:
        # A share of another key than the one that the chain accepted would give a wrong part.
        return
    share = None if mine is None else held_share(mine, group.session, draft.vault.wallet(group.session))
    if mine is None or share is None:
        # A member without a share does not vote.
        return
    part = sign_block(share, chain=draft.config.chain, epoch=group.epoch, block=block, key=group.key, place=mine.place)
    draft.record(PartialSaid(epoch=part.epoch, block=part.block, sender=part.sender, partial=part.partial))


def hear_partial(draft: Draft, message: BlockPartial) -> None:
    """A part of a signature; held until there are enough, and the block is named.

    Neither a node that says too much nor one that says another's part keeps out anybody else: each has its own room, and one part of each.
    """
    named, node = draft.tables.get(NAMED, (message.block,)), draft.context.node
    signed = named is not None and named.signature is not None
    if signed or draft.tables.has(PARTIALS, (message.block, message.sender, node)):
        return
    if (draft.tables.get(PARTIALS_BY, (node,)) or 0) >= _HELD_PER_NODE_MAX:
        return
    held = PartialHeld(node=node, block=message.block, sender=message.sender, partial=message.partial, height=draft.head.number)
    draft.record(held)
    _combine(draft, message.block)


def _combine(draft: Draft, block: bytes, *, is_new: bool = False) -> None:
    """The group's signature, once there are enough parts that count. `is_new`: the block was named just now.

    Parts are tried together first, as hardly ever one is wrong: one check in place of N - f. If that fails each is looked at by itself,
    from then on, so that who says wrong ones costs the others one trial.
    """
    named = draft.tables.get(NAMED, (block,))
    group = draft.best().group
    if named is None or named.signature is not None or group is None or group.epoch != named.epoch:
        return
    size, chain = len(group.members), draft.config.chain
    degree = size - faulty_most(size) - 1
    # Counted before they are decoded: most parts are not the last one that is needed.
    if sum(1 for _ in draft.tables.scan_packed(PARTIALS, (block,))) <= degree:
        return
    parts = [
        BlockPartial(epoch=named.epoch, block=block, sender=sender, partial=row.partial)
        for (_, sender, _), row in draft.tables.scan(PARTIALS, (block,))
        if sender < size
    ]
    places = len({part.sender for part in parts})
    if places <= degree:
        return
    progress = draft.tables.get(PROGRESS, (group.session,))
    key = None if progress is None else progress.key
    signature = None
    if is_new or len(parts) == degree + 1 or key is None:
        signature = _joined(parts, group, degree, chain)
    # Who did not follow that DKG cannot tell which part is wrong, if one is: it has the signature from a block that is sealed.
    if signature is None and key is not None:
        counting = [part for part in parts if partial_counts(part, chain=chain, commitments=key.commitments)]
        signature = _joined(counting, group, degree, chain)
    if signature is not None:
        draft.record(BlockSigned(block=block, epoch=group.epoch, signature=signature))


def _joined(parts: Sequence[BlockPartial], group: Acceptance, degree: int, chain: bytes) -> bytes | None:
    """What the parts give, if that is the group's signature."""
    signature = block_signature(parts, degree=degree)
    if signature is None:
        return None
    holds = is_block_signed(signature, chain=chain, epoch=group.epoch, block=parts[0].block, key=group.key)
    return signature if holds else None


def signature_report(draft: Draft, block: bytes) -> BlockSignatureReport:
    """The signature of a named block, or how many parts of it are here."""
    row, group = draft.tables.get(NAMED, (block,)), draft.best().group
    if row is None or row.signature is not None or group is None:
        return BlockSignatureReport(signature=None if row is None else row.signature)
    size = len(group.members)
    parts = len({sender for (_, sender, _), _ in draft.tables.scan(PARTIALS, (block,)) if sender < size})
    return BlockSignatureReport(signature=None, parts=parts, needed=size - faulty_most(size))


def forget_blocks(draft: Draft) -> None:
    """What is far behind the head."""
    oldest = draft.head.number - _KEPT_HEIGHTS
    over = {block for (block,), row in draft.tables.scan(NAMED) if row.number < oldest}
    # Parts that came before their block was named. Those of one block go together: one that came early takes none that came later with it.
    newest: dict[bytes, int] = {}
    for (block, _, _), row in draft.tables.scan(PARTIALS):
        newest[block] = max(newest.get(block, 0), row.height)
    over |= {block for block, height in newest.items() if height < oldest and not draft.tables.has(NAMED, (block,))}
    if over:
        draft.record(BlocksForgotten(blocks=sorted(over)))
