"""What a node's part in peer elections reports, as data: the journal of the later wiring, and what metrics are counted from."""

import enum

import msgspec

from subsystems.elections.peers.choosing import Purpose

__all__ = [
    "Adapted",
    "AnswerTaken",
    "ChannelOpened",
    "ElectionEnded",
    "ElectionStarted",
    "End",
    "Fact",
    "PeerMoved",
    "QueryHandled",
    "SplitAlert",
    "SplitSeen",
    "TrafficRefused",
    "WinnerPassedOver",
]


class _Fact(msgspec.Struct, frozen=True, kw_only=True):
    """All of them carry when."""

    at_ms: int


class End(enum.StrEnum):
    """What an election came to."""

    ELECTED = "elected"
    # Still split at the timeout.
    SPLIT = "split"
    # Still without agreement at the timeout.
    NO_CONSENSUS = "no_consensus"
    # Its token's block was blacklisted, or there was nobody to ask.
    ABANDONED = "abandoned"


class ElectionStarted(_Fact, frozen=True, kw_only=True, tag="election_started"):
    token: int
    purpose: Purpose


class ChannelOpened(_Fact, frozen=True, kw_only=True, tag="channel_opened"):
    """`referred`: by a referral, in place of another channel."""

    token: int
    ticket: int
    hop: int
    referred: bool


class AnswerTaken(_Fact, frozen=True, kw_only=True, tag="answer_taken"):
    token: int
    ticket: int
    peer: int


class TrafficRefused(_Fact, frozen=True, kw_only=True, tag="refused"):
    """Something was refused or ignored; each code has a counter."""

    code: str
    peer: int
    ticket: int
    detail: str = ""


class SplitSeen(_Fact, frozen=True, kw_only=True, tag="split_seen"):
    """For the first time in this election."""

    token: int


class ElectionEnded(_Fact, frozen=True, kw_only=True, tag="election_ended"):
    """`winner` 0 where nobody was elected. `took_ms` from the start to this. `cluster`: who agreed."""

    token: int
    end: End
    winner: int
    took_ms: int
    channels: int
    responses: int
    split: bool
    cluster: tuple[int, ...]


class PeerMoved(_Fact, frozen=True, kw_only=True, tag="peer_moved"):
    """A peer took a step in the list (`roster.TRANSITIONS`)."""

    peer: int
    step: str
    before: str
    after: str


class WinnerPassedOver(_Fact, frozen=True, kw_only=True, tag="winner_passed_over"):
    """Elected, but the list is full of peers that were verified of late."""

    peer: int


class QueryHandled(_Fact, frozen=True, kw_only=True, tag="query_handled"):
    """Somebody's query came, and this is what was done: reply, forward, refer or drop."""

    ticket: int
    requester: int
    course: str


class SplitAlert(_Fact, frozen=True, kw_only=True, tag="split_alert"):
    """Too many elections were split of late; one alert until it is over."""

    raised: bool
    splits: int


class Adapted(_Fact, frozen=True, kw_only=True, tag="adapted"):
    """A parameter was adapted; `why` in numbers."""

    parameter: str
    before: int
    after: int
    why: str


Fact = (
    ElectionStarted
    | ChannelOpened
    | AnswerTaken
    | TrafficRefused
    | SplitSeen
    | ElectionEnded
    | PeerMoved
    | WinnerPassedOver
    | QueryHandled
    | SplitAlert
    | Adapted
)
