"""What `consensus_manager` is told of its chain, its validators and itself."""

from typing import Protocol

from msgspec import Struct, field

from subsystems.consensus_manager.parameters import Parameters
from subsystems.consensus_manager.wallet import Wallet

__all__ = ["ConsensusConfig", "Enrolled", "Vault"]


class Enrolled(Struct, frozen=True, kw_only=True):
    """A validator that takes part in elections: its session key (Ed25519), the key that boxes are sealed to, its weight."""

    signing: bytes
    box: bytes
    weight: int = 1


class ConsensusConfig(Struct, frozen=True, kw_only=True):
    """`enrolled` is the same at all nodes of the chain; validators of a session that are not in it are never drawn."""

    # The genesis hash.
    chain: bytes
    parameters: Parameters = field(default_factory=Parameters)
    enrolled: tuple[Enrolled, ...] = ()
    # Messages of attempts that are not known yet: a whole DKG of 43 members is about 400.
    held_max: int = 4_096


class Vault(Protocol):
    """The node's secrets, kept outside of journal and store."""

    def wallet(self, session: bytes) -> Wallet:
        """The wallet for an attempt; its sealing key is made when first asked for, and is gone once it was erased."""
        ...
