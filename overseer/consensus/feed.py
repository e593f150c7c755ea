"""The feed of a development network: the nodes make one chain together over the network's stream (`feed.source = net`).

All feeds read the same messages in the same order (`overseer.consensus.chain`). The node whose turn it is proposes; each feed names the
proposal to its `consensus_manager`, and who has the group's signature of it seals it: the proposer, or another when that takes too long.
What is sealed goes to the node's own `chain_api`. Nothing is kept: a restarted feed reads the stream anew. A running one does so when it is
another stream by now, or has lost its end.
"""

import time
from collections.abc import Callable

import anyio
import msgspec

from messages.chain_api import Best, FinalizeBlock, GetHeader, Header, ImportBlock
from messages.codec import CodecError, decode, encode
from messages.consensus_blocks import (
    BlockProposed,
    BlockSealed,
    BlockSignature,
    BlockSignatureReport,
    NextBlock,
    NextBlockReport,
)
from messages.message import Message
from messages.subjects import SubjectError, build, headers_of, net_filter, net_stream, parse
from overseer.consensus.chain import FEED_SENDS, NetworkChain, header_of
from overseer.consensus.roster import Described
from overseer.consensus.trust import NodeTrust
from overseer.nats.append import append_one
from overseer.nats.line import NatsLine
from overseer.nats.provision import ApiError
from overseer.nats.stored import stored_messages
from overseer.node.client import Client, Refused
from overseer.observe.logs import Waits, logger
from overseer.pauses import Pauses
from overseer.ports.bus import BusError, Outgoing, StoredMessage, StreamFull
from overseer.runner.trust import signed, untrusted

__all__ = ["NetworkFeed"]

_SENDER = "feed"
# How often the stream is looked at, and the signature asked for.
_LOOK_MS = 50
# How long the stream may take to acknowledge what is said.
_SAY_MS = 5_000
# A feed that does not propose, or seal, in its turn is waited for so many intervals, and so long at least.
_PATIENCE_INTERVALS = 2
_PATIENCE_MS_MIN = 1_000
# Blocks behind the best that are final.
_FINALITY_LAG = 3
# A block is missing for so many times as long: it is told what is waited for.
_TELL_PATIENCES = 3
# A block that stays unsigned for so many times as long is named again: behind a longer fork it may have been forgotten.
_NAME_PATIENCES = 2


class NetworkFeed:
    """One node's feed. The network's nodes propose in turn. `heard`: what the chain waits for, or "" again."""

    def __init__(
        self,
        client: Client,
        chain: NetworkChain,
        nodes: list[Described],
        trust: NodeTrust,
        *,
        interval_ms: int,
        heard: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._client = client
        self._chain = chain
        self._order = sorted(node.node for node in nodes)
        self._trust = trust
        self._interval_ms = interval_ms
        self._patience_ms = max(_PATIENCE_MS_MIN, _PATIENCE_INTERVALS * interval_ms)
        self._next = 1
        # The id of the stream that it is of, and when that was looked at last.
        self._line = NatsLine(client.connection, stream=net_stream(), sender=_SENDER, own_filter=net_filter(client.node, _SENDER))
        self._stream: str | None = None
        self._looked_ms = 0
        # Blocks that were sealed and are not imported yet, in order, and what is final with each.
        self._sealed: list[tuple[ImportBlock, bytes | None]] = []
        # The block that was named last, when it is to be named again, and how soon while that is refused.
        self._named = b""
        self._name_ms = 0
        self._name_pauses = Pauses(_LOOK_MS, self._patience_ms)
        # When a block was proposed last, and its parent; and sealed, and its hash.
        self._said: dict[type[Message], tuple[bytes, int]] = {}
        self._moved_ms = _now_ms()
        self._heard = heard
        self._waits_for = ""
        self._log = logger(_SENDER)

    async def run(self) -> None:
        """For ever; waits out what passes."""
        waits = Waits(self._log)
        while True:
            try:
                await self._read()
                await self._import()
                await self._act()
                waits.tell("")
            except (BusError, ApiError) as error:
                waits.tell(str(error))
            except Refused as refused:
                if not refused.retriable:
                    self._log.warning("refused", code=refused.code, error=str(refused))
                    await anyio.sleep(self._patience_ms / 1000)
            await anyio.sleep(_LOOK_MS / 1000)

    # -------------------------------------------------------------------------------------------- what others said

    async def _read(self) -> None:
        """All that is in the stream by now."""
        await self._look()
        async for stored in stored_messages(self._client.connection, net_stream(), "overseer.net.*.feed.*", self._next):
            match self._taken(stored):
                case BlockProposed(block=block):
                    if self._chain.hear_proposed(block):
                        self._moved_ms = _now_ms()
                case BlockSealed(block=block) if self._chain.hear_sealed(block):
                    self._sealed.append((block, self._chain.hash_at(block.number - _FINALITY_LAG)))
                    self._moved_ms = _now_ms()
                    self._tell("")
                case BlockSealed(block=block) if block.number > self._chain.number + 1:
                    self._tell(f"the network's stream does not hold the chain: block {self._chain.number + 1} is not there, later ones are")
                case _:
                    pass
            self._next = stored.sequence + 1

    async def _look(self) -> None:
        """Once in a while: whether the stream is the one that was read, with all of it. If not, it is read again; the chain stays."""
        if self._stream is not None and _now_ms() < self._looked_ms + self._patience_ms:
            return
        state = await self._line.state()
        self._looked_ms = _now_ms()
        if self._stream not in (None, state.id) or state.last_sequence < self._next - 1:
            self._log.warning("stream_is_another", stream=net_stream(), last=state.last_sequence, read=self._next - 1)
            self._next = 1
        self._stream = state.id

    def _taken(self, stored: StoredMessage) -> Message | None:
        """What a node of the network said; None for anything else."""
        try:
            address = parse(stored.subject)
            spec = address.spec()
            if spec is None or spec.body not in FEED_SENDS or untrusted(self._trust, address.node, stored):
                return None
            return decode(spec, stored.body)
        except (SubjectError, CodecError):
            return None

    # -------------------------------------------------------------------------------------------- what follows

    async def _import(self) -> None:
        """Sealed blocks into the own tree. All but the last are of the past: nothing is to be begun for them (R2)."""
        if not self._sealed:
            return
        best = await self._client.query(Best())
        known = best.number if isinstance(best, Header) else 0
        target = self._sealed[-1][0].number
        await self._drop_known(known)
        while self._sealed:
            block, final = self._sealed[0]
            behind = block.number < target
            told = msgspec.structs.replace(block, sync=behind, target_height=target if behind else 0)
            await self._client.request(told)
            if block.number > max(known, _FINALITY_LAG) and final is not None:
                await self._client.request(FinalizeBlock(hash=final))
            self._sealed.pop(0)

    async def _drop_known(self, best: int) -> None:
        """Leave out what the node has, up to the last such block. How high its best one is does not tell: that may be a fork's."""
        for at in range(len(self._sealed) - 1, -1, -1):
            block, _ = self._sealed[at]
            if block.number <= best and await self._has(block.hash):
                del self._sealed[: at + 1]
                return

    async def _has(self, block: bytes) -> bool:
        try:
            return isinstance(await self._client.query(GetHeader(hash=block)), Header)
        except Refused as refused:
            if refused.retriable:
                raise
            return False

    async def _act(self) -> None:
        """Propose, name, or seal: what is this node's to do now."""
        proposal, waited_ms = self._chain.proposal, _now_ms() - self._moved_ms
        if proposal is None:
            due_ms = self._interval_ms + self._rank(self._chain.number + 1) * self._patience_ms
            if waited_ms >= due_ms and self._may_say(BlockProposed, self._chain.tip):
                await self._propose()
            return
        signature: bytes | None = None
        if self._chain.is_signed:
            await self._name(proposal)
            report = await self._client.query(BlockSignature(block=proposal.hash))
            signature = report.signature if isinstance(report, BlockSignatureReport) else None
            if signature is None:
                if waited_ms >= _TELL_PATIENCES * self._patience_ms and isinstance(report, BlockSignatureReport):
                    self._tell(_missing(proposal, report))
                return
        if waited_ms >= self._rank(proposal.number) * self._patience_ms and self._may_say(BlockSealed, proposal.hash):
            await self._say(BlockSealed(block=msgspec.structs.replace(proposal, epoch_signature=signature)), proposal.hash)

    def _tell(self, what: str) -> None:
        """Once for each thing that is waited for."""
        if what == self._waits_for:
            return
        self._waits_for = what
        self._heard(what)
        if what:
            self._log.warning("chain_waits", what=what)
        else:
            self._log.info("chain_goes_on", number=self._chain.number)

    def _rank(self, number: int) -> int:
        """How many are asked before this node for the block of that height."""
        return (self._order.index(self._client.node) - number) % len(self._order)

    async def _propose(self) -> None:
        report = await self._client.query(NextBlock())
        if not isinstance(report, NextBlockReport) or report.parent != self._chain.tip:
            # Not there yet.
            return
        await self._say(BlockProposed(block=self._chain.propose(report.group_transactions)), self._chain.tip)

    async def _name(self, block: ImportBlock) -> None:
        """Once in a while, until it is signed: to name it again changes nothing where it is known.

        Right after an import it may be refused for some milliseconds, so it is soon tried again; less and less often where that lasts.
        """
        if self._named != block.hash:
            self._named, self._name_ms = block.hash, 0
            self._name_pauses.reset()
        if _now_ms() < self._name_ms:
            return
        try:
            await self._client.request(header_of(block))
        except Refused as refused:
            if not refused.retriable:
                raise
            self._name_ms = _now_ms() + self._name_pauses.next_ms()
            return
        self._name_pauses.reset()
        self._name_ms = _now_ms() + _NAME_PATIENCES * self._patience_ms

    def _may_say(self, kind: type[Message], what: bytes) -> bool:
        """Once in a while, until it is heard: the stream may have refused it. A second one does no harm, the first counts."""
        said, at_ms = self._said.get(kind, (b"", 0))
        return said != what or _now_ms() >= at_ms + self._patience_ms

    async def _say(self, message: Message, what: bytes) -> None:
        self._said[type(message)] = what, _now_ms()
        out = Outgoing(build(self._client.node, _SENDER, message.spec), headers_of(message.spec), encode(message))
        try:
            await append_one(self._client.connection, signed(self._trust, out), {}, _SAY_MS)
        except StreamFull as full:
            # It stays so until somebody makes room.
            self._tell(f"the network's stream takes nothing: {full}")


def _missing(block: ImportBlock, report: BlockSignatureReport) -> str:
    """What the block waits for, in words."""
    what = f"waits for the group of epoch {block.epoch} to sign block {block.number}"
    if not report.needed:
        return f"{what}: this node knows nothing of it"
    wrong = "; one of them is wrong" if report.parts >= report.needed else ""
    return f"{what}: {report.parts} of {report.needed} parts{wrong}"


def _now_ms() -> int:
    return int(time.monotonic() * 1000)
