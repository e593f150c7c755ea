"""What somebody may want of peer elections, and ask about them (docs/peers.md)."""

import enum
from typing import Annotated

import msgspec

from messages.message import Message, Rejection, command, query, rejection, reply
from messages.peers import PeerElectionEnded, PeerPurpose, RingId, TokenMapping
from messages.primitives import U8, U16, U32, U64, Name, TimeMs

__all__ = [
    "TOKENS_MAX",
    "ChallengeBegun",
    "ChallengeFault",
    "ChallengePeers",
    "ChallengeRefused",
    "DropTokens",
    "EndedElection",
    "HoldTokens",
    "KnownPeer",
    "PeerCount",
    "PeerHistory",
    "PeerHistoryReport",
    "PeerMeasures",
    "Peers",
    "PeersReport",
    "RunningElection",
    "TokensTaken",
]

# Tokens of one command: three values each, of the 18 432 of a message.
TOKENS_MAX = 5_000


@reply(by="elections")
class TokensTaken(Message, frozen=True, kw_only=True):
    """How many of the tokens of a command changed anything."""

    changed: U32


@command(to="elections", reply=TokensTaken)
class HoldTokens(Message, frozen=True, kw_only=True):
    """This node holds these tokens: from now on it proves them, and challenges others with them."""

    tokens: Annotated[list[TokenMapping], msgspec.Meta(max_length=TOKENS_MAX)]


@command(to="elections", reply=TokensTaken)
class DropTokens(Message, frozen=True, kw_only=True):
    """This node does not hold these any more."""

    tokens: Annotated[list[RingId], msgspec.Meta(max_length=TOKENS_MAX)]


@reply(by="elections")
class ChallengeBegun(Message, frozen=True, kw_only=True):
    """An election about `token` runs. `already`: it did before."""

    token: RingId
    already: bool


@command(to="elections", reply=ChallengeBegun)
class ChallengePeers(Message, frozen=True, kw_only=True):
    """Hold an election about a token, now; one that runs already goes on. Without a token one is chosen, as for a discovery."""

    token: RingId | None = None


class ChallengeFault(enum.StrEnum):
    """Why no election begins."""

    OFF = "off"
    GOVERNANCE_MODE = "governance_mode"
    # Its block is blacklisted.
    VOID_TOKEN = "void_token"
    TOO_MANY_ELECTIONS = "too_many_elections"
    # None that this node could prove itself.
    NO_TOKEN = "no_token"


@rejection(by="elections")
class ChallengeRefused(Rejection, frozen=True, kw_only=True):
    """No election begins."""

    reason: ChallengeFault

    @property
    def retriable(self) -> bool:
        return self.reason is ChallengeFault.TOO_MANY_ELECTIONS


# ------------------------------------------------------------------------------------------------ queries


class KnownPeer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A listed peer. `node`: its name in the network, if it has one. Times 0: never; `reputation` 0 to 1000."""

    id: RingId
    node: str
    state: Name
    elected_ms: TimeMs
    last_election_ms: TimeMs
    verified_ms: TimeMs
    wins: U64
    challenge_token: RingId
    reputation: U16


class RunningElection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of the node's own that has not ended."""

    token: RingId
    purpose: PeerPurpose
    started_ms: TimeMs
    channels: U16
    responses: U16
    split: bool


class PeerCount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often something was refused."""

    code: str
    count: U64


class PeerMeasures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Counted from the node's journal alone. Times in ms, of elections that elected somebody; shares in whole percent."""

    started: U64
    elected: U64
    split: U64
    no_consensus: U64
    abandoned: U64
    success_percent: U8
    split_percent: U8
    channels_opened: U64
    channels_referred: U64
    answers_taken: U64
    p50_ms: U64
    p95_ms: U64
    p99_ms: U64
    refusals: list[PeerCount]


@reply(by="elections")
class PeersReport(Message, frozen=True, kw_only=True):
    """A node's part. `known`: peers it could ask; `coverage`: listed peers in each of equal arcs of the ring, from 0 on.

    `next_ms`: when the next election begins; 0 for none. `alert`: too many elections were split of late.
    """

    self_id: RingId
    mode: Name
    tokens: bool
    held: bool
    threshold: U8
    interval_ms: U64
    next_ms: TimeMs
    known: U32
    list_max: U32
    peers: list[KnownPeer]
    coverage: list[U16]
    running: list[RunningElection]
    alert: bool
    measures: PeerMeasures


@query(to="elections", reply=PeersReport)
class Peers(Message, frozen=True, kw_only=True):
    """The peers that this node elected, and how its elections go."""


class EndedElection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One that has ended; its number counts those of this node from 1."""

    number: U64
    outcome: PeerElectionEnded


@reply(by="elections")
class PeerHistoryReport(Message, frozen=True, kw_only=True):
    """The latest first. `more`: there are older ones."""

    elections: list[EndedElection]
    more: bool


@query(to="elections", reply=PeerHistoryReport)
class PeerHistory(Message, frozen=True, kw_only=True):
    """The node's last elections; `before` (a number): older ones."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=500)] = 50
    before: U64 | None = None
