"""Several nodes' `consensus_manager` on one network stream and one chain, pure: who takes what next is drawn from a seed.

The chain's author takes a group transaction from the stream into its next block. All messages pass the codec.
"""

from collections.abc import Callable, Iterator, Sequence
from random import Random

from dkg_kit import CHAIN, drawn, identity, wallet
from msgspec.structs import replace

from messages.chain_api import BlockImported, GroupJudged
from messages.codec import encode
from messages.consensus_manager import Attempts, AttemptsReport, Epoch, EpochReport, GroupTransaction, OfAttempt
from messages.message import Kind, Message
from messages.polkadot import Scheme, Validator
from messages.signals import BestChain, BlockFinalized, BlockRef, SessionChange
from overseer.testing.given import Given
from subsystems.consensus_manager.config import ConsensusConfig, Enrolled
from subsystems.consensus_manager.parameters import Parameters
from subsystems.consensus_manager.subsystem import ConsensusManager
from subsystems.consensus_manager.wallet import Wallet

__all__ = ["ManagerNode", "World", "block_hash"]


def block_hash(number: int, fork: int = 0) -> bytes:
    return CHAIN if number == 0 else drawn("world block", number, fork)


class KeptSecrets:
    """The vault of a node under test."""

    def __init__(self, number: int) -> None:
        self.number = number
        # Of which sessions there is no key any more.
        self.lost: Callable[[bytes], bool] = lambda _: False
        self.asked: set[bytes] = set()

    @property
    def signing(self) -> bytes:
        return identity(self.number).signing

    def wallet(self, session: bytes) -> Wallet:
        self.asked.add(session)
        return replace(wallet(self.number), sealing=None) if self.lost(session) else wallet(self.number)

    def knows(self, session: bytes) -> bool:
        return session in self.asked


class ManagerNode:
    def __init__(self, number: int, config: ConsensusConfig, validators: Sequence[Validator]) -> None:
        self.number = number
        self.given = Given(ConsensusManager(config, KeptSecrets(number)))
        self.position = 0
        # What the node's own stream has for it, in order.
        self.line: list[Message] = [SessionChange(index=0, validators=list(validators))]
        self.judged: list[GroupJudged] = []
        self.refused: list[Message] = []
        self.away = False
        # No block comes to it.
        self.blind = False
        # Nothing of the network comes to it.
        self.deaf = False

    def epoch(self) -> EpochReport:
        report = self.given.ask(Epoch())
        assert isinstance(report, EpochReport)
        return report

    def attempts(self) -> AttemptsReport:
        report = self.given.ask(Attempts())
        assert isinstance(report, AttemptsReport)
        return report


class World:
    """`final_behind`: how far finality is behind the head, if there is any; `kept_blocks`: as in the configuration."""

    def __init__(
        self,
        count: int = 6,
        *,
        seed: int = 0,
        parameters: Parameters | None = None,
        final_behind: int | None = None,
        kept_blocks: int = 256,
    ) -> None:
        self.final_behind = final_behind
        self.random = Random(seed)
        self.parameters = parameters or Parameters(interval=10, min_confirmations=3)
        config = ConsensusConfig(
            chain=CHAIN,
            parameters=self.parameters,
            enrolled=tuple(Enrolled(signing=identity(n).signing, box=identity(n).box, node=f"n{n}") for n in range(count)),
            kept_blocks=kept_blocks,
        )
        validators = [Validator(identity(n).signing, Scheme.ED25519) for n in range(count)]
        self.nodes = [ManagerNode(n, config, validators) for n in range(count)]
        self.log: list[Message] = []
        # The node that said each.
        self.said_by: list[str] = []
        self.blocks: list[BlockImported] = []
        self.forks = 0
        # Whether the author takes group transactions.
        self.including = True
        # What its blocks say of their epoch, for who knows nothing else of it.
        self.epoch_said = 0

    @property
    def live(self) -> list[ManagerNode]:
        return [node for node in self.nodes if not node.away]

    def mine(self, count: int = 1, *, quiet: bool = True) -> "World":
        """So many blocks, each after all is quiet (or with whatever is on its way)."""
        for _ in range(count):
            if quiet:
                self.settle()
            block = self._author()
            self.blocks.append(block)
            for node in self.nodes:
                node.line += [block, BestChain(reverted=[], applied=[BlockRef(block.hash, block.number)])]
            if self.final_behind is not None and block.number > self.final_behind:
                self.finalize(block.number - self.final_behind)
        return self.settle() if quiet else self

    def catch_up(self, node: ManagerNode) -> None:
        """Its blocks say that they were long ago for the others."""
        last = len(self.blocks)
        node.line = [replace(m, sync=True, target_height=last) if isinstance(m, BlockImported) else m for m in node.line]

    def finalize(self, number: int) -> None:
        for node in self.nodes:
            node.line.append(BlockFinalized(hash=self.blocks[number - 1].hash, number=number))

    def reorganise(self, count: int) -> "World":
        """Another fork takes the place of the last blocks, one longer."""
        reverted = [BlockRef(block.hash, block.number) for block in reversed(self.blocks[-count:])]
        del self.blocks[-count:]
        self.forks += 1
        applied: list[BlockImported] = []
        for _ in range(count + 1):
            self.blocks.append(self._author())
            applied.append(self.blocks[-1])
        for node in self.nodes:
            node.line += [*applied, BestChain(reverted=reverted, applied=[BlockRef(block.hash, block.number) for block in applied])]
        return self

    def _author(self) -> BlockImported:
        """The next block, with the group transactions that are not on its chain yet."""
        number = len(self.blocks) + 1
        taken = {encode(m) for m in self.log if isinstance(m, GroupTransaction)} if self.including else set()
        known = {body for block in self.blocks for body in block.group_transactions}
        return BlockImported(
            hash=block_hash(number, self.forks),
            parent=self.blocks[-1].hash if self.blocks else CHAIN,
            number=number,
            session=0,
            backed=[],
            included=[],
            blacklisted=False,
            round=number,
            group_transactions=sorted(taken - known)[-8:],
            epoch=self.epoch_said,
        )

    def some(self, steps: int) -> "World":
        """A few of the things that could happen now."""
        for _ in range(steps):
            todo = [*self._steps()]
            if not todo:
                break
            self.random.choice(todo)()
        return self

    def settle(self) -> "World":
        while steps := [*self._steps()]:
            self.random.choice(steps)()
        return self

    def _steps(self) -> Iterator[Callable[[], None]]:
        for node in self.live:
            if node.line and not node.blind:
                yield lambda node=node: self._hand(node, node.line.pop(0))
            if node.position < len(self.log) and not node.deaf:
                yield lambda node=node: self._read(node)

    def _read(self, node: ManagerNode) -> None:
        message = self.log[node.position]
        node.position += 1
        if isinstance(message, OfAttempt):
            # What the context tells: the place in the network's stream.
            node.given.position, node.given.node = node.position, self.said_by[node.position - 1]
            self._hand(node, message)

    def _hand(self, node: ManagerNode, message: Message) -> None:
        sender = "consensus_manager" if message.spec.kind is Kind.NETWORK else "chain_api"
        self.follow(node, node.given.when(message, sender=sender))

    def follow(self, node: ManagerNode, then) -> None:
        """What a node sends goes where it belongs."""
        if then.rejection is not None:
            node.refused.append(then.rejection)
        for message in then.sent:
            if message.spec.kind is Kind.NETWORK:
                self.say(message, f"n{node.number}")
            else:
                assert isinstance(message, GroupJudged)
                node.judged.append(message)

    def say(self, message: Message, node: str) -> None:
        """Into the network's stream."""
        self.log.append(message)
        self.said_by.append(node)

    def silence(self, ms: int | None = None) -> "World":
        """No block for a while, and all timers that are due fire."""
        for node in self.live:
            node.given.now_ms += self.parameters.stall_ms if ms is None else ms
            then = node.given.fire_one()
            if then is not None:
                self.follow(node, then)
        return self.settle()
