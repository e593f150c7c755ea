"""The feed of a Substrate chain (`feed.source = substrate`): its blocks, forks, finality, sessions and dispute votes become commands.

Nothing is kept here that matters: the feed asks its node where it is. All at or below the node's final block is done with; what is above
is read again after a restart, and told again under the same ids.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

import anyio

from messages.chain_api import CANDIDATES_PER_BLOCK_MAX, FinalizeBlock, ImportBlock
from messages.codec import CodecError
from messages.polkadot import CandidateReceipt, Validator
from messages.scale import candidate_hash
from overseer.feeds.substrate.account import Account
from overseer.feeds.substrate.header import RemoteHeader
from overseer.feeds.substrate.link import linked
from overseer.feeds.substrate.own import ACCEPTED, OwnNode
from overseer.feeds.substrate.reading import ReadBlock, read_block, read_validators
from overseer.feeds.substrate.remote import Remote, Runtimes
from overseer.feeds.substrate.runtime import CANDIDATES, SESSIONS
from overseer.feeds.substrate.troubles import RemoteError, RemoteLies, RemotePruned, Unreadable
from overseer.feeds.substrate.votes import DisputeVotes
from overseer.node.client import Client
from overseer.observe.logs import logger

__all__ = ["SubstrateFeed"]

# Blocks read at once while catching up; finality is told after each such batch.
BATCH = 32
# Blocks between the node's chain and a head that are walked back by parents.
WALK_MAX = 4096
# Blocks done with that are remembered: what is not is asked of the node.
DONE_MAX = 16_384
# Without news for so long, the remote is asked: updates may be lost, and finality tried again in governance mode.
IDLE_S = 10.0
# Pauses before the next remote, or the same again.
PAUSE_S, PAUSE_S_MAX = 0.5, 30.0


class _Place(NamedTuple):
    """Of a block of the own node's."""

    number: int
    session: int


class SubstrateFeed:
    """One node's feed. `genesis`: the block of the remote chain where the node begins, and counts from. `urls`: in turn."""

    def __init__(self, client: Client, genesis: bytes, urls: Sequence[str], *, heard: Callable[[str], None] = lambda _: None) -> None:
        self._genesis = genesis
        self._urls = urls
        self._account = Account(heard)
        self._own = OwnNode(client, genesis, self._account.waits)
        self._runtimes = Runtimes()
        self._votes = DisputeVotes(self._own, self._runtimes, self._account)
        self._done: dict[bytes, _Place] = {}
        self._taken = 0
        self._log = logger("feed")

    async def run(self) -> None:
        """For ever; waits out what passes, and tells it."""
        turn, pruned, pause_s = 0, 0, PAUSE_S
        while True:
            url, before = self._urls[turn % len(self._urls)], self._taken
            shown = _without_secrets(url)
            try:
                async with linked(url) as link:
                    # When no remote has what is missing, we go on without it.
                    followed = _Following(self, Remote(link), pruned_too=pruned >= len(self._urls))
                    await followed.run(shown)
            except (RemoteError, CodecError) as error:
                pruned = pruned + 1 if isinstance(error, RemotePruned) else 0
                self._account.trouble(f"{shown}: {error}")
                self._log.warning("remote_left", url=shown, error=str(error))
            turn += 1
            pause_s = PAUSE_S if self._taken > before else min(2 * pause_s, PAUSE_S_MAX)
            await anyio.sleep(pause_s)

    # -------------------------------------------------------------------------------------------- what following uses

    @property
    def genesis(self) -> bytes:
        return self._genesis

    @property
    def own(self) -> OwnNode:
        return self._own

    @property
    def account(self) -> Account:
        return self._account

    @property
    def runtimes(self) -> Runtimes:
        return self._runtimes

    @property
    def votes(self) -> DisputeVotes:
        return self._votes

    def is_done(self, block: bytes) -> bool:
        return block in self._done

    def done(self, block: bytes, place: _Place) -> None:
        self._taken += 1
        self._done[block] = place
        while len(self._done) > DONE_MAX:
            del self._done[next(iter(self._done))]

    async def place(self, block: bytes) -> _Place | None:
        """Where the own node has the block; None when it has it not."""
        known = self._done.get(block)
        if known is None:
            header = await self._own.header(block)
            known = None if header is None else _Place(header.number, header.session)
        return known


class _Following:
    """One remote, followed over one connection."""

    def __init__(self, feed: SubstrateFeed, remote: Remote, *, pruned_too: bool) -> None:
        self._feed = feed
        self._remote = remote
        self._pruned_too = pruned_too
        # Of the block where the node begins, on the remote's chain.
        self._offset = 0
        # The last block that was told to be final, by the remote's number.
        self._final = 0
        # How often the finality of a block was refused by the node for now.
        self._refused: tuple[bytes, int] = (b"", 0)
        self._log = logger("feed")

    async def run(self, url: str) -> None:
        """Until it cannot be followed any more: raises RemoteError."""
        await self._check_chain()
        self._log.info("catching_up", url=url, chain=await self._remote.chain_name())
        self._feed.account.trouble("")
        # Before it tells of heads: those of hours would wait to be taken.
        await self._catch_up(await self._remote.finalized())
        await self._remote.follow()
        self._log.info("following", url=url)
        await self._catch_up(await self._remote.finalized())
        await self._again()
        await self._reach(await self._remote.best())
        while True:
            head = await self._remote.head(IDLE_S)
            if head is None:
                await self._reach(await self._remote.best())
                await self._hear_final(await self._remote.finalized())
            elif head.is_final:
                await self._hear_final(head.header)
            else:
                await self._reach(head.header)

    async def _check_chain(self) -> None:
        genesis = self._feed.genesis
        header = await self._remote.header(genesis)
        if header is None or await self._remote.hashes([header.number]) != [genesis]:
            raise RemoteLies(f"block {genesis.hex()}, where this node begins (`genesis`), is not on its chain")
        self._offset = header.number

    # -------------------------------------------------------------------------------------------- blocks

    async def _catch_up(self, final: RemoteHeader) -> None:
        """From the node's final block to the remote's, in batches, each of which is final when it is told. Raises RemoteError."""
        own = await self._feed.own.finalized()
        self._final = own.number + self._offset
        if final.number <= self._final:
            await self._check_final(final.hash, final.number)
            return
        previous = own.hash
        (theirs,) = await self._remote.hashes([self._final])
        await self._check_final(theirs or b"", self._final)
        at = self._final + 1
        while at <= final.number:
            numbers = range(at, min(at + BATCH, final.number + 1))
            blocks = await self._remote.hashes(numbers)
            if None in blocks:
                raise RemoteLies(f"its chain has no block at a height below its final one, {final.number}")
            hashes = [block for block in blocks if block is not None]
            read = {block.header.hash: block for block in await self._read(b for b in hashes if not self._feed.is_done(b))}
            for block in hashes:
                if block in read:
                    if read[block].header.parent != previous:
                        raise RemoteLies(f"block {block.hex()} does not follow the one below it on its own chain")
                    await self._take(read[block], target=final.number - self._offset)
                previous = block
            await self._finalize(previous, numbers[-1])
            at = numbers[-1] + 1

    async def _check_final(self, theirs: bytes, number: int) -> None:
        """Raises RemoteLies where the remote has another final block at a height that is final here."""
        ours = await self._feed.own.finalized_hash(number - self._offset)
        if ours is not None and ours != theirs:
            raise RemoteLies(f"its finality has gone another way: at height {number} this node has {ours.hex()}, it has {theirs.hex()}")

    async def _again(self) -> None:
        """Blocks above the final one that the node has: whether all their votes were told is not known."""
        own = await self._feed.own.finalized()
        batch: list[bytes] = []
        async for block in self._feed.own.descendants(own.hash):
            if not self._feed.is_done(block):
                batch.append(block)
            if len(batch) == BATCH:
                await self._take_again(batch)
                batch = []
        await self._take_again(batch)

    async def _take_again(self, blocks: list[bytes]) -> None:
        for block in blocks:
            try:
                await self._take(await self._read_one(block))
            except RemotePruned:
                self._feed.account.unread("blocks of forks that the remote has no more", block=block)

    async def _reach(self, head: RemoteHeader) -> bool:
        """Take a head, and what lies between it and the node's tree. False: it does not belong there."""
        missing: list[RemoteHeader] = []
        at: RemoteHeader | None = head
        while at is not None and at.hash != self._feed.genesis and not self._feed.is_done(at.hash):
            if at.number <= self._final or len(missing) == WALK_MAX:
                self._log.warning("head_passed_over", head=head.hash.hex(), number=head.number, final=self._final)
                return False
            missing.append(at)
            if await self._feed.place(at.parent) is not None:
                break
            at = await self._remote.header(at.parent)
        if at is None:
            self._log.warning("head_passed_over", head=head.hash.hex(), number=head.number, error="it has not its ancestors")
            return False
        missing.reverse()
        for first in range(0, len(missing), BATCH):
            for block in await self._read(missing[first : first + BATCH]):
                await self._take(block)
        return True

    async def _read(self, blocks: Iterable[bytes | RemoteHeader]) -> list[ReadBlock]:
        """Several at once, in their order."""
        listed = list(blocks)
        found: dict[bytes | RemoteHeader, ReadBlock] = {}
        failed: list[Exception] = []

        async def one(block: bytes | RemoteHeader) -> None:
            try:
                found[block] = await self._read_one(block)
            except RemoteError as error:
                failed.append(error)

        async with anyio.create_task_group() as tasks:
            for block in listed:
                tasks.start_soon(one, block)
        if failed:
            raise failed[0]
        return [found[block] for block in listed]

    async def _read_one(self, block: bytes | RemoteHeader) -> ReadBlock:
        return await read_block(self._remote, self._feed.runtimes, block, pruned_too=self._pruned_too)

    async def _take(self, block: ReadBlock, *, target: int = 0) -> None:
        """Import the block, then its votes. Its parent is in the node's tree. `target`: to which number we catch up."""
        header, feed = block.header, self._feed
        number = header.number - self._offset
        parent = await feed.place(header.parent)
        if parent is None:
            raise RemoteLies(f"block {header.hash.hex()} has a parent that was never told")
        for part, why in block.unread.items():
            feed.account.unread(f"{part}: {why}", block=header.hash)
        session, starts = await self._session(block, parent)
        backed, included = self._candidates(block)
        message = ImportBlock(
            hash=header.hash,
            parent=header.parent,
            number=number,
            session=session,
            backed=backed,
            included=included,
            session_start=starts,
            sync=number < target,
            target_height=target if number < target else 0,
        )
        code, _ = await feed.own.tell(message, header.hash)
        if code != ACCEPTED:
            raise RemoteLies(f"block {header.hash.hex()} is refused by this node: {code}")
        for found in block.disputes:
            await feed.votes.tell(self._remote, found, header, number)
        feed.done(header.hash, _Place(number, session))

    async def _session(self, block: ReadBlock, parent: _Place) -> tuple[int, list[Validator] | None]:
        """The block's session, and its validators if the block starts it; the parent's where that cannot be read."""
        header = block.header
        if block.session is None or (block.session == parent.session and header.parent != self._feed.genesis):
            return parent.session, None
        if block.session < parent.session:
            raise RemoteLies(f"block {header.hash.hex()} is of session {block.session}, its parent of {parent.session}")
        try:
            return block.session, await read_validators(self._remote, self._feed.runtimes, block.session, header.parent)
        except (Unreadable, RemotePruned) as error:
            if isinstance(error, RemotePruned) and not self._pruned_too:
                raise
            self._feed.account.unread(f"{SESSIONS}: {error}", block=header.hash)
            return parent.session, None

    def _candidates(self, block: ReadBlock) -> tuple[list[bytes], list[bytes]]:
        """Hashes of what the block backs and includes; their receipts are kept for votes on them."""

        def hashes(receipts: Sequence[CandidateReceipt]) -> list[bytes]:
            if len(receipts) > CANDIDATES_PER_BLOCK_MAX:
                self._feed.account.unread(f"{CANDIDATES}: {len(receipts)} in one block", block=block.header.hash)
                return []
            return [self._feed.votes.keep(candidate_hash(receipt), receipt) for receipt in receipts]

        return hashes(block.candidates.backed), hashes(block.candidates.included)

    # -------------------------------------------------------------------------------------------- finality

    async def _hear_final(self, header: RemoteHeader) -> None:
        if header.number > self._final + BATCH:
            await self._catch_up(header)
        elif header.number <= self._final:
            await self._check_final(header.hash, header.number)
            await self._again_final()
        elif await self._reach(header):
            await self._finalize(header.hash, header.number)
        else:
            raise RemoteLies(f"its final block {header.hash.hex()} does not follow the last one")

    async def _again_final(self) -> None:
        """What the node refused for now is tried once more."""
        block, _ = self._refused
        if block:
            await self._finalize(block, self._final)

    async def _finalize(self, block: bytes, number: int) -> None:
        same, attempts = self._refused
        attempts = attempts if same == block else 0
        code, _ = await self._feed.own.tell(FinalizeBlock(hash=block), block, attempts.to_bytes(4, "little"), passing=("governance_mode",))
        if code == "governance_mode":
            self._refused = block, attempts + 1
            self._feed.account.halted("this node is in governance mode: blocks go on, finality waits for its end")
        elif code == ACCEPTED:
            self._refused = b"", 0
            self._feed.account.halted("")
        else:
            raise RemoteLies(f"the finality of block {block.hex()} is refused by this node: {code}")
        self._final = number


def _without_secrets(url: str) -> str:
    """Whom, without what follows: providers have keys in their paths."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
