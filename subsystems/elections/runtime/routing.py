"""The mailroom's rule: where a command for an election goes next (point 3 of the runtime).

Nothing is recorded on the way. A site that is behind the topology a message has seen catches up before it decides; a message is never
sent to a site that it went through, and is forwarded three times at most.
"""

from collections.abc import Sequence

import msgspec

from messages.election_pairs import NotOwnedYetReason

__all__ = ["HOPS_MAX", "CatchUp", "Deliver", "Forward", "Refuse", "Route", "route"]

# A message that the sites of one topology version send around needs one hop; while a change spreads, two. More is a fault.
HOPS_MAX = 3


class Deliver(msgspec.Struct, frozen=True):
    """To the writer here, which is started if it is not running (B12)."""


class Forward(msgspec.Struct, frozen=True):
    """To the mailroom of `site`, with this site added to the path."""

    site: str
    path: tuple[str, ...]


class CatchUp(msgspec.Struct, frozen=True):
    """Read the recorded topology until it is at `version`, then ask again; `not_owned_yet` if that takes too long."""

    version: int


class Refuse(msgspec.Struct, frozen=True):
    """`not_owned_yet`, for this reason."""

    reason: NotOwnedYetReason


Route = Deliver | Forward | CatchUp | Refuse


def route(owner: str, version: int, *, site: str, seen: int, path: Sequence[str]) -> Route:
    """Where a command goes from `site`, by whose topology, of that version, `owner` is the writer.

    `seen`: the highest version of the topology on the way; `path`: where it came through.
    """
    if seen > version:
        return CatchUp(seen)
    if owner == site:
        return Deliver()
    if owner in path:
        return Refuse(NotOwnedYetReason.LOOP)
    if len(path) >= HOPS_MAX:
        return Refuse(NotOwnedYetReason.HOPS)
    return Forward(owner, (*path, site))
