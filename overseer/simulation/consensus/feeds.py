"""The feed of one simulated node: brings the author's chain to it, and asks its group member for signatures."""

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING

import anyio
import msgspec

from messages.chain_api import Best, FinalizeBlock, Header, ImportBlock
from messages.consensus_blocks import BlockSignature, BlockSignatureReport
from messages.message import Message
from overseer.consensus.chain import header_of
from overseer.simulation.consensus.cast import Play
from overseer.simulation.scenario import Outside, Submission

if TYPE_CHECKING:
    from overseer.simulation.consensus.chain import ChainAuthor

__all__ = ["Feed"]

_LOOKS_S = (0.1, 0.3, 0.3, 1.0)
# With all brought that there is, it looks again when its author has something new, and now and then: a node may have lost what it had.
_IDLE_LOOK_S = 3.0
# How long it asks for one block; then it looks at the chain again.
_PATIENCE_MS = 20_000
# A signature that does not come is asked for once more.
_NAMED_AGAIN_S = 20.0


class Feed:
    """Keeps nothing that it could not ask for again, as a feed that is restarted at any time."""

    def __init__(self, outside: Outside, node: str, author: "ChainAuthor", play: Play) -> None:
        self.node = node
        self._outside = outside
        self._author = author
        self._random = Random(f"{play.network.seed} feed {node}")
        # The tip at which the node was, final up to where it can be, when last looked at.
        self._done_at = b""
        self._final = 0
        self._asked = 0
        self._named: tuple[bytes, float] = (b"", 0.0)
        self._signature: tuple[bytes, bytes] = (b"", b"")

    @property
    def is_done(self) -> bool:
        """Whether the node is at the tip that there is now, and final up to where it can be."""
        return self._done_at == self._author.tree.tip

    def signature_of(self, block: ImportBlock) -> bytes | None:
        """The group's signature, as this node has it."""
        return self._signature[1] if self._signature[0] == block.hash else None

    async def run(self) -> None:
        while True:
            await self._look()
            if self.is_done and self._author.wanted is None:
                with anyio.move_on_after(_IDLE_LOOK_S):
                    await self._author.news.wait()
            await anyio.sleep(self._random.choice(_LOOKS_S))

    async def _look(self) -> None:
        best = await self._outside.query(self.node, Best())
        self._done_at = b""
        if not isinstance(best, Header):
            return
        tree = self._author.tree
        if best.hash != tree.tip:
            await self._import(best.hash, tree.path())
            return
        final = tree.final()
        if final is not None and final.number > self._final and await self._submit(FinalizeBlock(hash=final.hash)) == "accepted":
            self._final = final.number
        if final is None or self._final >= final.number:
            self._done_at = best.hash
        wanted = self._author.wanted
        if wanted is not None and wanted.parent == best.hash:
            await self._sign(wanted)

    async def _import(self, best: bytes, path: Sequence[ImportBlock]) -> None:
        """From where the node's best chain leaves the author's; all but the last are of the past (R2)."""
        known = {block.hash: at for at, block in enumerate(path)}
        there = {block.hash for block in self._author.tree.path(best)}
        common = max((at for block, at in known.items() if block in there), default=-1)
        for block in path[common + 1 :]:
            behind = block is not path[-1]
            told = msgspec.structs.replace(block, sync=behind, target_height=path[-1].number if behind else 0)
            if await self._submit(told) != "accepted":
                return

    async def _sign(self, block: ImportBlock) -> None:
        named, at = self._named
        if named != block.hash or self._outside.now_s() >= at + _NAMED_AGAIN_S:
            if await self._submit(header_of(block)) == "accepted":
                self._named = block.hash, self._outside.now_s()
            rival = self._author.rival
            if rival is not None and self._named[0] == block.hash:
                await self._submit(header_of(rival))
        report = await self._outside.query(self.node, BlockSignature(block=block.hash))
        if isinstance(report, BlockSignatureReport) and report.signature is not None:
            self._signature = block.hash, report.signature

    async def _submit(self, message: Message) -> str:
        self._asked += 1
        return await self._outside.submit(
            Submission(at_ms=0, node=self.node, message=message, command_id=f"{self.node} feed {self._asked}", patience_ms=_PATIENCE_MS)
        )
