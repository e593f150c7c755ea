"""The contract of peer elections: what peers say to each other, and what a node's part in them reports (docs/peers.md).

Peers, tokens and tickets are u64 on one ring; a peer's id is made of its public key. Each message is sealed by its author over bytes that
bind both ends, the token and the ticket; `to` says for whom it is. A seal is the author's public key and its Ed25519 signature.
"""

import enum
from typing import Annotated

import msgspec

from messages.message import Message, Row, event, fact, network, timer
from messages.primitives import U8, U16, U32, U64, Name, TimeMs

__all__ = [
    "PROOF_MAPPINGS",
    "RING",
    "PeerAccept",
    "PeerAdapted",
    "PeerAnswer",
    "PeerAnswerTaken",
    "PeerChannelOpened",
    "PeerConfirm",
    "PeerElectionEnd",
    "PeerElectionEnded",
    "PeerElectionStarted",
    "PeerEvent",
    "PeerInvite",
    "PeerMoved",
    "PeerPassedOver",
    "PeerProof",
    "PeerPurpose",
    "PeerQuery",
    "PeerQueryHandled",
    "PeerReferral",
    "PeerRow",
    "PeerSaid",
    "PeerSplitAlert",
    "PeerSplitSeen",
    "PeerStateMoved",
    "PeerTrafficRefused",
    "PeersDue",
    "RingId",
    "SealBytes",
    "TokenMapping",
    "TokensDropped",
    "TokensHeld",
]

# Mappings of one proof.
PROOF_MAPPINGS = 10

# Ids are below this, and go around there.
RING = 1 << 64
RingId = U64
# A public key (32 bytes) and a signature (64).
SealBytes = Annotated[bytes, msgspec.Meta(max_length=96)]


class TokenMapping(Row, frozen=True, order=True):
    """A token and the block that it maps to."""

    id: RingId
    block: U64


# A well-formed one has exactly ten; what has not is refused as any bad proof is.
PeerProof = Annotated[list[TokenMapping], msgspec.Meta(max_length=PROOF_MAPPINGS)]


class PeerPurpose(enum.StrEnum):
    """What an election is for."""

    VERIFY = "verify"
    DISCOVER = "discover"
    # Somebody asked for it.
    ASKED = "asked"


class PeerElectionEnd(enum.StrEnum):
    """What an election came to."""

    ELECTED = "elected"
    # Still split at the timeout.
    SPLIT = "split"
    # Still without agreement at the timeout.
    NO_CONSENSUS = "no_consensus"
    # Its token's block was blacklisted, or there was nobody to ask.
    ABANDONED = "abandoned"


# ------------------------------------------------------------------------------------------------ between peers


@network(by="elections")
class PeerQuery(Message, frozen=True, kw_only=True):
    """Who holds this token? Goes from hop to hop; `ttl`, `hop`, `sender` and `to` are not sealed, all else is the requester's word.

    `hop`: whom the requester asked, the one peer that may refer it to others. `sender`: who passed it on last.
    """

    to: RingId
    token: RingId
    requester: RingId
    ticket: U64
    ttl: U8
    hop: RingId
    sender: RingId
    seal: SealBytes


@network(by="elections")
class PeerAnswer(Message, frozen=True, kw_only=True):
    """A proof for `requester`, straight to it. `signature`: the ten mappings of the proof. `seal`: the responder's."""

    requester: RingId
    responder: RingId
    ticket: U64
    answer: TokenMapping
    signature: PeerProof
    seal: SealBytes

    @property
    def to(self) -> int:
        return self.requester


@network(by="elections")
class PeerReferral(Message, frozen=True, kw_only=True):
    """The hop that was asked does not know, and names the two nearest to the token that it knows."""

    token: RingId
    ticket: U64
    requester: RingId
    sender: RingId
    suggestions: Annotated[list[RingId], msgspec.Meta(min_length=2, max_length=2)]
    seal: SealBytes

    @property
    def to(self) -> int:
        return self.requester


@network(by="elections")
class PeerInvite(Message, frozen=True, kw_only=True):
    """Shall we be peers? Prove to me that you hold this token. Also what keeps a connection alive."""

    sender: RingId
    to: RingId
    token: RingId
    ticket: U64
    seal: SealBytes


@network(by="elections")
class PeerAccept(Message, frozen=True, kw_only=True):
    """Here is my proof; now yours, about a token of my choice (`ticket` 0: none is asked for)."""

    proof: PeerAnswer
    token: RingId
    ticket: U64
    seal: SealBytes

    @property
    def to(self) -> int:
        return self.proof.requester


@network(by="elections")
class PeerConfirm(Message, frozen=True, kw_only=True):
    """Here is mine."""

    proof: PeerAnswer

    @property
    def to(self) -> int:
        return self.proof.requester


# ------------------------------------------------------------------------------------------------ what is reported


class PeerEvent(Message, frozen=True, kw_only=True):
    """The parent of all that a node's part in peer elections reports. All carry when."""

    at_ms: TimeMs


@event(by="elections")
class PeerElectionStarted(PeerEvent, frozen=True, kw_only=True):
    """This node began an election about `token`, and what for."""

    token: RingId
    purpose: PeerPurpose


@event(by="elections")
class PeerChannelOpened(PeerEvent, frozen=True, kw_only=True):
    """`referred`: by a referral, in place of another channel."""

    token: RingId
    ticket: U64
    hop: RingId
    referred: bool


@event(by="elections")
class PeerAnswerTaken(PeerEvent, frozen=True, kw_only=True):
    """An answer counts in the election about `token`: from which peer, to which ticket."""

    token: RingId
    ticket: U64
    peer: RingId


@event(by="elections")
class PeerTrafficRefused(PeerEvent, frozen=True, kw_only=True):
    """Something was refused or ignored; each code has a counter."""

    code: Name
    peer: RingId
    ticket: U64
    detail: str = ""


@event(by="elections")
class PeerSplitSeen(PeerEvent, frozen=True, kw_only=True):
    """For the first time in this election."""

    token: RingId


@fact(by="elections")
class PeerElectionEnded(PeerEvent, frozen=True, kw_only=True):
    """`winner` 0 where nobody was elected. `took_ms` from the start to this. `cluster`: who agreed."""

    token: RingId
    end: PeerElectionEnd
    winner: RingId
    took_ms: U64
    channels: U16
    responses: U16
    split: bool
    cluster: list[RingId]


@fact(by="elections")
class PeerMoved(PeerEvent, frozen=True, kw_only=True):
    """A peer took a step in the list: identified, pending, connected."""

    peer: RingId
    step: Name
    before: Name
    after: Name


@event(by="elections")
class PeerPassedOver(PeerEvent, frozen=True, kw_only=True):
    """Elected, but the list is full of peers that were verified of late."""

    peer: RingId


@event(by="elections")
class PeerQueryHandled(PeerEvent, frozen=True, kw_only=True):
    """Somebody's query came, and this is what was done: reply, forward, refer or drop."""

    ticket: U64
    requester: RingId
    course: Name


@fact(by="elections")
class PeerSplitAlert(PeerEvent, frozen=True, kw_only=True):
    """Too many elections were split of late; one alert until it is over."""

    raised: bool
    splits: U32


@event(by="elections")
class PeerAdapted(PeerEvent, frozen=True, kw_only=True):
    """A parameter was adapted; `why` in numbers."""

    parameter: Name
    before: U64
    after: U64
    why: str


# ------------------------------------------------------------------------------------------------ what a node keeps


@event(by="elections")
class PeerSaid(Message, frozen=True, kw_only=True):
    """This node says something to a peer: the body of the network message `name`."""

    name: Name
    body: bytes


class PeerRow(Row, frozen=True):
    """A row of what a node's part in peer elections is: what kind of row, its id, and its value (none: it is gone)."""

    kind: U8
    id: U64
    value: bytes | None


@event(by="elections")
class PeerStateMoved(Message, frozen=True, kw_only=True):
    """What the step that was taken with this input left of the node's part, row by row; the facts beside it say why."""

    rows: list[PeerRow]


@event(by="elections")
class TokensHeld(Message, frozen=True, kw_only=True):
    """These tokens are held from now on, or map to another block."""

    tokens: list[TokenMapping]


@event(by="elections")
class TokensDropped(Message, frozen=True, kw_only=True):
    """These are not held any more."""

    tokens: list[RingId]


@timer(by="elections")
class PeersDue(Message, frozen=True, kw_only=True):
    """Something of the node's part in peer elections is due."""
