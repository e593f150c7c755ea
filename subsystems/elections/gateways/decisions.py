"""What becomes of a command: one event, or a typed refusal. What the chain makes of a queue is in `course`."""

from itertools import islice

from messages.elections import ElectionEvent, OfElection, UnknownElection, WrongPhase
from messages.execution import execution_payload
from messages.gateways import (
    AlreadyExecuted,
    BadProof,
    Bond,
    ChainBehind,
    DeclareGateway,
    DuplicateRequest,
    GatewayDeclared,
    Heard,
    InsufficientStake,
    MalformedQueue,
    NotAuthorized,
    NotEligible,
    OpenQueue,
    ProofFault,
    QueueFull,
    QueueOpened,
    QueueRules,
    RedistributeStake,
    RequestExecuted,
    RequestSubmitted,
    RoundPhase,
    StakeBonded,
    StakeRedistributed,
    SubmitExecutionProof,
    SubmitRequest,
    Unbond,
    UnbondRequested,
    UnknownItem,
)
from messages.message import Rejection
from overseer.subsystem import Check, Context
from overseer.tables import View
from subsystems.elections.chain import Chain
from subsystems.elections.gateways.config import GatewaysConfig
from subsystems.elections.gateways.rounds import fault, round_at, votes_taken
from subsystems.elections.gateways.rows import (
    GATEWAYS,
    ITEMS,
    QUEUES,
    STAKES,
    WEIGHTS,
    Ballot,
    Gateway,
    Item,
    ItemState,
    Queue,
    ballot_of,
)
from subsystems.elections.rows import key_hash

__all__ = ["PHASES", "behind", "decide", "in_ballot", "phase_of", "proof_check"]

# The largest stake of one gateway: what fits the messages.
STAKE_MAX = 2**63 - 1

_ALWAYS = ("submit_request", "bond", "unbond", "declare_gateway", "submit_execution_proof")
# Phase -> the commands taken in it. Quiet: the blocks between the voting window and the close.
PHASES: dict[str, tuple[str, ...]] = {
    "collecting": _ALWAYS,
    "voting": (*_ALWAYS, "redistribute_stake"),
    "quiet": _ALWAYS,
    "closing": _ALWAYS,
}


def decide(view: View, command: OfElection, context: Context, sequence: int, config: GatewaysConfig) -> ElectionEvent | Rejection | None:
    """The event of a command; None where it changes nothing."""
    if isinstance(command, OpenQueue):
        return _open(view, command, context, sequence, config)
    queue = view.get(QUEUES, (key_hash(command.election),))
    if queue is None:
        return UnknownElection(election=command.election)
    match command:
        case SubmitRequest():
            return _submit(view, command, queue, context, config)
        case Bond() | Unbond() | DeclareGateway():
            return _account(view, command, queue, context, config)
        case RedistributeStake():
            return _redistribute(view, command, queue, context)
        case SubmitExecutionProof():
            return _prove(view, command, queue, context, sequence)
        case _:
            raise TypeError(f"{command.spec.key} is not a command of gateway elections")


# ------------------------------------------------------------------------------------------------ the queue


def _open(view: View, command: OpenQueue, context: Context, sequence: int, config: GatewaysConfig) -> ElectionEvent | Rejection:
    if sequence != 1:
        return WrongPhase(phase="open", command=command.spec.name, allowed=list(_ALWAYS))
    rules = _rules(command, config)
    wrong = fault(rules)
    if wrong:
        return MalformedQueue(detail=wrong)
    if sum(1 for _ in islice(view.scan_packed(QUEUES), config.queues_max)) == config.queues_max:
        return QueueFull(what="queues", limit=config.queues_max)
    chain = Chain(view)
    return QueueOpened(
        election=command.election,
        at_ms=context.now_ms,
        sequence=sequence,
        rules=rules,
        height=chain.height,
        first_round=round_at(rules, chain.height),
        heard=Heard(chain.row.at_ms, chain.row.position),
    )


def _rules(command: OpenQueue, config: GatewaysConfig) -> QueueRules:
    def chosen(mine: int | None, otherwise: int) -> int:
        return otherwise if mine is None else mine

    usual = config.rules()
    vote_blocks = chosen(command.vote_blocks, usual.vote_blocks)
    # A window of another length of voting means nothing here.
    window = usual.window_blocks if command.vote_blocks is None else vote_blocks + 1
    return QueueRules(
        collect_blocks=chosen(command.collect_blocks, usual.collect_blocks),
        vote_blocks=vote_blocks,
        window_blocks=chosen(command.window_blocks, window),
        origin=chosen(command.origin, usual.origin),
        stake_min=chosen(command.stake_min, usual.stake_min),
        carries_max=chosen(command.carries_max, usual.carries_max),
        claim_blocks=chosen(command.claim_blocks, usual.claim_blocks),
        winners_max=chosen(command.winners_max, usual.winners_max),
        rounds_kept=usual.rounds_kept,
    )


def behind(queue: Queue, chain: Chain) -> bool:
    """Whether a step of the queue rests on more of the chain than is known here: another site wrote it, and this one must catch up."""
    return (chain.row.at_ms, chain.row.position) < (queue.heard_ms, queue.heard_at)


def phase_of(view: View, election: bytes, queue: Queue, chain: Chain) -> str:
    """One of PHASES."""
    return _phase(queue, ballot_of(view, election, queue.current) if queue.current else None, chain)


def _phase(queue: Queue, ballot: Ballot | None, chain: Chain) -> str:
    """`ballot`: the queue's present one."""
    if ballot is None:
        return "collecting"
    if ballot.phase is not RoundPhase.VOTING:
        return "closing"
    return "voting" if votes_taken(queue.rules, ballot.round, chain.height) else "quiet"


# ------------------------------------------------------------------------------------------------ requests


def _submit(view: View, command: SubmitRequest, queue: Queue, context: Context, config: GatewaysConfig) -> ElectionEvent | Rejection:
    if view.has(ITEMS, (key_hash(command.election), command.request)):
        return DuplicateRequest(request=command.request)
    if queue.waiting >= config.requests_max:
        return QueueFull(what="requests", limit=config.requests_max)
    round = round_at(queue.rules, Chain(view).height)
    return RequestSubmitted(
        election=command.election,
        at_ms=context.now_ms,
        request=command.request,
        content=command.content,
        size=command.size,
        account=command.account,
        balance=command.balance,
        round=round,
        # While a large close is in progress, later cuts may be due already: they were before this request.
        behind=max(0, round - queue.next_round),
    )


def in_ballot(item: Item, number: int, ballot: Ballot) -> bool:
    """Whether a request is in the ballot of that number, and not settled yet."""
    return item.state is ItemState.WAITING and item.joined < number and ballot.reached < item.arrival <= ballot.last


# ------------------------------------------------------------------------------------------------ gateways


def _account(
    view: View, command: Bond | Unbond | DeclareGateway, queue: Queue, context: Context, config: GatewaysConfig
) -> ElectionEvent | Rejection:
    election, account = command.election, command.gateway
    gateway = view.get(GATEWAYS, (key_hash(election), account))
    if isinstance(command, Unbond):
        return _unbond(command, gateway, context)
    if gateway is None and queue.gateways >= config.gateways_max:
        return QueueFull(what="gateways", limit=config.gateways_max)
    if isinstance(command, DeclareGateway):
        return GatewayDeclared(
            election=election,
            at_ms=context.now_ms,
            gateway=account,
            scheme=command.scheme,
            paused=command.paused,
            in_session=Chain(view).in_session(account),
        )
    available = STAKE_MAX - (gateway.bonded + gateway.unbonded if gateway is not None else 0)
    if command.amount > available:
        return InsufficientStake(available=available)
    return StakeBonded(election=election, at_ms=context.now_ms, gateway=account, amount=command.amount)


def _unbond(command: Unbond, gateway: Gateway | None, context: Context) -> ElectionEvent | Rejection:
    available = gateway.bonded - gateway.unbonding if gateway is not None else 0
    if command.amount > available:
        return InsufficientStake(available=available)
    return UnbondRequested(election=command.election, at_ms=context.now_ms, gateway=command.gateway, amount=command.amount)


def _redistribute(view: View, command: RedistributeStake, queue: Queue, context: Context) -> ElectionEvent | Rejection | None:
    election, chain = key_hash(command.election), Chain(view)
    if behind(queue, chain):
        return ChainBehind(height=chain.height)
    number = queue.current
    ballot = ballot_of(view, election, number) if number else None
    phase = _phase(queue, ballot, chain)
    if ballot is None or phase != "voting" or ballot.round != command.round or not chain.stands(ballot.cut):
        return WrongPhase(phase=phase, command=command.spec.name, allowed=list(PHASES[phase]))
    gateway = view.get(GATEWAYS, (election, command.gateway))
    snapshot = view.get(STAKES, (election, number, gateway.number)) if gateway is not None else None
    if gateway is None or snapshot is None:
        return NotEligible(gateway=command.gateway)
    item = view.get(ITEMS, (election, command.item))
    if item is None or not in_ballot(item, number, ballot):
        return UnknownItem(item=command.item)
    before = int.from_bytes(view.get(WEIGHTS, (election, number, item.arrival, gateway.number)) or b"", "big")
    available = snapshot.stake - snapshot.used + before
    if command.amount > available:
        return InsufficientStake(available=available)
    if command.amount == before:
        return None
    return StakeRedistributed(
        election=command.election,
        at_ms=context.now_ms,
        round=command.round,
        ballot=number,
        gateway=command.gateway,
        item=command.item,
        amount=command.amount,
    )


# ------------------------------------------------------------------------------------------------ execution


def proof_check(view: View, proof: SubmitExecutionProof) -> Check | None:
    """What a proof's signature must hold; None when its executor is no gateway of the queue."""
    gateway = view.get(GATEWAYS, (key_hash(proof.election), proof.executor))
    if gateway is None:
        return None
    payload = execution_payload(
        proof.election, round=proof.round, request=proof.request, executor=proof.executor, content=proof.content, size=proof.size
    )
    return Check(gateway.scheme.value, proof.executor, payload, proof.signature)


def _prove(view: View, command: SubmitExecutionProof, queue: Queue, context: Context, sequence: int) -> ElectionEvent | Rejection:
    election, chain = key_hash(command.election), Chain(view)
    item = view.get(ITEMS, (election, command.request))
    if item is None:
        return UnknownItem(item=command.request)
    if item.executor is not None:
        return AlreadyExecuted(executor=item.executor)
    if behind(queue, chain):
        return ChainBehind(height=chain.height)
    gateway = view.get(GATEWAYS, (election, command.executor))
    ballot = ballot_of(view, election, item.ballot) if item.state is ItemState.ASSIGNED else None
    holds = gateway is not None and any(holder.gateway == gateway.number for holder in item.holders)
    if ballot is None or not holds or not _stands(chain, ballot):
        return NotAuthorized(executor=command.executor)
    wrong = _fault(view, command, item, ballot, context)
    if wrong is not None:
        return BadProof(fault=wrong)
    return RequestExecuted(
        election=command.election,
        at_ms=context.now_ms,
        sequence=sequence,
        round=ballot.round,
        ballot=item.ballot,
        request=command.request,
        executor=command.executor,
        content=command.content,
        size=command.size,
        height=chain.height,
    )


def _stands(chain: Chain, ballot: Ballot) -> bool:
    """Derived, whatever was recorded: a round may have lost its blocks, and its revocation be on the way."""
    closed = ballot.phase in (RoundPhase.CLOSING, RoundPhase.CLOSED) and ballot.close is not None
    return closed and chain.stands(ballot.cut) and ballot.close is not None and chain.stands(ballot.close)


def _fault(view: View, proof: SubmitExecutionProof, item: Item, ballot: Ballot, context: Context) -> ProofFault | None:
    if proof.round != ballot.round:
        return ProofFault.ROUND
    if proof.content != item.content:
        return ProofFault.CONTENT
    if proof.size != item.size:
        return ProofFault.SIZE
    check = proof_check(view, proof)
    return None if check is not None and context.verify(check) else ProofFault.SIGNATURE
