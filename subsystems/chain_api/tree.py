"""Walks of the block tree.

Every block knows, beside its parent, one ancestor far up (`skip`), so chosen that any ancestor is reached in O(log n) steps
and that blocks of equal height skip equally far (skew-binary numbers; Myers, 1983). Descendants are found level by level
over the table ordered by height.
"""

import enum
from collections.abc import Callable, Iterator
from itertools import chain

from messages.chain_events import BLOCK_KEY_BYTES
from messages.signals import BlockRef
from overseer.tables import View
from subsystems.chain_api.tables import BLOCKS, LEVELS, Block, block_key, hash_of, number_of, unpack_block

__all__ = [
    "NO_ROW",
    "Descent",
    "Verdict",
    "ancestor",
    "find_block",
    "fork_point",
    "is_ancestor",
    "path_down",
    "read_block",
    "skip_of_child",
]

# Behind the last row of any table by block key.
NO_ROW = (b"\xff" * (BLOCK_KEY_BYTES + 1), b"")
_NOTHING: Iterator[tuple[bytes, bytes]] = iter(())
_ZERO = bytes(32)
_GENESIS_NUMBER = bytes(4)
_HIGH = b"\xff" * 32


class Verdict(enum.Enum):
    """Of a marked block on a walk."""

    TAKE = enum.auto()
    PASS = enum.auto()
    CUT = enum.auto()


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
    if upper[:4] == _GENESIS_NUMBER:
        return True
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
    number = number_of(top)
    while number > bottom and len(out) < limit:
        out.append(top)
        number -= 1
        parent = view.get_packed(LEVELS, top)
        if parent is None:
            raise LookupError(f"block {top[4:].hex()} is not in the tree")
        if number >= 0:
            top = block_key(number, parent)
    return out


class Descent:
    """The descendants of a block (without itself) level by level, as block keys in order; stops and goes on anywhere.

    `last` is the last key looked at: given back (with `hit`) it continues there. `known(parent)` tells of a block key that was
    passed before whether it belongs; it is asked for the level in progress and the next one only. After a walk `done` says
    whether there is no more; a walk also ends, not done, after `rows_max` rows.
    """

    def __init__(
        self, view: View, root: bytes, *, last: bytes | None = None, hit: bool = True, known: Callable[[bytes], bool], rows_max: int
    ) -> None:
        self._view = view
        self._root = root
        self._fresh = last is None
        self._known = known
        self._rows_max = rows_max
        # Rows looked at: what the work costs.
        self.rows = 0
        self.last = root[:4] + _HIGH if last is None else last
        self.hit = hit
        self.done = False

    def _rows(self) -> Iterator[tuple[bytes, bytes]]:
        start = LEVELS.unpack(self.last)
        # Every level has a row, so no more levels than rows are reached.
        end = (min(start[0] + self._rows_max + 2, 2**32 - 1), _ZERO)
        rows = self._view.scan_packed(LEVELS, start=start, end=end)
        for row in rows:
            if row[0] > self.last:
                return chain([row], rows)
        return iter(())

    def walk(
        self, limit: int, marks: Iterator[tuple[bytes, bytes]] = _NOTHING, judge: Callable[[bytes], Verdict] | None = None
    ) -> list[bytes]:
        """The next descendants, `limit` at most; once only.

        `marks` are rows over block keys in order; of a block that has one `judge` says whether to take it, to pass it by, or
        not to go below it either.
        """
        at = self.last[:4]
        above: set[bytes] = set()
        here: set[bytes] = {hash_of(self._root)} if self._fresh else set()
        above_whole, here_whole = False, self._fresh
        asked: dict[bytes, bool] = {}
        found: list[bytes] = []
        special, mark = next(marks, NO_ROW)
        hit, last, rows = self.hit, self.last, 0
        for key, parent in self._rows():
            if rows >= self._rows_max or len(found) >= limit:
                break
            if key[:4] != at:
                if not hit:
                    self.done = True
                    break
                above.clear()
                above, above_whole, here = here, here_whole, above
                here_whole, hit, at = True, False, key[:4]
            rows += 1
            last = key
            if parent not in above:
                if above_whole:
                    continue
                if parent not in asked:
                    asked[parent] = self._known(block_key(number_of(at) - 1, parent))
                if not asked[parent]:
                    continue
            while special < key:
                special, mark = next(marks, NO_ROW)
            if special == key and judge is not None:
                verdict = judge(mark)
                if verdict is Verdict.CUT:
                    continue
                if verdict is Verdict.TAKE:
                    found.append(key)
            else:
                found.append(key)
            here.add(key[4:])
            hit = True
        else:
            self.done = True
        self.hit, self.last, self.rows = hit, last, rows
        return found
