"""Who plays in the simulation of consensus groups: a chain and a `consensus_manager` at every node, some of them liars.

A composition of its own, as the benches are. Everything of a node is drawn from its name, everything of a network from its seed.
"""

from collections.abc import Mapping
from functools import cache, partial
from random import Random

import msgspec

from overseer.consensus.identity import Identity
from overseer.consensus.roster import Described
from overseer.feeds.keyring import derive
from overseer.simulation.consensus.lies import LIES, LyingManager
from overseer.simulation.scenario import Cast, Network
from overseer.subsystem import Subsystem
from subsystems.chain_api.config import ChainConfig
from subsystems.chain_api.subsystem import ChainApi
from subsystems.consensus_manager.config import ConsensusConfig, Enrolled
from subsystems.consensus_manager.crypto.secret import Secret
from subsystems.consensus_manager.parameters import Parameters
from subsystems.consensus_manager.subsystem import ConsensusManager
from subsystems.consensus_manager.terms import faulty_most
from subsystems.consensus_manager.wallet import Wallet

__all__ = ["GENESIS", "Play", "SimulatedVault", "described", "identity_of", "play_of"]

_SEED = "simulation of consensus groups"
GENESIS = derive(_SEED, "genesis")
_LIARS_SHARE = 0.4
_NODES_OF_LARGE_GROUPS = 7
# Of some thirty blocks that become final.
_KEPT_FEW, _KEPT_ALL = 2, 256
_FORGET_STEP = 4


class Play(msgspec.Struct, frozen=True, kw_only=True):
    """What a network plays. `liars`: their lies by node. `forks`: the chain forks, and no group signs it.

    `kept_blocks`: how far behind a final block the chain is kept.
    """

    network: Network
    parameters: Parameters
    liars: Mapping[str, tuple[str, ...]]
    forks: bool
    kept_blocks: int

    @property
    def honest(self) -> list[str]:
        return [node for node in self.network.nodes if node not in self.liars]

    def casts(self) -> Mapping[str, Cast]:
        return {node: self._cast(node) for node in self.network.nodes}

    def _cast(self, node: str) -> Cast:
        return {"chain_api": _chain_api, "consensus_manager": partial(self._manager, SimulatedVault(node), node)}

    def _manager(self, vault: "SimulatedVault", node: str) -> Subsystem:
        config = ConsensusConfig(
            chain=GENESIS,
            parameters=self.parameters,
            enrolled=tuple(
                Enrolled(signing=each.signing_key, box=each.box_key, node=each.node) for each in map(described, self.network.nodes)
            ),
            kept_blocks=self.kept_blocks,
            forget_step=_FORGET_STEP,
        )
        lies = self.liars.get(node)
        return ConsensusManager(config, vault) if lies is None else LyingManager(config, vault, lies)


def play_of(network: Network) -> Play:
    """What the network of a seed plays. Liars are so few that a group without them signs."""
    random = Random(f"{network.seed} consensus")
    size = 7 if len(network.nodes) >= _NODES_OF_LARGE_GROUPS and random.random() < 0.3 else 4
    faulty = faulty_most(size)
    liars = random.sample(network.nodes, random.randint(1, faulty)) if random.random() < _LIARS_SHARE else []
    return Play(
        network=network,
        parameters=Parameters(
            interval=random.choice((6, 8)),
            election_timeout=5,
            attempts_alive=random.choice((1, 2, 3, 3)),
            group_size=size,
            min_confirmations=size - faulty,
            stall_ms=random.choice((4_000, 8_000, 15_000)),
        ),
        liars={node: tuple(random.sample(sorted(LIES), random.choice((1, 1, 2)))) for node in sorted(liars)},
        forks=random.random() < 0.4,
        kept_blocks=Random(f"{network.seed} kept").choice((_KEPT_FEW, _KEPT_ALL)),
    )


def _chain_api() -> Subsystem:
    return ChainApi(ChainConfig(genesis=GENESIS, orphans_max=16, adopt_step=2, leaves_step=2, search_step=2, best_page=3))


@cache
def identity_of(node: str) -> Identity:
    return Identity(Secret(derive(_SEED, node, "signing")), Secret(derive(_SEED, node, "box")))


@cache
def described(node: str) -> Described:
    identity = identity_of(node)
    return Described(node=node, signing=identity.public.hex(), box=identity.box_public.hex())


class SimulatedVault:
    """A node's secrets (`subsystems.consensus_manager.config.Vault`): whatever becomes of its stores, they are there."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._identity = identity_of(node)
        self._asked: set[bytes] = set()

    @property
    def signing(self) -> bytes:
        return self._identity.public

    def wallet(self, session: bytes) -> Wallet:
        self._asked.add(session)
        sealing = Secret(derive(_SEED, self._node, "sealing", session))
        return Wallet(signing=self._identity.signing, box=self._identity.box, sealing=sealing)

    def knows(self, session: bytes) -> bool:
        return session in self._asked
