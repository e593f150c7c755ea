"""Who makes the chain of the simulation: one author outside of all nodes, who sees what they tell each other.

`SignedChain` is the chain of a development network as its feeds make it: linear, and signed by the group that serves.
`ForkingChain` is signed by nobody and forks: what a fork leaves behind takes its groups with it.
"""

from collections.abc import Sequence
from random import Random

import anyio
import msgspec

from messages.chain_api import GROUP_TRANSACTIONS_PER_BLOCK_MAX, ImportBlock
from messages.codec import CodecError, decode
from messages.consensus_blocks import NextBlock, NextBlockReport
from messages.consensus_manager import GroupTransaction
from messages.subjects import SubjectError, parse
from overseer.consensus.chain import NetworkChain, hash_of, make_next, validators_of
from overseer.simulation.consensus.cast import GENESIS, Play, described
from overseer.simulation.consensus.feeds import Feed
from overseer.simulation.network import NET
from overseer.simulation.scenario import Author, Outside, Violation

__all__ = ["ChainAuthor", "author_of"]

# Seconds between two blocks; now and then so many that validators say that the chain stalls.
_PAUSES_S = (0.3, 2.0, 2.0, 4.0, 8.0, 8.0)
_SILENCE_S = 40.0
_SILENCE_SHARE = 0.03
_PAUSE_AFTERWARDS_S = 2.0
_LOOK_S = 0.5
# A group transaction waits for the next block so often, by seed: it may become too old.
_LEFT_OUT_SHARES = (0.0, 0.2, 0.7)
# In some seeds the chain takes none before it has two at once.
_HOARDS_SHARE = 0.15
# Blocks behind the tip that are final: no fork begins below.
FINALITY_LAG = 3
_FORK_SHARE = 0.15
# A feed names another block of the same height besides.
_RIVAL_SHARE = 0.2
# Once faults have ceased, a group is accepted within this virtual time: some elections' worth, and the longest jump of a clock.
_PROCEEDS_S = 1_500.0
# In some seeds the session changes there, and its validators are others, in another order.
_SESSION_CHANGE = 12


class Tree:
    """All blocks that were made, by hash, and the best of them."""

    def __init__(self) -> None:
        self.blocks: dict[bytes, ImportBlock] = {}
        self.tip = GENESIS

    def add(self, block: ImportBlock) -> None:
        self.blocks[block.hash] = block
        self.tip = block.hash

    @property
    def height(self) -> int:
        return self.blocks[self.tip].number if self.tip in self.blocks else 0

    def path(self, tip: bytes | None = None) -> list[ImportBlock]:
        """From the child of genesis to the tip, or to another block."""
        found: list[ImportBlock] = []
        at = self.tip if tip is None else tip
        while at in self.blocks:
            found.append(self.blocks[at])
            at = found[-1].parent
        return found[::-1]

    def final(self) -> ImportBlock | None:
        """The last block that no fork leaves."""
        path = self.path()
        return path[-1 - FINALITY_LAG] if len(path) > FINALITY_LAG else None


class ChainAuthor:
    """Makes the chain until faults have ceased and then until a group is accepted; feeds bring it to the nodes."""

    def __init__(self, outside: Outside, play: Play) -> None:
        self.tree = Tree()
        # The block that the serving group is asked to sign.
        self.wanted: ImportBlock | None = None
        # One that its feeds name as well, afterwards.
        self.rival: ImportBlock | None = None
        # Set with the next block that is made or wanted.
        self.news = anyio.Event()
        self._outside = outside
        self._play = play
        self._random = Random(f"{play.network.seed} author")
        self._left_out_share = Random(f"{play.network.seed} left out").choice(_LEFT_OUT_SHARES)
        self._hoards = Random(f"{play.network.seed} hoards").random() < _HOARDS_SHARE
        self._feeds = [Feed(outside, node, self, play) for node in play.network.nodes]
        # Group transactions that the network was told of, in their order.
        self._heard: dict[bytes, None] = {}
        self._ceased_at: int | None = None
        self._until_s = float("inf")
        self._is_done = False

    @property
    def outstanding(self) -> str:
        if not self._is_done:
            wanted = "" if self.wanted is None else f", whose child {self.wanted.number} waits for its group"
            return f"the chain is at {self.tree.height}{wanted}, and no group was accepted since faults have ceased"
        return next((f"{feed.node} is not at the tip" for feed in self._feeds if not feed.is_done), "")

    def cease(self) -> None:
        self._ceased_at, self._until_s = self.tree.height, self._outside.now_s() + _PROCEEDS_S

    async def run(self) -> None:
        async with anyio.create_task_group() as tasks:
            for feed in self._feeds:
                tasks.start_soon(feed.run)
            while not self._is_done:
                await self._wait(self._pause_s())
                self._hear()
                await self._grow()
                self._tell_feeds()
                self._is_done = await self._is_accepted()

    async def _wait(self, seconds: float) -> None:
        """Much too long after faults have ceased, the chain does not proceed."""
        if self._outside.now_s() >= self._until_s:
            self._outside.violated(Violation("liveness", self.outstanding))
        await anyio.sleep(seconds)

    def _tell_feeds(self) -> None:
        told, self.news = self.news, anyio.Event()
        told.set()

    def _pause_s(self) -> float:
        if self._ceased_at is not None:
            return _PAUSE_AFTERWARDS_S
        return _SILENCE_S if self._random.random() < _SILENCE_SHARE else self._random.choice(_PAUSES_S)

    def _hear(self) -> None:
        """What is handed in by now."""
        for message in self._outside.stream(NET):
            if message.body in self._heard:
                continue
            try:
                spec = parse(message.subject).spec()
                if spec is not None and spec.body is GroupTransaction:
                    decode(spec, message.body)
                    self._heard[message.body] = None
            except (SubjectError, CodecError):
                continue

    def _transactions(self, path: Sequence[ImportBlock]) -> list[bytes]:
        """Those that the next block behind this path takes."""
        taken = {body for block in path for body in block.group_transactions}
        left = [body for body in self._heard if body not in taken]
        if self._ceased_at is None and self._hoards:
            return left[:GROUP_TRANSACTIONS_PER_BLOCK_MAX] if len(left) > 1 else []
        if self._ceased_at is None:
            left = [body for body in left if self._random.random() >= self._left_out_share]
            self._random.shuffle(left)
        return left[:GROUP_TRANSACTIONS_PER_BLOCK_MAX]

    async def _grow(self) -> None:
        raise NotImplementedError

    async def _is_accepted(self) -> bool:
        """Whether the tip, made after faults had ceased, accepts a group."""
        if self._ceased_at is None or self.tree.height <= self._ceased_at:
            return False
        while True:
            for node in self._play.honest:
                report = await self._outside.query(node, NextBlock())
                if isinstance(report, NextBlockReport) and report.parent == self.tree.tip:
                    return report.epoch_start == self.tree.height
            await self._wait(_LOOK_S)


class SignedChain(ChainAuthor):
    """Every block has the signature of the group that serves before it, once there is one."""

    def __init__(self, outside: Outside, play: Play) -> None:
        super().__init__(outside, play)
        self._chain = NetworkChain(GENESIS, [described(node) for node in play.network.nodes], play.parameters)

    async def _grow(self) -> None:
        block = self._chain.propose(self._transactions(self.tree.path()))
        signature: bytes | None = None
        if self._chain.is_signed:
            self.wanted, self.rival = block, self._rival_of(block)
            self._tell_feeds()
            while (signature := self._signature(block)) is None:
                await self._wait(_LOOK_S)
            self.wanted = None
        sealed = msgspec.structs.replace(block, epoch_signature=signature)
        if not self._chain.hear_sealed(sealed):
            self._outside.violated(Violation("signing", f"what the nodes tell for the group's signature of block {block.number} is none"))
        self.tree.add(sealed)

    def _signature(self, block: ImportBlock) -> bytes | None:
        return next((signature for feed in self._feeds if (signature := feed.signature_of(block)) is not None), None)

    def _rival_of(self, block: ImportBlock) -> ImportBlock | None:
        """Another child of the same block. Beside liars, a node that forgot what it signed would be one too many."""
        if self._play.liars or self._random.random() >= _RIVAL_SHARE:
            return None
        rival = msgspec.structs.replace(block, backed=[block.hash])
        return msgspec.structs.replace(rival, hash=hash_of(rival))


class ForkingChain(ChainAuthor):
    """Now and then some blocks are replaced by others, one more. In some seeds the session changes."""

    def __init__(self, outside: Outside, play: Play) -> None:
        super().__init__(outside, play)
        nodes = [described(node) for node in play.network.nodes]
        self._validators = {1: validators_of(nodes)}
        if self._random.random() < 0.5:
            most = len(nodes) - play.parameters.group_size
            others = self._random.sample(self._validators[1], len(nodes) - self._random.randint(0, most))
            self._validators[2] = others
        self._salt = 0

    async def _grow(self) -> None:
        depth, path = 0, self.tree.path()
        if self._ceased_at is None and self._random.random() < _FORK_SHARE:
            depth = self._random.randint(1, FINALITY_LAG)
        depth = min(depth, max(0, len(path) - 1))
        path = path[: len(path) - depth]
        self._salt += 1
        for _ in range(depth + 1):
            path.append(self._next(path))
        # At once: a chain that is shorter than another is no best one.
        for block in path[-1 - depth :]:
            self.tree.add(block)

    def _next(self, path: Sequence[ImportBlock]) -> ImportBlock:
        number = len(path) + 1
        session = max(start for start in self._validators if start == 1 or number >= _SESSION_CHANGE)
        starts = number == (1 if session == 1 else _SESSION_CHANGE)
        block = make_next(
            path[-1].hash if path else GENESIS,
            number,
            epoch=0,
            epoch_start=0,
            validators=self._validators[1],
            group_transactions=self._transactions(path),
        )
        block = msgspec.structs.replace(
            block,
            session=session,
            session_start=list(self._validators[session]) if starts else None,
            # Nothing of two forks is alike.
            backed=[self._salt.to_bytes(32, "big")],
        )
        return msgspec.structs.replace(block, hash=hash_of(block))


def author_of(outside: Outside, play: Play) -> Author:
    return ForkingChain(outside, play) if play.forks else SignedChain(outside, play)
