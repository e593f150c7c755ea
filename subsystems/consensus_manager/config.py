"""What `consensus_manager` is told of its chain, its validators and itself."""

from typing import Protocol

from msgspec import Struct, field

from subsystems.consensus_manager.parameters import Parameters
from subsystems.consensus_manager.wallet import Wallet

__all__ = ["ConsensusConfig", "Enrolled", "Vault"]


class Enrolled(Struct, frozen=True, kw_only=True):
    """A validator that takes part in elections: its session key (Ed25519), the key that boxes are sealed to, its weight, its node."""

    signing: bytes
    box: bytes
    weight: int = 1
    node: str = ""


class ConsensusConfig(Struct, frozen=True, kw_only=True):
    """`enrolled` is the same at all nodes of the chain; validators of a session that are not in it are never drawn."""

    # The genesis hash.
    chain: bytes
    parameters: Parameters = field(default_factory=Parameters)
    enrolled: tuple[Enrolled, ...] = ()
    # Messages of attempts that are not known yet, of each node: in one attempt a member has about as many to say as there are members.
    held_per_node_max: int = 256
    # How many blocks they are kept for. A node that is further behind takes part in nothing that was said then.
    held_blocks: int = 1_000
    # How far behind a final block the chain is kept: so far back can a governance decision move finality, and all is decided as before.
    kept_blocks: int = 256
    # Blocks behind that are forgotten once there are so many: fewer are not worth looking for.
    forget_step: int = 32


class Vault(Protocol):
    """The node's secrets, kept outside of journal and store."""

    @property
    def signing(self) -> bytes:
        """The public key that this node signs with."""
        ...

    def wallet(self, session: bytes) -> Wallet:
        """The wallet for an attempt; its sealing key is made when first asked for, and is gone once it was erased."""
        ...

    def knows(self, session: bytes) -> bool:
        """Whether the wallet for an attempt was ever asked for: what was said in it, and signed for its group, is in the store, or lost."""
        ...
