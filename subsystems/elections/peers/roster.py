"""The peers that a node knows, and the list of those it elected: states, expiry, eviction, reputation, coverage.

A peer is identified (its id is known), pending (elected and invited) or connected (it accepted, with a proof). The list is what is pending
or connected; it never exceeds its bound. Everything is deterministic, in the order of ids where nothing else decides.
"""

import enum

import msgspec

from subsystems.elections.peers.config import PeersConfig
from subsystems.elections.peers.ring import segment_of

__all__ = ["TRANSITIONS", "Peer", "PeerState", "Roster", "Step"]


class PeerState(enum.StrEnum):
    """How near a peer is."""

    IDENTIFIED = "identified"
    PENDING = "pending"
    CONNECTED = "connected"


class Step(enum.StrEnum):
    """What leads from state to state."""

    ELECTED = "elected"
    PROVEN = "proven"
    EXPIRED = "expired"
    EVICTED = "evicted"
    # The block that the election was about is blacklisted.
    REVOKED = "revoked"


# The state machine of a peer; what is not here is no step. PROVEN: a proof for a token of one's own choice, in an introduction.
TRANSITIONS: dict[tuple[PeerState, Step], PeerState] = {
    (PeerState.IDENTIFIED, Step.ELECTED): PeerState.PENDING,
    (PeerState.IDENTIFIED, Step.PROVEN): PeerState.CONNECTED,
    (PeerState.PENDING, Step.ELECTED): PeerState.PENDING,
    (PeerState.PENDING, Step.PROVEN): PeerState.CONNECTED,
    (PeerState.PENDING, Step.EXPIRED): PeerState.IDENTIFIED,
    (PeerState.PENDING, Step.EVICTED): PeerState.IDENTIFIED,
    (PeerState.PENDING, Step.REVOKED): PeerState.IDENTIFIED,
    (PeerState.CONNECTED, Step.ELECTED): PeerState.CONNECTED,
    (PeerState.CONNECTED, Step.PROVEN): PeerState.CONNECTED,
    (PeerState.CONNECTED, Step.EXPIRED): PeerState.IDENTIFIED,
    (PeerState.CONNECTED, Step.EVICTED): PeerState.IDENTIFIED,
    (PeerState.CONNECTED, Step.REVOKED): PeerState.IDENTIFIED,
}


class Peer(msgspec.Struct, kw_only=True, array_like=True):
    """What is known of one peer. Its reputation outlives its place in the list. `*_ms` 0: never."""

    id: int
    state: PeerState = PeerState.IDENTIFIED
    seen_ms: int = 0
    elected_ms: int = 0
    last_election_ms: int = 0
    # The last proof that was verified, in an election that it won or in an introduction.
    verified_ms: int = 0
    invited_ms: int = 0
    # The last invitation; `invited_ms` is when it became pending.
    asked_again_ms: int = 0
    wins: int = 0
    # Of the last election that it won.
    challenge_token: int = 0
    challenge_block: int = 0
    # Reputation: how often it was asked, answered, and agreed with the majority, and how often its own answers were bad.
    asked: int = 0
    answered: int = 0
    agreed: int = 0
    offences: int = 0
    # Elections in a row in which it was asked and nothing came of it, though others answered. Over as soon as it answers, or asks.
    silent: int = 0
    # How often in a row its invitation came to nothing: it answers, and keeps no list (it is off, or observes).
    invited_in_vain: int = 0

    @property
    def listed(self) -> bool:
        return self.state is not PeerState.IDENTIFIED

    @property
    def reputation(self) -> int:
        """0 to 1000: participation, agreement and wins; 500 for a stranger. Each offence halves it, each silence quarters it."""
        good = self.answered + self.agreed + self.wins
        return (good + 2) * 1000 // (2 * max(self.asked, self.answered) + self.wins + 4) >> min(self.offences + 2 * self.silent, 10)


class Roster:
    """Peers by id, over a list that is part of a node's state."""

    def __init__(self, peers: list[Peer], self_id: int, config: PeersConfig) -> None:
        self._peers = {peer.id: peer for peer in peers}
        # The ids of the list: it is looked at far more often than it changes.
        self._listed = {peer.id for peer in peers if peer.listed}
        self.self_id = self_id
        self._config = config
        # Who may be another than before since this was last cleared.
        self.touched: set[int] = set()

    @property
    def peers(self) -> list[Peer]:
        """All that are known, by id."""
        return [self._peers[each] for each in sorted(self._peers)]

    @property
    def listed(self) -> list[Peer]:
        """The peer list, by id."""
        return [self._peers[each] for each in sorted(self._listed)]

    @property
    def connected(self) -> list[Peer]:
        return [peer for peer in self.listed if peer.state is PeerState.CONNECTED]

    @property
    def ids(self) -> list[int]:
        return list(self._peers)

    def find(self, peer: int) -> Peer | None:
        """To be looked at."""
        return self._peers.get(peer)

    def get(self, peer: int) -> Peer | None:
        """To be changed, too."""
        self.touched.add(peer)
        return self._peers.get(peer)

    def identify(self, peer: int, now_ms: int) -> Peer | None:
        """Note that a peer exists; None for oneself and 0.

        Where the address book is full, one that never answered makes room, else one that did: the one not seen for longest, by id among
        equals. So strangers, who cost nothing, do not push out who proved something.
        """
        if peer in (self.self_id, 0):
            return None
        found = self._peers.get(peer)
        if found is None:
            if len(self._peers) - len(self._listed) >= self._config.identified_max:
                unlisted = (p for p in self._peers.values() if not p.listed)
                forgotten = min(unlisted, key=lambda p: (p.answered > 0, p.seen_ms, p.id)).id
                self.touched.add(forgotten)
                del self._peers[forgotten]
            found = self._peers[peer] = Peer(id=peer)
        self.touched.add(peer)
        found.seen_ms = now_ms
        return found

    def step(self, peer: Peer, step: Step) -> bool:
        """Take a step; False where there is none from here."""
        state = TRANSITIONS.get((peer.state, step))
        if state is not None:
            self.touched.add(peer.id)
            peer.state = state
            (self._listed.add if peer.listed else self._listed.discard)(peer.id)
        return state is not None

    # ------------------------------------------------------------------------------------------------ coverage

    def coverage(self) -> list[int]:
        """Listed peers in each segment of the ring."""
        counts = [0] * self._config.segments
        for each in self._listed:
            counts[self.segment(each)] += 1
        return counts

    def segment(self, place: int) -> int:
        return segment_of(place, self._config.segments)

    # ------------------------------------------------------------------------------------------------ eviction

    def room_for(self, newcomer: int, now_ms: int) -> tuple[bool, Peer | None]:
        """Whether a winner gets a place, and who must leave for it.

        Out goes who is longest unverified (counted in whole intervals), then has the fewest wins, then covers least, then by id. Who was
        verified of late stays, unless the newcomer fills an empty segment: then one of the fullest leaves.
        """
        listed = self.listed
        if len(listed) < self._config.list_max:
            return True, None
        counts = self.coverage()
        out = min(listed, key=lambda p: (p.verified_ms // self._config.interval_ms, p.wins, -counts[self.segment(p.id)], p.id))
        stale = now_ms - out.verified_ms >= self._config.evict_after_ms
        if stale:
            return True, out
        crowded = min(listed, key=lambda p: (-counts[self.segment(p.id)], p.verified_ms // self._config.interval_ms, p.wins, p.id))
        fills = counts[self.segment(newcomer)] == 0 and counts[self.segment(crowded.id)] >= 2
        return (True, crowded) if fills else (False, None)

    def expired(self, now_ms: int) -> list[Peer]:
        """Listed peers whose time is over."""
        return [peer for peer in self.listed if now_ms >= self.expires_ms(peer)]

    def expires_ms(self, peer: Peer) -> int:
        """When a listed peer loses its place if nothing is heard of it."""
        if peer.state is PeerState.PENDING:
            return peer.invited_ms + self._config.pending_ttl_ms
        return peer.verified_ms + self._config.connected_ttl_ms
