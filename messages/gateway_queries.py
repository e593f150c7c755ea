"""What can be asked about gateway elections: the requests by where they are, the results, gateways with their stakes."""

from messages.elections import OfElection
from messages.gateways import ItemResult, QueueRules, RoundOutcome, RoundPhase, Stake, Standing
from messages.message import Rejection, Row, query, rejection, reply
from messages.polkadot import Scheme
from messages.primitives import U32, U64, BlockNumber, Hash32, PublicKey
from messages.signals import BlockRef

__all__ = [
    "ActiveRequests",
    "AssignedRequest",
    "AssignedRequestPage",
    "AssignedRequests",
    "Execution",
    "ExecutionPage",
    "ExecutionResults",
    "GatewayPage",
    "GatewayReport",
    "GetQueue",
    "ListGateways",
    "PendingRequests",
    "QueueReport",
    "QueuedRequest",
    "RequestPage",
    "Results",
    "ResultsPage",
    "UnknownRound",
]


class QueuedRequest(Row, frozen=True):
    """`arrival`: its number in the queue, from 1: its age. `round`: that to which it belonged by its block."""

    arrival: U64
    request: Hash32
    size: U64
    balance: Stake
    round: U32
    carries: U32


@reply(by="elections")
class RequestPage(OfElection, frozen=True, kw_only=True):
    """The oldest first; `next`: ask again after this arrival number. `round`: of the ballot, if these are in one."""

    round: U32 | None
    requests: list[QueuedRequest]
    next: U64 | None


@query(to="elections", reply=RequestPage)
class PendingRequests(OfElection, frozen=True, kw_only=True):
    """The open queue, behind the arrival number `after`."""

    after: U64 = 0
    limit: U32 = 500


@query(to="elections", reply=RequestPage)
class ActiveRequests(OfElection, frozen=True, kw_only=True):
    """The ballot that is voted on or being closed, behind the arrival number `after`."""

    after: U64 = 0
    limit: U32 = 500


class AssignedRequest(Row, frozen=True):
    """`holders`: who may prove it, with the stake that is held; `deadline`: the height at which the next alternate takes over."""

    arrival: U64
    request: Hash32
    content: Hash32
    size: U64
    round: U32
    holders: list[Standing]
    deadline: BlockNumber


@reply(by="elections")
class AssignedRequestPage(OfElection, frozen=True, kw_only=True):
    """By deadline, then by age; `next`: ask again after the last."""

    requests: list[AssignedRequest]
    more: bool


@query(to="elections", reply=AssignedRequestPage)
class AssignedRequests(OfElection, frozen=True, kw_only=True):
    """Elected, waiting for proof. Those behind (deadline, arrival)."""

    after_deadline: BlockNumber = 0
    after: U64 = 0
    limit: U32 = 500


@reply(by="elections")
class ResultsPage(OfElection, frozen=True, kw_only=True):
    """A round's results; of one that was cut more than once, the last ballot's. `next`: ask again after this arrival number."""

    round: U32
    ballot: U64
    phase: RoundPhase
    cut: BlockRef
    close: BlockRef | None
    results: list[ItemResult]
    next: U64 | None


@query(to="elections", reply=ResultsPage)
class Results(OfElection, frozen=True, kw_only=True):
    """Winners and alternates by request. Rejected with unknown_round."""

    round: U32
    after: U64 = 0
    limit: U32 = 500


class Execution(Row, frozen=True):
    """What became of a request of the ballot. `executor`: who proved it. `revoked`: its round does not stand any more."""

    request: Hash32
    outcome: RoundOutcome
    executor: PublicKey | None
    height: BlockNumber | None
    revoked: bool


@reply(by="elections")
class ExecutionPage(OfElection, frozen=True, kw_only=True):
    """A page of what was executed in a round; `next` continues (pass as `after`), null at the end."""

    round: U32
    ballot: U64
    executions: list[Execution]
    next: U64 | None


@query(to="elections", reply=ExecutionPage)
class ExecutionResults(OfElection, frozen=True, kw_only=True):
    """Requests of a round by what became of them. Rejected with unknown_round."""

    round: U32
    after: U64 = 0
    limit: U32 = 500


class GatewayReport(Row, frozen=True):
    """A gateway's stake: bonded = free + redistributed + held. `unbonding` leaves when it becomes free, `unbonded` has left."""

    gateway: PublicKey
    scheme: Scheme
    declared: bool
    paused: bool
    in_session: bool
    bonded: Stake
    free: Stake
    redistributed: Stake
    held: Stake
    unbonding: Stake
    unbonded: Stake
    # What it may redistribute in the present ballot.
    snapshot: Stake
    # Assignments that it did not prove in time.
    failures: U64


@reply(by="elections")
class GatewayPage(OfElection, frozen=True, kw_only=True):
    """By key; `more`: ask again after the last."""

    gateways: list[GatewayReport]
    more: bool


@query(to="elections", reply=GatewayPage)
class ListGateways(OfElection, frozen=True, kw_only=True):
    """Gateways whose key comes behind `after` (empty: all)."""

    after: bytes = b""
    limit: U32 = 500


@reply(by="elections")
class QueueReport(OfElection, frozen=True, kw_only=True):
    """Where a queue is, at `height`. `collecting`: the round to which a request belongs now; `voting`: whether votes are taken.

    `round`, `phase`: of the last ballot that was cut and stands, if there is one.
    """

    rules: QueueRules
    height: BlockNumber
    collecting: U32
    voting: bool
    round: U32 | None
    ballot: U64
    phase: RoundPhase | None
    waiting: U64
    gateways: U32


@query(to="elections", reply=QueueReport)
class GetQueue(OfElection, frozen=True, kw_only=True):
    """The course of a queue's elections."""


@rejection(by="elections")
class UnknownRound(Rejection, frozen=True, kw_only=True):
    """It was not cut, or too long ago."""

    round: U32
