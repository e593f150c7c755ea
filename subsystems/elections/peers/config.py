"""What an operator can choose of peer elections, each with its reason. Times in ms."""

import enum
from typing import Annotated

import msgspec

__all__ = ["ElectionConfig", "PeerMode", "PeersConfig", "Strategy"]

Positive = Annotated[int, msgspec.Meta(ge=1)]
Natural = Annotated[int, msgspec.Meta(ge=0)]
Percent = Annotated[int, msgspec.Meta(ge=1, le=100)]

_MINUTE_MS = 60_000
_HOUR_MS = 60 * _MINUTE_MS


class PeerMode(enum.StrEnum):
    """How far peer elections are introduced. A node that is off still answers."""

    OFF = "off"
    # Elections run and are told; no peer list is kept.
    OBSERVE = "observe"
    # The list is kept beside what chose the peers before.
    ALONGSIDE = "alongside"
    # The list is what chooses the peers.
    PRIMARY = "primary"

    @property
    def keeps_list(self) -> bool:
        """Whether there is a peer list, and introductions."""
        return self in (PeerMode.ALONGSIDE, PeerMode.PRIMARY)


class Strategy(enum.StrEnum):
    """What a peer does with a query (see `forwarding`)."""

    GREEDY = "greedy"
    RANDOM_WALK = "random_walk"
    NEIGHBOUR_BROADCAST = "neighbour_broadcast"
    LOCAL_THEN_FORWARD = "local_then_forward"


class ElectionConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of one election."""

    # Of ten mappings, so many must be equal for two answers to agree.
    consensus_threshold: Annotated[int, msgspec.Meta(ge=1, le=10)] = 8
    # Answers that must agree at least, of however few responders.
    min_cluster_size: Annotated[int, msgspec.Meta(ge=2)] = 2
    # As many answers can be compared exactly in no time.
    max_channels: Annotated[int, msgspec.Meta(ge=1, le=10)] = 10
    # Of all responders, so many must be in the winning cluster.
    majority_percent: Percent = 60
    # So many mappings of a proof may name another block than one's own copy: more where tokens move while an election lasts.
    contradictions_max: Annotated[int, msgspec.Meta(ge=0, le=10)] = 0
    # So many of the ten one must hold oneself. An honest answer has fewer once in 10^4 where both hold 80 %, once in 10^6 at 90 %. A node
    # that is still filling its store sets 0.
    familiar_min: Annotated[int, msgspec.Meta(ge=0, le=10)] = 3
    # A chain of referrals ends after so many: nobody leads a requester around for ever.
    referrals_max: Natural = 8


class PeersConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of one node's part in peer elections."""

    election: ElectionConfig = ElectionConfig()
    # off: answers others, elects nobody. observe: elects and tells, keeps no list. alongside: the list is kept beside what chose
    # peers before. primary: the list chooses them.
    mode: PeerMode = PeerMode.PRIMARY
    # What is done with a query of another: greedy, random_walk, neighbour_broadcast or local_then_forward (docs/peers.md).
    strategy: Strategy = Strategy.LOCAL_THEN_FORWARD
    # First hops that an election asks at its beginning.
    initial_channels: Positive = 3
    # More channels at each split brain.
    split_channels: Positive = 2
    # So long the latest of them may be silent before there are more.
    split_patience_ms: Positive = 1_000
    # Peers that pass a query on, one to the next, before one must answer it or let it be.
    ttl: Annotated[int, msgspec.Meta(ge=0, le=255)] = 8
    # Neighbours that a broadcast reaches.
    fanout: Positive = 3
    # Milliseconds an election collects answers at least.
    min_collection_ms: Natural = 2_000
    # Milliseconds after which an election ends, whatever was answered.
    timeout_ms: Positive = 8_000
    # Milliseconds from one election of one's own to the next.
    interval_ms: Positive = _MINUTE_MS
    # A running election of one's own at most so often at once: entries of the ticket index are bounded by it.
    elections_max: Positive = 16
    # A ticket of a finished election is known so long, so that a late answer is told from a stranger's.
    finished_ttl_ms: Positive = 2 * _MINUTE_MS
    # So many such tickets are known; the oldest is forgotten first.
    finished_max: Positive = 4_096
    # A query is handled once; so many tickets are remembered, the oldest forgotten first.
    handled_ttl_ms: Positive = _MINUTE_MS
    # How many those are.
    handled_max: Positive = 16_384
    # Peers in the list: elected, and introduced.
    list_max: Positive = 50
    # Peers known and not elected: the address book.
    identified_max: Positive = 2_048
    # Challenges to inviters that are open at once: whoever invites costs nothing, and each is remembered for a while.
    introductions_max: Positive = 256
    # Milliseconds an invitation stands; whoever proves nothing within them is not connected.
    pending_ttl_ms: Positive = 2 * _MINUTE_MS
    # Verification takes list_max * 2 intervals to come around: 100 minutes by default. What is missed twice is gone.
    connected_ttl_ms: Positive = 4 * _HOUR_MS
    # So long without a verified proof, and a connection is kept alive by an introduction.
    keep_alive_ms: Positive = 3 * _HOUR_MS
    # Who was asked so many times in a row and said nothing, while others answered, loses its place: verification would ask it for ever.
    silent_max: Positive = 3
    # Who let so many invitations in a row go by is no reason any more to look at its part of the ring first.
    invited_in_vain_max: Positive = 2
    # A full list gives up a peer for a newcomer only if it went unverified so long, or covers less: otherwise it would churn.
    evict_after_ms: Natural = 2 * _HOUR_MS
    # Parts of the ring, of each of which it is known how well the list covers it.
    segments: Annotated[int, msgspec.Meta(ge=1, le=256)] = 16
    # A challenge token is one of so many nearest to the chosen place, so that it cannot be told ahead.
    token_choice: Positive = 16
    # A first hop is not asked again for so many hops, as far as there are others.
    recent_hops: Natural = 12
    # So many elections that came to different results within the window raise one alert.
    alert_splits: Positive = 3
    # Milliseconds that window is long.
    alert_window_ms: Positive = 10 * _MINUTE_MS
    # Whether consensus_threshold follows how many elections elect somebody: between 7 and 9.
    adaptive_threshold: bool = False
    # Whether interval_ms follows how much there is to do, between the two bounds below.
    adaptive_interval: bool = False
    # Elections between two adaptations: fewer say nothing.
    adaptive_window: Positive = 20
    # Least milliseconds between two elections of one's own.
    interval_min_ms: Positive = 30_000
    # Most milliseconds between two.
    interval_max_ms: Positive = 300_000
