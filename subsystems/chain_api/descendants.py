"""The descendants of a block: asked by `dispute_conclusion`, or by a query."""

from messages.chain_api import Descendants
from messages.chain_events import BLOCK_KEY_BYTES, DescendantsSought, DescendantsTold
from overseer.subsystem import Decision
from subsystems.chain_api.chain import Chain, Draft
from subsystems.chain_api.tables import ASKED, hash_of, ref_of
from subsystems.chain_api.tree import Descent, is_ancestor

__all__ = ["below", "seek", "tell"]

# A level's blocks that are no descendants cost a look each.
_ROWS_PER_HASH = 8


def below(chain: Chain, root: bytes, *, last: bytes | None, rows_max: int) -> Descent:
    """The descendants of a block key, or those after `last`."""
    # Whether the level of `last` has a descendant is not kept: going on where there is none costs a level at most.
    return Descent(chain.tables, root, last=last, known=lambda parent: is_ancestor(chain.tables, root, parent), rows_max=rows_max)


def seek(draft: Draft, message: Descendants) -> Decision:
    """Answer by `descendants_answer`: the first page at once, the others in steps."""
    key = draft.key(message.block)
    if key is None:
        nothing = ref_of(bytes(4) + message.block)
        draft.record(DescendantsTold(block=message.block, hashes=b"", page=0, last=True, known=False, last_seen=nothing))
    elif not draft.tables.has(ASKED, (message.block,)):
        draft.record(DescendantsSought(block=message.block))
        _page(draft, key, b"")
    return draft.decision()


def tell(draft: Draft) -> None:
    """The next page of an answer in progress."""
    if draft.state.asked:
        (block,), progress = next(draft.tables.scan(ASKED))
        key = draft.key(block)
        assert key is not None
        _page(draft, key, progress)


def _page(draft: Draft, key: bytes, progress: bytes) -> None:
    limit = draft.config.descendants_page
    descent = below(draft, key, last=progress[4 : 4 + BLOCK_KEY_BYTES] or None, rows_max=limit * _ROWS_PER_HASH)
    hashes = [found[4:] for found in descent.walk(limit)]
    draft.record(
        DescendantsTold(
            block=hash_of(key),
            hashes=b"".join(hashes),
            page=int.from_bytes(progress[:4], "big"),
            last=descent.done,
            known=True,
            last_seen=ref_of(descent.last),
        )
    )
