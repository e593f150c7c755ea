"""The composition root: the only place that knows which subsystems there are.

A subsystem's own code is loaded when it is built: the process of one does not pay for the others.
"""

from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from overseer.config import Config
from overseer.consensus.section import ConsensusSection
from overseer.graph import Finding, Graph
from overseer.node.folder import NodeFolder
from overseer.settings import Loaded, Sections, load_config
from overseer.sites.layout import ONE_SITE, Sites, sites_of
from overseer.subsystem import Subsystem
from overseer.tables import View
from subsystems.dispute_conclusion.declaration import Config as DisputeConclusionConfig
from subsystems.elections.config import ElectionsConfig
from subsystems.votes_db.declaration import VotesDbConfig

if TYPE_CHECKING:
    from subsystems.elections.kind import Kind
    from subsystems.elections.subsystem import Elections

__all__ = [
    "CATALOGUE",
    "SECTIONS",
    "BrokenGraph",
    "build_elections",
    "build_sites",
    "build_subsystem",
    "build_subsystems",
    "genesis_of_chain",
    "kept_settings",
]


# Where third parties name their projections of elections.
PROJECTIONS_GROUP = "overseer.projections"


class Entry(NamedTuple):
    """How a subsystem is made of the configuration. `section`: its own part of it, if any.

    `chore`: what is to be done now and then beside one that was built so, with its committed tables.
    """

    build: Callable[[Config, msgspec.Struct | None], Subsystem]
    section: type[msgspec.Struct] | None = None
    chore: Callable[[Subsystem], Callable[[View], object] | None] = lambda _: None


def _votes_db(_: Config, section: msgspec.Struct | None) -> Subsystem:
    from subsystems.votes_db.subsystem import VotesDb

    assert isinstance(section, VotesDbConfig)
    return VotesDb(section)


def _dispute_conclusion(_: Config, section: msgspec.Struct | None) -> Subsystem:
    from subsystems.dispute_conclusion.subsystem import DisputeConclusion

    assert isinstance(section, DisputeConclusionConfig)
    return DisputeConclusion(section)


def _chain_api(config: Config, _: msgspec.Struct | None) -> Subsystem:
    """The chain of the configuration; else the development chain of the feed's seed, with its authority."""
    from overseer.feeds.make import make_authority
    from subsystems.chain_api.config import ChainConfig
    from subsystems.chain_api.subsystem import ChainApi

    authority = config.governance.authority
    if authority is None and config.genesis is None:
        authority = make_authority(str(config.feed.seed)).public
    return ChainApi(ChainConfig(genesis=genesis_of_chain(config), governance_authority=authority))


def genesis_of_chain(config: Config) -> bytes:
    """The configured one; else that of the development chain of the feed's seed."""
    from overseer.feeds.author import genesis_of

    return config.genesis or genesis_of(str(config.feed.seed))


def _consensus_manager(config: Config, section: msgspec.Struct | None) -> Subsystem:
    """With the network's nodes as validators that take part; without any, nobody is elected, and it only follows the chain.

    Raises BadNetwork.
    """
    from overseer.consensus.roster import read_network
    from overseer.consensus.vault import DiskVault
    from subsystems.consensus_manager.config import ConsensusConfig, Enrolled
    from subsystems.consensus_manager.subsystem import ConsensusManager

    assert isinstance(section, ConsensusSection)
    nodes = read_network(config.network.nodes).values()
    enrolled = tuple(Enrolled(signing=node.signing_key, box=node.box_key, weight=node.weight, node=node.node) for node in nodes)
    vault = DiskVault(config.identity_dir, NodeFolder(config.data_dir).sessions)
    return ConsensusManager(ConsensusConfig(chain=genesis_of_chain(config), parameters=section.parameters, enrolled=enrolled), vault)


def _erasing(subsystem: Subsystem) -> Callable[[View], object] | None:
    """Secrets of sessions that are forgotten are erased from the disk."""
    from overseer.consensus.vault import DiskVault
    from subsystems.consensus_manager.subsystem import ConsensusManager

    if isinstance(subsystem, ConsensusManager) and isinstance(subsystem.vault, DiskVault):
        return subsystem.vault.erase_forgotten
    return None


def _elections(config: Config, section: msgspec.Struct | None) -> "Elections":
    """On the node itself, which is then a peer of the network's nodes. Raises BadNetwork."""
    from overseer.consensus.identity import IdentityOnDisk
    from overseer.consensus.roster import read_network
    from subsystems.elections.peers.kind import PeerElections
    from subsystems.elections.peers.traffic import peer_id

    assert isinstance(section, ElectionsConfig)
    nodes = {name: peer_id(node.signing_key) for name, node in read_network(config.network.nodes).items()}
    return _elections_with(section, PeerElections(section.peers, IdentityOnDisk(config.identity_dir), nodes))


def _elections_with(section: ElectionsConfig, *more: "Kind") -> "Elections":
    """With the projections of third parties: entry points of the group `overseer.projections`, each a class."""

    from subsystems.elections.ballots.kind import Ballots
    from subsystems.elections.gateways.kind import Gateways
    from subsystems.elections.subsystem import Elections

    found = sorted(entry_points(group=PROJECTIONS_GROUP), key=lambda point: point.name)
    kinds = (Ballots(section), Gateways(section.gateways), *more)
    return Elections(section, kinds=kinds, projections=[point.load()() for point in found])


CATALOGUE: dict[str, Entry] = {
    "chain_api": Entry(_chain_api),
    "votes_db": Entry(_votes_db, VotesDbConfig),
    "dispute_conclusion": Entry(_dispute_conclusion, DisputeConclusionConfig),
    "elections": Entry(_elections, ElectionsConfig),
    "consensus_manager": Entry(_consensus_manager, ConsensusSection, _erasing),
}

# The subsystems' own sections of the configuration, by name.
SECTIONS: Sections = {name: entry.section for name, entry in CATALOGUE.items() if entry.section is not None}


def kept_settings(loaded: Loaded) -> Loaded:
    """What the node was told when it last ran, which may be more than this command was; else what is in force here."""
    folder = NodeFolder(loaded.config.data_dir)
    if not folder.settings_file.exists():
        return loaded
    return load_config(folder.settings_file, environ={}, flags={"data_dir": folder.path}, sections=SECTIONS)


def build_subsystem(name: str, loaded: Loaded) -> Subsystem:
    """The subsystem of that name. Raises KeyError."""
    return CATALOGUE[name].build(loaded.config, loaded.sections.get(name))


def build_elections(loaded: Loaded) -> "Elections":
    """The rules of the elections, for one of their sites: several of them are no peer."""
    section = loaded.sections.get("elections")
    assert isinstance(section, ElectionsConfig)
    return _elections_with(section)


def build_sites(loaded: Loaded) -> Sites:
    """The sites of the elections, if this node has elections. Raises UnknownLayout."""
    section = loaded.sections.get("elections")
    return sites_of(section) if isinstance(section, ElectionsConfig) and "elections" in loaded.config.subsystems else ONE_SITE


class BrokenGraph(Exception):
    """The subsystems' declarations do not fit together: nothing may be started."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("; ".join(finding.text for finding in findings))
        self.findings = findings


def build_subsystems(loaded: Loaded) -> dict[str, Subsystem]:
    """All that the configuration enables, by name, in its order. Raises BrokenGraph when one of them is missed by another.

    Without the elections where they have several sites: their processes are not subsystems.
    """
    replicated = bool(build_sites(loaded).names)
    built = {name: build_subsystem(name, loaded) for name in loaded.config.subsystems if name != "elections" or not replicated}
    fatal = [finding for finding in Graph.of(s.declaration for s in built.values()).findings() if finding.fatal]
    if fatal:
        raise BrokenGraph(fatal)
    return built
