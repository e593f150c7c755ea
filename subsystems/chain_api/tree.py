"""Walks of the block tree.

Every block knows, beside its parent, one ancestor far up (`skip`), so chosen that any ancestor is reached in O(log n) steps
and that blocks of equal height skip equally far (skew-binary numbers; Myers, 1983). Descendants are found level by level
over the table ordered by height.
"""

from collections.abc import Callable, Iterator

from messages.signals import BlockRef
from overseer.tables import View
from subsystems.chain_api.tables import BLOCKS, LEVELS, Block, block_key, hash_of, number_of, unpack_block

__all__ = ["Descent", "ancestor", "find_block", "fork_point", "is_ancestor", "path_down", "read_block", "skip_of_child"]

_ZERO = bytes(32)
_HIGH = b"\xff" * 32


def find_block(view: View, block: bytes) -> Block | None:
    data = view.get_packed(BLOCKS, block)
    return None if data is None else unpack_block(data)


def read_block(view: View, block: bytes) -> Block:
    """A block that is known to exist."""
    data = view.get_packed(BLOCKS, block)
    if data is None:
        raise LookupError(f"block {block.hex()} is not in the tree")
    return unpack_block(data)


def skip_of_child(view: View, parent_hash: bytes, parent: Block) -> BlockRef:
    """The `skip` of a child of `parent`: as far again as the parent's skip if that one skipped as far, else the parent."""
    over = read_block(view, parent.skip)
    if parent.number and parent.number - parent.skip_number == parent.skip_number - over.skip_number:
        return BlockRef(over.skip, over.skip_number)
    return BlockRef(parent_hash, parent.number)


def ancestor(view: View, block: bytes, number: int) -> bytes | None:
    """The hash at height `number` on the way from `block` (itself included) to genesis; None above it. O(log n)."""
    at = read_block(view, block)
    while at.number > number:
        block = at.skip if at.skip_number >= number else at.parent
        at = read_block(view, block)
    return block if at.number == number else None


def is_ancestor(view: View, upper: bytes, lower: bytes) -> bool:
    """Whether the block key `upper` is `lower` or an ancestor of it."""
    return upper == lower or (number_of(upper) < number_of(lower) and ancestor(view, hash_of(lower), number_of(upper)) == hash_of(upper))


def fork_point(view: View, left: bytes, right: bytes) -> bytes:
    """The highest common ancestor of two block keys, as a block key. O(log n)."""
    number = min(number_of(left), number_of(right))
    a, b = hash_of(left), hash_of(right)
    if number_of(left) > number:
        a = ancestor(view, a, number) or a
    if number_of(right) > number:
        b = ancestor(view, b, number) or b
    while a != b:
        one, other = read_block(view, a), read_block(view, b)
        if one.skip != other.skip:
            a, b, number = one.skip, other.skip, one.skip_number
        else:
            a, b, number = one.parent, other.parent, one.number - 1
    return block_key(number, a)


def path_down(view: View, top: bytes, bottom: int, limit: int) -> list[bytes]:
    """Block keys from `top` (included) towards genesis, down to above height `bottom`, `limit` at most."""
    out: list[bytes] = []
    block, number = hash_of(top), number_of(top)
    while number > bottom and len(out) < limit:
        out.append(block_key(number, block))
        block = read_block(view, block).parent
        number -= 1
    return out


class Descent:
    """The descendants of a block (without itself) level by level, as block keys in order; stops and goes on anywhere.

    `last` is the last key looked at: given back (with `hit`) it continues there. `known(parent)` tells of a block key that was
    passed before whether it belongs; it is asked for the level in progress and the next one only. After the iteration `done`
    says whether there is no more; it also ends, not done, after `rows_max` rows.
    """

    def __init__(
        self, view: View, root: bytes, *, last: bytes | None = None, hit: bool = True, known: Callable[[bytes], bool], rows_max: int
    ) -> None:
        self._view = view
        self._root = root
        self._fresh = last is None
        self._known = known
        self._rows_max = rows_max
        self._cut = False
        # Rows looked at: what the work costs.
        self.rows = 0
        self.last = root[:4] + _HIGH if last is None else last
        self.hit = hit
        self.done = False

    def cut(self) -> None:
        """Do not go below the block just given."""
        self._cut = True

    def __iter__(self) -> Iterator[bytes]:
        at = self.last[:4]
        above: set[bytes] = set()
        here: set[bytes] = {hash_of(self._root)} if self._fresh else set()
        above_whole, here_whole = False, self._fresh
        asked: dict[bytes, bool] = {}
        start = (number_of(self.last), hash_of(self.last))
        # Every level has a row, so no more levels than rows are reached.
        end = (min(start[0] + self._rows_max + 2, 2**32 - 1), _ZERO)
        for key, parent in self._view.scan_packed(LEVELS, start=start, end=end):
            if key <= self.last:
                continue
            if self.rows >= self._rows_max:
                return
            if key[:4] != at:
                if not self.hit:
                    self.done = True
                    return
                above, above_whole = here, here_whole
                here, here_whole = set[bytes](), True
                at, self.hit = key[:4], False
            self.rows += 1
            belongs = parent in above
            if not belongs and not above_whole:
                if parent not in asked:
                    asked[parent] = self._known(block_key(number_of(at) - 1, parent))
                belongs = asked[parent]
            if not belongs:
                self.last = key
                continue
            block = key[4:]
            before = self.hit
            here.add(block)
            self.hit = True
            self.last = key
            yield key
            if self._cut:
                here.discard(block)
                self.hit = before
                self._cut = False
        self.done = True
