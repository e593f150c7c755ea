"""Queues of gateways beside their model: every command's outcome, every step, and at rest what is answered."""

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from messages.elections import ElectionEvent, OfElection
from messages.execution import execution_payload
from messages.gateway_queries import (
    ActiveRequests,
    AssignedRequestPage,
    AssignedRequests,
    ExecutionPage,
    ExecutionResults,
    GatewayPage,
    ListGateways,
    PendingRequests,
    RequestPage,
    Results,
    ResultsPage,
)
from messages.gateways import (
    Bond,
    DeclareGateway,
    GatewayDeclared,
    OpenQueue,
    QueueOpened,
    RedistributeStake,
    RequestExecuted,
    RequestSubmitted,
    StakeBonded,
    StakeRedistributed,
    SubmitExecutionProof,
    SubmitRequest,
    Unbond,
    UnbondRequested,
)
from messages.message import Message
from messages.signals import BestChain, GovernanceMode, GovernanceState, SessionChange
from overseer.simulation.checks_course import Input, ask, differ, must
from overseer.simulation.queue_model import NAME, Known, QueueModel
from overseer.simulation.scenario import AtRest

__all__ = ["RECORDED", "QueuesAtRest", "differing", "faults_of"]

# Command -> the event that records it.
RECORDED: dict[type[OfElection], type[ElectionEvent]] = {
    SubmitRequest: RequestSubmitted,
    Bond: StakeBonded,
    Unbond: UnbondRequested,
    DeclareGateway: GatewayDeclared,
    RedistributeStake: StakeRedistributed,
    SubmitExecutionProof: RequestExecuted,
    OpenQueue: QueueOpened,
}
# Queues that there may be (`disputes_cast`).
_QUEUES_MAX = 2


class QueuesAtRest:
    """All queues of one node, and what its elections know of the chain."""

    def __init__(self) -> None:
        self.known = Known()
        self.queues: dict[str, QueueModel] = {}

    def take(self, given: Input) -> None:
        """First the world, then the command's outcome, then what happened."""
        message, events = given.message, [event for event in given.events if isinstance(event, ElectionEvent)]
        match message:
            case BestChain() if message.reverted or message.applied:
                self.known.hear(message)
            case GovernanceMode():
                self.known.governed = message.state is GovernanceState.ENTERED
            case SessionChange():
                self.known.session = frozenset(validator.key for validator in message.validators)
            case OfElection():
                self._decided(message, given.code, events)
            case _:
                pass
        for event in events:
            if isinstance(event, QueueOpened):
                self.queues[event.election] = QueueModel(event.rules, self.known.height, self.known)
            else:
                self.queues[event.election].take(event)

    def _decided(self, command: OfElection, code: str, events: list[ElectionEvent]) -> None:
        faults = faults_of(command, self.queues, self.known)
        fitting = code in faults if faults else code == "accepted"
        must(NAME, fitting, f"{command.spec.name} came to {code}, the rules say {sorted(faults) or 'accepted'}")
        if code != "accepted":
            must(NAME, not events, f"{command.spec.name} was refused and recorded")
            return
        if isinstance(command, RedistributeStake) and not events:
            ballot = self.queues[command.election].ballot
            before = 0 if ballot is None else ballot.weights.get(command.item, {}).get(command.gateway, 0)
            must(NAME, before == command.amount, f"a weight of {command.amount} was accepted and not recorded, it was {before}")
            return
        recorded = len(events) == 1 and isinstance(events[0], RECORDED[type(command)])
        must(NAME, recorded, f"{command.spec.name} was recorded as {[e.spec.name for e in events]}")
        other = differing(command, events[0])
        must(NAME, not other, f"{command.spec.name} was recorded with another {', '.join(other)}")

    # -------------------------------------------------------------------------------------------- at rest

    def at_rest(self, rest: AtRest, node: str) -> None:
        for name, queue in sorted(self.queues.items()):
            due = queue.due()
            must(NAME, not due, f"{name}, at height {self.known.height}: {due}")
            self._requests(rest, node, name, queue)
            self._stakes(rest, node, name, queue)
            self._rounds(rest, node, name, queue)

    def _requests(self, rest: AtRest, node: str, name: str, queue: QueueModel) -> None:
        """Each in one place, in order of age."""
        pending = [row.request for row in ask(NAME, rest, node, PendingRequests(election=name), RequestPage).requests]
        active = [row.request for row in ask(NAME, rest, node, ActiveRequests(election=name), RequestPage).requests]
        assigned = ask(NAME, rest, node, AssignedRequests(election=name), AssignedRequestPage).requests
        ballot = queue.in_ballot()
        opened = [request for request in queue.open_requests() if request not in ballot]
        must(NAME, active == ballot, f"{name}: the ballot")
        must(NAME, pending == opened, f"{name}: {len(pending)} are answered as open, {len(opened)} are")
        found = [(row.request, sorted((h.gateway, h.weight) for h in row.holders), row.deadline) for row in assigned]
        due = [(r, sorted(q.holders.items()), q.deadline) for r, q in queue.requests.items() if q.place == "assigned"]
        differ(NAME, f"{name}: assigned", [str(each) for each in due], [str(each) for each in found])

    def _stakes(self, rest: AtRest, node: str, name: str, queue: QueueModel) -> None:
        reports = ask(NAME, rest, node, ListGateways(election=name), GatewayPage).gateways
        differ(NAME, f"{name}: gateways", list(queue.gateways), [report.gateway for report in reports])
        for report in reports:
            gateway, stake = queue.gateways[report.gateway], queue.stake(report.gateway)
            must(NAME, report.free + report.redistributed + report.held == report.bonded, f"{name}: stake is not conserved: {report}")
            found = (report.bonded, report.free, report.redistributed, report.held, report.unbonding, report.unbonded)
            due = (gateway.bonded, *stake, gateway.unbonding, gateway.unbonded)
            must(NAME, found == due, f"{name}: stake of {report.gateway.hex()[:8]} is {found}, the rules say {due}")

    def _rounds(self, rest: AtRest, node: str, name: str, queue: QueueModel) -> None:
        """Of each round the last ballot: its results, and what became of them."""
        last = {ballot.round: number for number, ballot in sorted(queue.ballots.items())}
        for round, number in last.items():
            ballot = queue.ballots[number]
            results = ask(NAME, rest, node, Results(election=name, round=round), ResultsPage)
            must(NAME, (results.ballot, results.phase.value) == (number, ballot.phase), f"{name}: round {round} is {results.phase.value}")
            must(NAME, results.results == ballot.results, f"{name}: results of round {round}")
            for row in ask(NAME, rest, node, ExecutionResults(election=name, round=round), ExecutionPage).executions:
                request = queue.requests[row.request]
                mine = request.place == "executed" and request.ballot == number
                due = (request.executor, request.flagged) if mine else (None, False)
                must(NAME, (row.executor, row.revoked) == due, f"{name}: round {round}, {row.request.hex()[:8]} by {row.executor}")
                must(NAME, not mine or request.flagged == (ballot.phase == "revoked"), f"{name}: round {round} is executed without a flag")


def differing(command: OfElection, event: Message) -> list[str]:
    """What both say, and say otherwise."""
    common = [name for name in command.__struct_fields__ if name in event.__struct_fields__]
    return [name for name in common if getattr(command, name) != getattr(event, name)]


def faults_of(command: OfElection, queues: dict[str, QueueModel], known: Known) -> set[str]:
    """The refusals that fit a command as things are: none, and it must be accepted."""
    queue = queues.get(command.election)
    if isinstance(command, OpenQueue):
        return _faults_of_opening(command, queues, known)
    if queue is None:
        return {"unknown_election"}
    match command:
        case SubmitRequest():
            return {"duplicate_request"} if command.request in queue.requests else set()
        case Unbond():
            gateway = queue.gateways.get(command.gateway)
            return {"insufficient_stake"} if gateway is None or command.amount > gateway.bonded - gateway.unbonding else set()
        case RedistributeStake():
            return _faults_of_vote(command, queue)
        case SubmitExecutionProof():
            return _faults_of_proof(command, queue)
        case _:
            return set()


def _faults_of_opening(command: OpenQueue, queues: dict[str, QueueModel], known: Known) -> set[str]:
    faults = {"wrong_phase"} if command.election in queues else set[str]()
    faults |= {"governance_held"} if known.governed else set()
    faults |= {"malformed_queue"} if (command.vote_blocks or 0) > (command.collect_blocks or 0) else set()
    return faults | ({"queue_full"} if len(queues) == _QUEUES_MAX else set())


def _faults_of_vote(command: RedistributeStake, queue: QueueModel) -> set[str]:
    ballot = queue.ballot
    if ballot is None or not queue.voting() or ballot.round != command.round:
        return {"wrong_phase"}
    faults = set[str]()
    if command.gateway not in ballot.stakes:
        faults.add("not_eligible")
    if command.item not in ballot.items:
        faults.add("unknown_item")
    before = ballot.weights.get(command.item, {}).get(command.gateway, 0)
    if not faults and ballot.used(command.gateway) - before + command.amount > ballot.stakes[command.gateway]:
        faults.add("insufficient_stake")
    return faults


def _faults_of_proof(command: SubmitExecutionProof, queue: QueueModel) -> set[str]:
    request = queue.requests.get(command.request)
    if request is None:
        return {"unknown_item"}
    if request.executor is not None:
        return {"already_executed"}
    ballot = queue.ballots.get(request.ballot)
    if ballot is None or command.executor not in request.holders or ballot.phase not in ("closing", "closed") or not queue.stands(ballot):
        return {"not_authorized"}
    right = (command.round, command.content, command.size) == (ballot.round, request.content, request.size)
    return set() if right and _signed(command) else {"bad_proof"}


def _signed(proof: SubmitExecutionProof) -> bool:
    """Every gateway of the simulation has an Ed25519 key."""
    payload = execution_payload(
        proof.election, round=proof.round, request=proof.request, executor=proof.executor, content=proof.content, size=proof.size
    )
    try:
        VerifyKey(proof.executor).verify(payload, proof.signature)
    except BadSignatureError:
        return False
    return True
