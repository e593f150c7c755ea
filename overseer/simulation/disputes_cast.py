"""Who plays in the simulation of disputes: the three subsystems, with bounds so small that every step of theirs is cut short; and, where
queues of gateways follow their chain, the elections.

A composition of its own, as the benches are.
"""

from messages.polkadot import Scheme
from overseer.feeds.keyring import Key, derive
from overseer.simulation.scenario import Cast
from overseer.subsystem import Subsystem
from subsystems.chain_api.config import ChainConfig
from subsystems.chain_api.subsystem import ChainApi
from subsystems.dispute_conclusion.declaration import Config as DisputeConclusionConfig
from subsystems.dispute_conclusion.subsystem import DisputeConclusion
from subsystems.elections.config import ElectionsConfig
from subsystems.elections.gateways.config import GatewaysConfig
from subsystems.elections.subsystem import Elections
from subsystems.votes_db.declaration import VotesDbConfig
from subsystems.votes_db.subsystem import VotesDb

__all__ = ["AUTHORITY", "CAST", "GATEWAYS_CAST", "GENESIS", "HELD_MAX", "INCLUSION_SESSIONS", "ORPHANS_MAX", "SEED", "SPAM_SLOTS", "WINDOW"]

SEED = "simulation"
GENESIS = derive(SEED, "genesis")
AUTHORITY = Key(Scheme.ED25519, derive(SEED, "governance authority"))

# Sessions that votes are kept for, spam slots of a validator, disputes of other nodes held, blocks that wait for a parent.
WINDOW = 3
SPAM_SLOTS = 2
HELD_MAX = 3
ORPHANS_MAX = 16
# Sessions that inclusions are remembered for: sessions pass within minutes here, and a votes database may be late by some.
INCLUSION_SESSIONS = WINDOW + 6


def _chain_api() -> Subsystem:
    return ChainApi(
        ChainConfig(
            genesis=GENESIS,
            governance_authority=AUTHORITY.public,
            orphans_max=ORPHANS_MAX,
            mark_step=3,
            adopt_step=2,
            leaves_step=2,
            search_step=2,
            best_page=3,
            descendants_page=2,
        )
    )


def _votes_db() -> Subsystem:
    return VotesDb(VotesDbConfig(window=WINDOW, spam_slots=SPAM_SLOTS, held_max=HELD_MAX, prune_rows_per_step=12, page_rows_max=3))


def _dispute_conclusion() -> Subsystem:
    return DisputeConclusion(DisputeConclusionConfig(blocks_per_round_max=2, inclusion_sessions=INCLUSION_SESSIONS))


def _elections() -> Subsystem:
    return Elections(ElectionsConfig(chain_steps_max=2, gateways=GatewaysConfig(queues_max=2, requests_per_step=2, standings_per_step=4)))


CAST: Cast = {
    "chain_api": _chain_api,
    "votes_db": _votes_db,
    "dispute_conclusion": _dispute_conclusion,
}
# With the elections, on one site of each node.
GATEWAYS_CAST: Cast = {**CAST, "elections": _elections}
