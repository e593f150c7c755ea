"""What is left to chance, by recorded entropy: whom to ask first, and which token to challenge with."""

import msgspec

from messages.peers import PeerPurpose
from subsystems.elections.peers.config import PeersConfig
from subsystems.elections.peers.proof import sound
from subsystems.elections.peers.ring import RING, Draw, segment_start
from subsystems.elections.peers.roster import Peer, Roster
from subsystems.elections.peers.tokens import Tokens, near

__all__ = ["Challenge", "first_hops", "next_challenge"]

# An under-covered segment is chosen so much more often than another one.
_UNDER_COVERED_WEIGHT = 3


class Challenge(msgspec.Struct, frozen=True, kw_only=True):
    """A token to challenge with. `hop`: a peer that is to be among those asked; 0 for none."""

    token: int
    purpose: PeerPurpose
    hop: int = 0


def first_hops(candidates: list[Peer], count: int, recent: list[int], draw: Draw) -> list[int]:
    """Up to `count` distinct peers spread over the ring: one out of each of as many arcs of equal population, by reputation.

    `recent`: asked of late, the latest last; they are asked again only where the others do not suffice, the oldest first.
    """
    age = {peer: n for n, peer in enumerate(recent)}
    fresh = [peer for peer in candidates if peer.id not in age]
    again = sorted((peer for peer in candidates if peer.id in age), key=lambda peer: age[peer.id])
    pool = fresh + again[: max(0, count - len(fresh))]
    start = draw.u64()
    pool.sort(key=lambda peer: ((peer.id - start) % RING, peer.id))
    count = min(count, len(pool))
    chosen: list[int] = []
    for arc in range(count):
        arcs = pool[arc * len(pool) // count : (arc + 1) * len(pool) // count]
        chosen.append(draw.weighted(arcs, [peer.reputation + 1 for peer in arcs]).id)
    return chosen


def next_challenge(tokens: Tokens, roster: Roster, config: PeersConfig, draw: Draw, *, verify: bool) -> Challenge | None:
    """The next election's token, out of those that one could prove oneself; None where there is none.

    To verify: near the listed peer that was verified longest ago, which is asked too. To discover: somewhere in a segment; one that is
    empty while a peer in it is known that may take part comes first, then under-covered ones with three times the chance of others.
    """
    listed = roster.listed
    if verify and listed:
        oldest = min(listed, key=lambda peer: (peer.verified_ms, peer.id))
        token = _token_near(tokens, roster.self_id, oldest.id, config, draw)
        return None if token is None else Challenge(token=token, purpose=PeerPurpose.VERIFY, hop=oldest.id)
    return _discovery(tokens, roster, config, draw)


def _discovery(tokens: Tokens, roster: Roster, config: PeersConfig, draw: Draw) -> Challenge | None:
    counts = roster.coverage()
    unlisted: dict[int, list[Peer]] = {}
    for peer in roster.peers:
        if not peer.listed and peer.silent < config.silent_max and peer.invited_in_vain < config.invited_in_vain_max:
            unlisted.setdefault(roster.segment(peer.id), []).append(peer)
    fillable = [segment for segment in sorted(unlisted) if counts[segment] == 0]
    if fillable:
        segment = draw.one_of(fillable)
        hop = draw.weighted(unlisted[segment], [peer.reputation + 1 for peer in unlisted[segment]]).id
        # Near the known peer: of those who agree the nearest one is elected.
        token = _token_near(tokens, roster.self_id, hop, config, draw)
    else:
        weights = [_UNDER_COVERED_WEIGHT if count * len(counts) < sum(counts) else 1 for count in counts]
        segment, hop = draw.weighted(range(len(counts)), weights), 0
        first, beyond = segment_start(segment, len(counts)), segment_start(segment + 1, len(counts))
        token = _token_near(tokens, roster.self_id, first + draw.below(beyond - first), config, draw)
    return None if token is None else Challenge(token=token, purpose=PeerPurpose.DISCOVER, hop=hop)


def _token_near(tokens: Tokens, self_id: int, place: int, config: PeersConfig, draw: Draw) -> int | None:
    """A token near `place`, or, where the own store does not reach so far, near oneself.

    Only one that one could prove oneself: at the edge of what is held, good proofs of others would look bad.
    """
    for centre in (place, self_id):
        found = near(tokens, centre, config.token_choice)
        while found:
            token = draw.one_of(found)
            if sound(tokens, self_id, token) is not None:
                return token
            found.remove(token)
    return None
