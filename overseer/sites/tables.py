"""What a site keeps: the elections' rows, each election's found by its hash, and how far it is with what it reads."""

from typing import Any

import msgspec

from overseer.tables import TEXT, U8, Table
from subsystems.elections.chain import BEST, CHAIN, FOLLOWING, SESSION
from subsystems.elections.projection import COUNTS, PROJECTIONS
from subsystems.elections.rows import ELECTIONS, EVENTS, GOVERNANCE
from subsystems.elections.runtime.rows import COMMANDS, COPIES, PREPARED, TIMERS
from subsystems.elections.subsystem import Elections

__all__ = ["KNOWN", "PLACES", "SITE_SCHEMA", "Place", "election_tables", "log_place", "signal_place", "table_names"]

# Raise when the tables of a site change in a way that older code cannot read.
SITE_SCHEMA = 1


class Place(msgspec.Struct, frozen=True, array_like=True):
    """How far a stream was read. `stream`: its id."""

    stream: str
    sequence: int


# (0: the elections' log, 1: the node's stream)
PLACES = Table("places", key=(U8,), value=Place)
# (key) -> log sequence of its last entry seen: every election of the log, whether this site holds a copy or not.
KNOWN = Table("known", key=(TEXT,), value=int)

log_place = (0,)
signal_place = (1,)


def election_tables(elections: Elections) -> tuple[Table[Any], ...]:
    """Those that a snapshot consists of, beside the election's row in ELECTIONS; the first part of each key is the election's hash."""
    kinds = [table for kind in elections.kinds for table in kind.declaration.tables]
    return (EVENTS, PROJECTIONS, COUNTS, FOLLOWING, *kinds, COMMANDS, TIMERS)


def table_names(elections: Elections) -> list[str]:
    """All tables of a site's store."""
    own = (ELECTIONS, GOVERNANCE, CHAIN, BEST, SESSION, COPIES, PREPARED, PLACES, KNOWN)
    return [table.name for table in (*election_tables(elections), *own)]
