"""The contract of gateway elections: which gateways process the requests of a queue, in rounds counted in blocks (docs/gateways.md).

One election for each queue; its key is the queue's name. Gateways, their stakes and the requests belong to the queue. A round is cut
(its requests and stakes are frozen: the ballot), voted on, and closed; every ballot of a queue has a number of its own, as a round that
was revoked may be cut again at another block.
"""

import enum
from typing import Annotated

import msgspec

from messages.elections import ElectionEvent, ElectionFact, OfElection, Recorded
from messages.message import Rejection, Row, command, event, fact, rejection
from messages.polkadot import Scheme
from messages.primitives import U8, U32, U64, BlockNumber, Hash32, PublicKey, Signature64, TimeMs
from messages.signals import BlockRef

__all__ = [
    "AlreadyExecuted",
    "BadProof",
    "Bond",
    "ChainBehind",
    "Claim",
    "ClaimsExpired",
    "DeclareGateway",
    "DuplicateRequest",
    "GatewayDeclared",
    "Heard",
    "InsufficientStake",
    "ItemResult",
    "MalformedQueue",
    "NotAuthorized",
    "NotEligible",
    "OpenQueue",
    "ProofFault",
    "QueueFull",
    "QueueOpened",
    "QueueRules",
    "RedistributeStake",
    "RequestExecuted",
    "RequestSubmitted",
    "RequestsReturned",
    "RoundClosed",
    "RoundCut",
    "RoundOutcome",
    "RoundPhase",
    "RoundResults",
    "RoundRevoked",
    "RoundsSkipped",
    "Stake",
    "StakeBonded",
    "StakeHolding",
    "StakeRedistributed",
    "Standing",
    "SubmitExecutionProof",
    "SubmitRequest",
    "Unbond",
    "UnbondRequested",
    "UnknownItem",
]

# In the chain's smallest unit. What a gateway has bonded in all stays below the bound as well.
Stake = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Amount = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]


class RoundPhase(enum.StrEnum):
    """Where a ballot is. While it is voted on, whether votes are taken depends on the height."""

    VOTING = "voting"
    CLOSING = "closing"
    CLOSED = "closed"
    REVOKING = "revoking"
    REVOKED = "revoked"


class QueueRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rules of a queue, in blocks; recorded when it is opened, and never changed.

    Round r is cut at origin + (r + 1)(collect_blocks + 1) and closed vote_blocks + 1 later; votes are taken in the first
    `window_blocks` of the blocks between.
    """

    collect_blocks: U32
    vote_blocks: U32
    window_blocks: U32
    origin: BlockNumber
    stake_min: Stake
    # How often a request without votes is carried to the next round before it expires.
    carries_max: U32
    # How long a winner has before the next alternate takes its place.
    claim_blocks: U32
    winners_max: U8
    # Of how many ballots votes and results are kept as rows; the election's history has them for ever.
    rounds_kept: U32


class Heard(Row, frozen=True):
    """How far the chain was known to whoever decided: when the node's stream stored the last signal of it, and where."""

    at_ms: TimeMs
    position: U64


# ------------------------------------------------------------------------------------------------ commands


@command(to="elections", reply=Recorded)
class OpenQueue(OfElection, frozen=True, kw_only=True):
    """Begin the elections of a queue. What is left out is as the node is configured; `window_blocks` is vote_blocks + 1 then."""

    collect_blocks: U32 | None = None
    vote_blocks: U32 | None = None
    window_blocks: U32 | None = None
    origin: BlockNumber | None = None
    stake_min: Stake | None = None
    carries_max: U32 | None = None
    claim_blocks: U32 | None = None
    winners_max: U8 | None = None


@command(to="elections", reply=Recorded)
class SubmitRequest(OfElection, frozen=True, kw_only=True):
    """A request for the queue. `request` identifies it for ever, `content` is the BLAKE3 of its content, `size` in bytes.

    `balance` is reserved by `account`, to which it goes back when the request expires.
    """

    request: Hash32
    content: Hash32
    size: U64
    account: PublicKey
    balance: Stake


@command(to="elections", reply=Recorded)
class Bond(OfElection, frozen=True, kw_only=True):
    """Add to a gateway's stake in this queue."""

    gateway: PublicKey
    amount: Amount


@command(to="elections", reply=Recorded)
class Unbond(OfElection, frozen=True, kw_only=True):
    """Take from a gateway's stake: at once what is free, the rest as soon as a ballot or an assignment lets go of it."""

    gateway: PublicKey
    amount: Amount


@command(to="elections", reply=Recorded)
class DeclareGateway(OfElection, frozen=True, kw_only=True):
    """A gateway offers its services, or pauses. Its key signs proofs of execution, by `scheme`."""

    gateway: PublicKey
    scheme: Scheme = Scheme.SR25519
    paused: bool = False


@command(to="elections", reply=Recorded)
class RedistributeStake(OfElection, frozen=True, kw_only=True):
    """The weight that a gateway gives an item of the ballot: the last one counts, 0 withdraws it."""

    round: U32
    gateway: PublicKey
    item: Hash32
    amount: Stake


@command(to="elections", reply=Recorded)
class SubmitExecutionProof(OfElection, frozen=True, kw_only=True):
    """A winner has processed a request of which it holds the assignment; signed: `messages.execution`."""

    round: U32
    request: Hash32
    executor: PublicKey
    content: Hash32
    size: U64
    signature: Signature64


# ------------------------------------------------------------------------------------------------ events: accounts and requests


@fact(by="elections")
class QueueOpened(ElectionFact, frozen=True, kw_only=True):
    """`first_round`: rounds whose cut was at `height` or below are not held."""

    rules: QueueRules
    height: BlockNumber
    first_round: U32
    heard: Heard


@event(by="elections")
class RequestSubmitted(ElectionEvent, frozen=True, kw_only=True):
    """`round`: that to which it belongs by its block. `behind`: so many ballots were due and not cut yet; none of them takes it."""

    request: Hash32
    content: Hash32
    size: U64
    account: PublicKey
    balance: Stake
    round: U32
    behind: U32


@event(by="elections")
class StakeBonded(ElectionEvent, frozen=True, kw_only=True):
    """A gateway has this much more at stake in the queue."""

    gateway: PublicKey
    amount: Stake


@event(by="elections")
class UnbondRequested(ElectionEvent, frozen=True, kw_only=True):
    """What is free leaves now, the rest when it becomes free."""

    gateway: PublicKey
    amount: Stake


@event(by="elections")
class GatewayDeclared(ElectionEvent, frozen=True, kw_only=True):
    """`in_session`: it was one of the session's validators. Such a one is eligible only while it is."""

    gateway: PublicKey
    scheme: Scheme
    paused: bool
    in_session: bool


@event(by="elections")
class StakeRedistributed(ElectionEvent, frozen=True, kw_only=True):
    """A gateway's weight for one request of the ballot is this now, whatever it was."""

    round: U32
    ballot: U64
    gateway: PublicKey
    item: Hash32
    amount: Stake


@fact(by="elections")
class RequestExecuted(ElectionFact, frozen=True, kw_only=True):
    """The first valid proof: the request is done, and the stake of all who held its assignment is free."""

    round: U32
    ballot: U64
    request: Hash32
    executor: PublicKey
    content: Hash32
    size: U64
    height: BlockNumber


# ------------------------------------------------------------------------------------------------ events: the course of rounds


class StakeHolding(Row, frozen=True):
    """A gateway and what it may redistribute."""

    gateway: PublicKey
    stake: Stake


class Standing(Row, frozen=True):
    """A gateway and its weight on an item."""

    gateway: PublicKey
    weight: Stake


class RoundOutcome(enum.StrEnum):
    """What a close makes of a request. Carried: nobody voted, the next ballot takes it. Expired: carried too often."""

    ASSIGNED = "assigned"
    CARRIED = "carried"
    EXPIRED = "expired"


class ItemResult(Row, frozen=True):
    """The result of one request: winners and alternates, each from the greatest weight down."""

    request: Hash32
    outcome: RoundOutcome
    winners: list[Standing]
    alternates: list[Standing]
    # What goes back to `account` when it expired.
    account: PublicKey | None = None
    refund: Stake = 0


@fact(by="elections")
class RoundCut(ElectionFact, frozen=True, kw_only=True):
    """The open queue became the ballot. `stakes`: who may vote, and with how much."""

    round: U32
    ballot: U64
    cut: BlockRef
    stakes: list[StakeHolding]
    heard: Heard


@fact(by="elections")
class RoundClosed(ElectionFact, frozen=True, kw_only=True):
    """No votes any more. The results follow in pages of `round_results`."""

    round: U32
    ballot: U64
    cut: BlockRef
    close: BlockRef
    heard: Heard


@fact(by="elections")
class RoundResults(ElectionFact, frozen=True, kw_only=True):
    """A page of a round's results, in order of the requests' age. A round without requests has one empty page."""

    round: U32
    ballot: U64
    page: U32
    last: bool
    results: list[ItemResult]
    # The arrival number of the last request looked at.
    reached: U64
    heard: Heard


class Claim(Row, frozen=True):
    """A request that was not proven in time: who failed, and which alternate holds it now. Nobody: it is open again."""

    request: Hash32
    failed: list[PublicKey]
    promoted: PublicKey | None = None


@fact(by="elections")
class ClaimsExpired(ElectionFact, frozen=True, kw_only=True):
    """At this height the time to prove these ran out."""

    height: BlockNumber
    claims: list[Claim]
    heard: Heard


@fact(by="elections")
class RoundRevoked(ElectionFact, frozen=True, kw_only=True):
    """The round's cut or close block left the best chain (a blacklisted block does). It is never run again under this identity.

    Its assignments are void from now on; `requests_returned` tells page by page what becomes of them.
    """

    round: U32
    ballot: U64
    cut: BlockRef
    close: BlockRef | None
    heard: Heard


@fact(by="elections")
class RequestsReturned(ElectionFact, frozen=True, kw_only=True):
    """A page of what a revoked round had assigned: requests open again, with their age; `executed` ones stay so, and are flagged."""

    round: U32
    ballot: U64
    returned: list[Hash32]
    executed: list[Hash32]
    # The arrival number of the last request looked at.
    reached: U64
    last: bool
    heard: Heard


@event(by="elections")
class RoundsSkipped(ElectionEvent, frozen=True, kw_only=True):
    """Rounds from `round` to before `next` are not run: revoked under this very identity, or their blocks are not known here any more."""

    round: U32
    next: U32
    heard: Heard


# ------------------------------------------------------------------------------------------------ refusals


@rejection(by="elections")
class MalformedQueue(Rejection, frozen=True, kw_only=True):
    """Rules that cannot be kept, or a queue that is there already."""

    detail: str


@rejection(by="elections")
class QueueFull(Rejection, frozen=True, kw_only=True):
    """As many of `what` (queues, requests, gateways) as are allowed."""

    what: str
    limit: U64

    @property
    def retriable(self) -> bool:
        return True


@rejection(by="elections")
class InsufficientStake(Rejection, frozen=True, kw_only=True):
    """`available`: what could be given at most."""

    available: Stake


@rejection(by="elections")
class NotEligible(Rejection, frozen=True, kw_only=True):
    """Not among those whose stake was taken down when the ballot was cut; or not known at all."""

    gateway: PublicKey


@rejection(by="elections")
class UnknownItem(Rejection, frozen=True, kw_only=True):
    """Not in the ballot; or, of a proof, never submitted."""

    item: Hash32


@rejection(by="elections")
class NotAuthorized(Rejection, frozen=True, kw_only=True):
    """The executor does not hold the assignment of this request."""

    executor: PublicKey


class ProofFault(enum.StrEnum):
    ROUND = "round"
    CONTENT = "content"
    SIZE = "size"
    SIGNATURE = "signature"


@rejection(by="elections")
class BadProof(Rejection, frozen=True, kw_only=True):
    """What of the proof does not fit the request, or the executor's key."""

    fault: ProofFault


@rejection(by="elections")
class AlreadyExecuted(Rejection, frozen=True, kw_only=True):
    """The request was proven before, by this gateway."""

    executor: PublicKey


@rejection(by="elections")
class DuplicateRequest(Rejection, frozen=True, kw_only=True):
    """A request of this identity was submitted before, whatever became of it."""

    request: Hash32


@rejection(by="elections")
class ChainBehind(Rejection, frozen=True, kw_only=True):
    """Whoever writes now knows less of the chain than the one before; it will have caught up in a moment."""

    height: BlockNumber

    @property
    def retriable(self) -> bool:
        return True
