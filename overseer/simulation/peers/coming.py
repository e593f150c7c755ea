"""Who leaves a network and who comes, and when."""

import enum
from random import Random

import msgspec

__all__ = ["Change", "Coming", "churned"]

_HOUR_MS = 3_600_000


class Coming(enum.StrEnum):
    """What happens to a peer."""

    LEAVES = "leaves"
    RETURNS = "returns"
    # Nobody knew it before.
    ARRIVES = "arrives"


class Change(msgspec.Struct, frozen=True):
    """A peer, by its number (newcomers count on from the first ones), and what it does at this time."""

    at_ms: int
    what: Coming
    number: int


def churned(random: Random, *, first: int, peers: int, percent_hour: int, away_ms: int, until_ms: int) -> list[Change]:
    """Peers from number `first` on up to `peers` leave at random times. Every second one returns; for each of the others one arrives."""
    changes: list[Change] = []
    here, number = list(range(first, peers)), peers
    back: dict[int, int] = {}
    count = len(here) * percent_hour * until_ms // (100 * _HOUR_MS)
    for n, at_ms in enumerate(sorted(random.randrange(1, until_ms) for _ in range(count))):
        for other, back_ms in list(back.items()):
            if back_ms <= at_ms:
                del back[other]
                here.append(other)
        if not here:
            continue
        leaver = here.pop(random.randrange(len(here)))
        changes.append(Change(at_ms, Coming.LEAVES, leaver))
        if n % 2:
            back[leaver] = at_ms + away_ms
            changes.append(Change(at_ms + away_ms, Coming.RETURNS, leaver))
        else:
            here.append(number)
            changes.append(Change(at_ms, Coming.ARRIVES, number))
            number += 1
    return changes
