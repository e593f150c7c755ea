"""One node's `consensus_manager` alone, its tables in memory: what it makes of message after message, and the processor time that it takes.

A message is handled as the runner does it, without journal, store and bus: decoded, decided, its events encoded and applied, what follows
encoded to be sent.
"""

import time
from collections.abc import Sequence

from messages.codec import decode, encode
from messages.consensus_blocks import BlockSignature, BlockSignatureReport, NextBlock, NextBlockReport
from messages.consensus_manager import Member
from messages.message import Kind, Message, Rejection, Spec
from messages.polkadot import Scheme, Validator
from overseer.feeds.keyring import derive
from overseer.memory.rows import MemoryRows
from overseer.subsystem import Context, Decision
from overseer.tables import Overlay, Tables, View
from overseer.verification import verify_check
from subsystems.consensus_manager.config import ConsensusConfig, Enrolled
from subsystems.consensus_manager.crypto.secret import Secret
from subsystems.consensus_manager.parameters import Parameters
from subsystems.consensus_manager.subsystem import ConsensusManager
from subsystems.consensus_manager.wallet import Wallet

__all__ = ["CHAIN", "ConsensusNode", "members_of", "wallet_of"]

CHAIN = bytes(32)


def wallet_of(number: int) -> Wallet:
    signing, box, sealing = (Secret(derive(kind, number)) for kind in ("signing", "box", "sealing"))
    return Wallet(signing=signing, box=box, sealing=sealing)


def members_of(wallets: Sequence[Wallet]) -> list[Member]:
    return [Member(number, wallet.identity) for number, wallet in enumerate(wallets)]


class _OpenVault:
    """Secrets in memory."""

    def __init__(self, wallet: Wallet) -> None:
        self.signing = wallet.identity.signing
        self._wallet = wallet

    def wallet(self, session: bytes) -> Wallet:
        return self._wallet

    def knows(self, session: bytes) -> bool:
        return False


class ConsensusNode:
    """The node of validator `place`; all validators are enrolled, as many as a group has members."""

    def __init__(self, place: int, wallets: Sequence[Wallet], members: Sequence[Member], *, interval: int) -> None:
        identities = [member.identity for member in members]
        config = ConsensusConfig(
            chain=CHAIN,
            parameters=Parameters(interval=interval, group_size=len(members)),
            enrolled=tuple(Enrolled(signing=identity.signing, box=identity.box) for identity in identities),
        )
        self.validators = [Validator(identity.signing, Scheme.ED25519) for identity in identities]
        self.subsystem = ConsensusManager(config, _OpenVault(wallets[place]))
        self._rows = MemoryRows([table.name for table in self.subsystem.declaration.tables])
        self.position = 0
        # Seconds of processor time so far.
        self.spent_s = 0.0

    @property
    def view(self) -> View:
        return View(self._rows)

    def evolve(self, event: Message) -> None:
        """As if it had recorded that."""
        overlay = Overlay(self._rows)
        self.subsystem.evolve(Tables(overlay), event)
        self._rows.apply(overlay)

    def next_block(self) -> NextBlockReport:
        """What the child of the best block carries."""
        report = self.subsystem.answer(self.view, NextBlock(), self._context(""))
        assert isinstance(report, NextBlockReport)
        return report

    def has_signed(self, block: bytes) -> bool:
        """Whether it has the group's signature of a block."""
        report = self.subsystem.answer(self.view, BlockSignature(block=block), self._context(""))
        return isinstance(report, BlockSignatureReport) and report.signature is not None

    def hear(self, spec: Spec, body: bytes, node: str = "") -> list[tuple[Spec, bytes]]:
        """What it tells the network about a message, from that node. Raises RuntimeError: it refused."""
        self.position += 1
        began = time.process_time()
        decision = self.subsystem.decide(self.view, decode(spec, body), self._context(spec.owner, node))
        said = [] if isinstance(decision, Rejection) else self._applied(decision)
        self.spent_s += time.process_time() - began
        if isinstance(decision, Rejection):
            raise RuntimeError(f"{spec.key}: {decision}")
        return said

    def _context(self, sender: str, node: str = "") -> Context:
        return Context(now_ms=self.position, sender=sender, node=node, position=self.position, verify=verify_check)

    def _applied(self, decision: Decision) -> list[tuple[Spec, bytes]]:
        overlay = Overlay(self._rows)
        told: list[tuple[Spec, bytes]] = []
        for event in decision.events:
            encode(event)
            self.subsystem.evolve(Tables(overlay), event)
            told += [(message.spec, encode(message)) for message in self.subsystem.react(event) if message.spec.kind is Kind.NETWORK]
        self._rows.apply(overlay)
        return told
