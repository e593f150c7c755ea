"""Who plays in the simulation of peer elections: an `elections` with peers at every node, some of them liars.

A composition of its own, as the benches are. Everything follows from the seed.
"""

from collections.abc import Mapping
from functools import cached_property, lru_cache, partial
from random import Random

import msgspec

from overseer.consensus.identity import Identity
from overseer.feeds.keyring import derive
from overseer.simulation.peer_nodes.holdings import LayeredTokens, universe_of
from overseer.simulation.peer_nodes.lies import EMPTY_HANDED, LIES, MANY_NEEDED, LyingPeers
from overseer.simulation.peers.universe import Holding
from overseer.simulation.scenario import Cast, Network
from overseer.subsystem import Subsystem
from subsystems.consensus_manager.crypto.secret import Secret
from subsystems.elections.ballots.kind import Ballots
from subsystems.elections.config import ElectionsConfig
from subsystems.elections.gateways.kind import Gateways
from subsystems.elections.peers.config import ElectionConfig, PeerMode, PeersConfig
from subsystems.elections.peers.kind import PeerElections
from subsystems.elections.peers.traffic import peer_id
from subsystems.elections.subsystem import Elections

__all__ = ["Play", "play_of"]

_SEED = "simulation of peers"
_LIARS_SHARE = 0.75
# In so many seeds one honest node is off, or only observes.
_STAGED_SHARE = 0.4
# As many nodes as in the smallest network in which a channel can be lost and a majority is left.
_MANY = 6


class Play(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """What a network plays. `liars`: their lies by node; `modes`, `density`: by node, in percent of the universe."""

    network: Network
    rules: PeersConfig
    modes: Mapping[str, PeerMode]
    density: Mapping[str, int]
    liars: Mapping[str, tuple[str, ...]]
    # Elections of other kinds run in the same process, though none is asked for.
    beside_others: bool

    @property
    def honest(self) -> list[str]:
        return [node for node in self.network.nodes if node not in self.liars]

    @cached_property
    def keys(self) -> Mapping[str, Identity]:
        seed = self.network.seed
        return {
            node: Identity(Secret(derive(_SEED, seed, node, "signing")), Secret(derive(_SEED, seed, node, "box")))
            for node in self.network.nodes
        }

    @cached_property
    def ids(self) -> Mapping[str, int]:
        return {node: peer_id(key.public) for node, key in self.keys.items()}

    @cached_property
    def shares(self) -> Mapping[str, tuple[Holding, ...]]:
        """What of the universe each node holds: all or nothing of one share."""
        universe = universe_of(self.network.seed)
        return {
            node: (Holding(universe, salt=self.ids[node], density_percent=percent),) if percent else ()
            for node, percent in self.density.items()
        }

    def is_empty_handed(self, node: str) -> bool:
        """Whether it holds nothing, and so can prove nothing."""
        return self.density[node] == 0

    def config(self, node: str) -> PeersConfig:
        return msgspec.structs.replace(self.rules, mode=self.modes[node])

    def casts(self) -> Mapping[str, Cast]:
        return {node: {"elections": partial(self._elections, node)} for node in self.network.nodes}

    def _elections(self, node: str) -> Subsystem:
        config = ElectionsConfig()
        others = (Ballots(config), Gateways(config.gateways)) if self.beside_others else ()
        return Elections(config, kinds=(*others, self._peers(node)))

    def _peers(self, node: str) -> PeerElections:
        tokens = partial(LayeredTokens, self.shares[node])
        rules, key = self.config(node), self.keys[node]
        if node not in self.liars:
            return PeerElections(rules, key, self.ids, tokens)
        honest = frozenset(self.honest)
        return LyingPeers(rules, key, self.ids, tokens, lies=self.liars[node], universe=universe_of(self.network.seed), honest=honest)


@lru_cache(maxsize=4)
def play_of(network: Network) -> Play:
    """What the network of a seed plays. Liars are so few that two honest peers are left for every node."""
    random = Random(f"{network.seed} peers")
    nodes = network.nodes
    most = max(0, (len(nodes) - 1) // 3)
    count = random.randint(1, most) if most and random.random() < _LIARS_SHARE else 0
    liars = sorted(random.sample(nodes, count))
    able = [lie for lie in sorted(LIES) if lie not in MANY_NEEDED or (len(nodes) >= _MANY and count == 1)]
    # In turns: some seeds in a row have them all.
    first = 5 * network.seed
    lies = {
        node: tuple(able[(first + 2 * n + more) % len(able)] for more in range(random.choice((1, 2, 2)))) for n, node in enumerate(liars)
    }
    modes = dict.fromkeys(nodes, random.choice((PeerMode.PRIMARY, PeerMode.PRIMARY, PeerMode.ALONGSIDE)))
    honest = [node for node in nodes if node not in liars]
    if random.random() < _STAGED_SHARE:
        modes[random.choice(honest)] = random.choice((PeerMode.OFF, PeerMode.OBSERVE))
    shares = random.choice(((100,), (99, 100), (97, 99), (94, 98)))
    density = {node: random.choice(shares) for node in nodes}
    density |= {node: 0 for node, told in lies.items() if EMPTY_HANDED & set(told)}
    return Play(network=network, rules=_rules(random), modes=modes, density=density, liars=lies, beside_others=random.random() < 0.2)


def _rules(random: Random) -> PeersConfig:
    """Bounds so small that they are met. A query is remembered for longer than an election lasts: so nobody honest answers it twice."""
    pending_ms = random.choice((20_000, 40_000))
    return PeersConfig(
        election=ElectionConfig(contradictions_max=random.choice((0, 0, 1)), max_channels=random.choice((4, 10))),
        initial_channels=random.choice((3, 4, 5)),
        split_patience_ms=random.choice((300, 1_000)),
        min_collection_ms=random.choice((500, 2_000)),
        timeout_ms=random.choice((4_000, 8_000)),
        interval_ms=random.choice((20_000, 30_000)),
        interval_min_ms=10_000,
        elections_max=random.choice((1, 2, 16)),
        finished_ttl_ms=random.choice((6_000, 60_000)),
        finished_max=random.choice((6, 4_096)),
        handled_ttl_ms=random.choice((20_000, 60_000)),
        handled_max=random.choice((200, 16_384)),
        list_max=random.choice((2, 3, 50)),
        identified_max=random.choice((12, 2_048)),
        introductions_max=random.choice((2, 256)),
        pending_ttl_ms=pending_ms,
        connected_ttl_ms=pending_ms + random.choice((50_000, 200_000)),
        keep_alive_ms=2 * pending_ms,
        evict_after_ms=random.choice((0, 60_000)),
        segments=random.choice((4, 16)),
        recent_hops=random.choice((0, 2, 12)),
        adaptive_threshold=random.random() < 0.2,
        adaptive_interval=False,
        adaptive_window=5,
    )
