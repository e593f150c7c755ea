"""An act of the demo: the nodes elect a group on a fork that begins with an invalid block; its conviction revokes the group.

The fork is handed to every node by hand, past the feeds, and is longer than the chain: so it is the best one, and the group signs no block
of the other. Three of the four validators then find the candidate invalid that the fork's first block includes.
"""

from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import anyio
import msgspec

from messages.chain_api import Best, BlacklistStatus, Header, ImportBlock, IsBlacklisted
from messages.consensus_blocks import NextBlock, NextBlockReport
from messages.consensus_manager import Attempts, AttemptsReport, AttemptState, Epoch, EpochReport, Phase
from messages.message import Message
from messages.polkadot import CandidateReceipt, VoteKind
from messages.scale import candidate_hash
from messages.votes_db import VotesRegistered
from overseer.consensus.chain import SESSION, hash_of, make_next
from overseer.demo.network import LOOK_S, Network
from overseer.demo.playing import PATIENCE_S, Unexpected
from overseer.feeds.keyring import derive
from overseer.feeds.make import make_bundle, make_receipt

__all__ = ["SCENES", "Revoked", "Revoking"]

# How many scenes the act has.
SCENES = 3
# A fork begins so far below the next election at least: that becomes due by the fork's own blocks, so no other chain has its group.
_BEFORE_DUE_MIN = 3
# Blocks by which a fork begins: more than the chain grows while the nodes are told.
_LEAD = 3
_PARACHAIN = 2_000
# A node whose finality went on beyond the place never follows the fork: then another one is tried.
_FORKS_MAX = 3
_FOLLOW_S = 5.0
# How long the next step of the DKG is waited for before the fork goes on without it.
_STEP_S = 10.0

_M = TypeVar("_M", bound=Message)
_T = TypeVar("_T")


class Revoked(msgspec.Struct, kw_only=True):
    """What came of it. `group`: the epoch of the group that `block`, of the fork, accepted; `serves`: the epoch that served then.

    `root`, the fork's first block, includes `candidate`, convicted in `session` by the votes of the validators `against`.
    """

    group: int = 0
    block: str = ""
    root: str = ""
    candidate: str = ""
    session: int = SESSION
    against: list[int] = []
    # The node that the votes were handed to; the others heard of them from it.
    told: str = ""
    # Nodes that blacklisted the block, and that went on behind the place of the fork, without it.
    blacklisted: int = 0
    went_on: int = 0
    serves: int = 0


class Revoking:
    """The act. `told` hears of each scene."""

    def __init__(self, network: Network, seed: str, *, told: Callable[[str], None]) -> None:
        self.revoked = Revoked()
        self._network = network
        self._told = told
        self._seed = seed
        self._liar = derive(seed, "revoking", 0)[0] % len(network.nodes)
        self._fork: list[ImportBlock] = []

    async def play(self) -> None:
        """While the network is up. Raises Unexpected, Refused, BusError."""
        revoked, told = self.revoked, self._told
        receipt, before = await self._lead_astray()
        told("A longer fork is handed to all nodes, and they follow it. They do not know that a liar backed what its first block includes.")
        await self._elect(before)
        told(f"On it they elect group {revoked.group}. Now the three others find the candidate invalid, and say so to {revoked.told}.")
        await self._dispute(receipt)
        await self._look_at_the_end(before)
        told(f"The fork is blacklisted everywhere, so group {revoked.group} is revoked: group {revoked.serves} serves again, and signs on.")

    def differences(self) -> Iterator[str]:
        revoked, nodes = self.revoked, len(self._network.nodes)
        for what, found, wanted in (
            ("nodes that blacklisted its block", revoked.blacklisted, nodes),
            ("nodes that went on without it", revoked.went_on, nodes),
            ("epoch that served again", revoked.serves, revoked.group - 1),
        ):
            if found != wanted:
                yield f"revoked group: {what}: {found}, expected {wanted}"

    # -------------------------------------------------------------------------------------------- the fork

    async def _lead_astray(self) -> tuple[CandidateReceipt, int]:
        """Until all nodes follow a fork: what its first block includes, and the epoch that serves there."""
        for number in range(_FORKS_MAX):
            place = await self._place()
            receipt = make_receipt(derive(self._seed, "revoking", number), para_id=_PARACHAIN, relay_parent=place.parent)
            candidate = candidate_hash(receipt)
            self._fork = [_made(place, [candidate])]
            while len(self._fork) < _LEAD:
                self._fork.append(_made(_behind(self._fork[-1])))
            for block in self._fork:
                await self._hand_over(block)
            if await self._is_followed():
                self.revoked.root, self.revoked.candidate = self._fork[0].hash.hex(), candidate.hex()
                return receipt, place.epoch
        raise Unexpected("the nodes follow no fork")

    async def _place(self) -> NextBlockReport:
        """Where a fork may begin: at the chain's end, when the next election is still some blocks away."""

        async def found() -> NextBlockReport | None:
            now, place = await self._asked(Epoch(), EpochReport), await self._asked(NextBlock(), NextBlockReport)
            early = place.epoch == now.epoch and place.number + _BEFORE_DUE_MIN <= now.due
            return place if early and not place.group_transactions else None

        return await self._until(found, "a fork can begin")

    async def _is_followed(self) -> bool:
        with anyio.move_on_after(_FOLLOW_S):
            await self._until_all_at(self._fork[-1].hash)
            return True
        return False

    async def _all_at(self, block: bytes) -> bool:
        """Whether it is the best block of every node, by its consensus manager as well."""
        for node in self._network.nodes:
            report = await self._network.persistently(node, NextBlock())
            if not isinstance(report, NextBlockReport) or report.parent != block:
                return False
        return True

    async def _hand_over(self, block: ImportBlock) -> None:
        async with anyio.create_task_group() as tasks:
            for node in self._network.nodes:
                tasks.start_soon(self._network.command, node, block)

    async def _elect(self, before: int) -> None:
        """Grow the fork until a block of it has accepted a group."""
        wanted = ""
        with anyio.move_on_after(PATIENCE_S):
            while True:
                report = await self._asked(NextBlock(), NextBlockReport)
                block = _made(report)
                self._fork.append(block)
                await self._hand_over(block)
                await self._until_all_at(block.hash)
                now = await self._asked(Epoch(), EpochReport)
                if now.epoch > before and now.group is not None:
                    self.revoked.group, self.revoked.block = now.epoch, now.group.block.hex()
                    self.revoked.told = self._network.nodes[(self._liar + 1) % len(self._network.nodes)]
                    return
                wanted = await self._stepped(now, wanted)
        raise Unexpected("no group is elected on the fork")

    async def _until_all_at(self, block: bytes) -> None:
        async def holds() -> bool | None:
            return await self._all_at(block) or None

        await self._until(holds, "all nodes have the fork's next block")

    async def _stepped(self, now: EpochReport, before: str) -> str:
        """Wait until the DKG is ready for the next block, if one runs: so it never needs a second attempt."""
        with anyio.move_on_after(_STEP_S):
            while True:
                report = await self._asked(Attempts(), AttemptsReport)
                rows = [row for row in report.attempts if row.state in (AttemptState.RUNNING, AttemptState.COMPLETE)]
                if not rows and self._fork[-1].number < now.due:
                    return ""
                if rows and rows[-1].state is AttemptState.COMPLETE:
                    return ""
                step = rows[-1].phase.value if rows else ""
                dealt = bool(rows) and rows[-1].dealt == rows[-1].members
                if step not in ("", before, Phase.CONFIRM.value) and dealt:
                    return step
                await anyio.sleep(LOOK_S)
        return before

    # -------------------------------------------------------------------------------------------- its end

    async def _dispute(self, receipt: CandidateReceipt) -> None:
        """All votes in one bundle, to one node: the others hear of the dispute from it."""
        nodes = self._network.nodes
        against = [index for index in range(len(nodes)) if index != self._liar]
        ballots = [(self._liar, VoteKind.BACKING_SECONDED), *((index, VoteKind.EXPLICIT_INVALID) for index in against)]
        bundle = make_bundle(self._network.keyring(), receipt, ballots, session=SESSION, block_number=self._fork[0].number)
        registered = await self._network.command(self.revoked.told, bundle)
        assert isinstance(registered, VotesRegistered)
        self.revoked.against = [vote.validator for vote in registered.outcomes if vote.kind is VoteKind.EXPLICIT_INVALID]

    async def _look_at_the_end(self, before: int) -> None:
        """Every node goes on without the fork."""
        forked, place = {block.hash for block in self._fork}, self._fork[0].number
        self.revoked.serves = -1
        for node in self._network.nodes:

            async def is_off(node: str = node) -> EpochReport | None:
                status = await self._network.persistently(node, IsBlacklisted(hash=bytes.fromhex(self.revoked.block)))
                now = await self._network.persistently(node, Epoch())
                off = isinstance(status, BlacklistStatus) and status.blacklisted
                return now if off and isinstance(now, EpochReport) and now.epoch == before else None

            now = await self._until(is_off, f"{node} is off the fork")
            self.revoked.blacklisted += 1
            self.revoked.serves = now.epoch if self.revoked.serves in (-1, now.epoch) else 0

        for node in self._network.nodes:

            async def goes_on(node: str = node) -> bool | None:
                best = await self._network.persistently(node, Best())
                return (isinstance(best, Header) and best.hash not in forked and best.number >= place) or None

            self.revoked.went_on += await self._until(goes_on, f"{node} goes on")

    # -------------------------------------------------------------------------------------------- asking

    async def _asked(self, query: Message, kind: type[_M]) -> _M:
        """Of the first node."""
        reply = await self._network.persistently(self._network.nodes[0], query)
        assert isinstance(reply, kind)
        return reply

    async def _until(self, found: Callable[[], Awaitable[_T | None]], what: str) -> _T:
        with anyio.move_on_after(PATIENCE_S):
            while True:
                value = await found()
                if value is not None:
                    return value
                await self._network.look()
                await anyio.sleep(LOOK_S)
        raise Unexpected(f"never came true: {what}")


def _made(place: NextBlockReport, included: list[bytes] | None = None) -> ImportBlock:
    """The block that may come next there, with these candidates in it."""
    block = make_next(
        place.parent,
        place.number,
        epoch=place.epoch,
        epoch_start=place.epoch_start,
        validators=(),
        group_transactions=place.group_transactions,
    )
    block = msgspec.structs.replace(block, included=included or [])
    return msgspec.structs.replace(block, hash=hash_of(block))


def _behind(block: ImportBlock) -> NextBlockReport:
    """Of a fork that no group signs."""
    return NextBlockReport(
        parent=block.hash,
        number=block.number + 1,
        epoch=block.epoch,
        epoch_start=block.epoch_start,
        round=block.round + 1,
        signed=False,
        group_transactions=[],
    )
