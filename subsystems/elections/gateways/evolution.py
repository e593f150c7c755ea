"""Applying the events of a queue to its rows."""

from collections.abc import Callable
from typing import Any

import msgspec

from messages.elections import ElectionEvent
from messages.gateways import (
    Claim,
    ClaimsExpired,
    GatewayDeclared,
    Heard,
    QueueOpened,
    RequestExecuted,
    RequestsReturned,
    RequestSubmitted,
    RoundClosed,
    RoundCut,
    RoundOutcome,
    RoundPhase,
    RoundResults,
    RoundRevoked,
    RoundsSkipped,
    StakeBonded,
    StakeRedistributed,
    UnbondRequested,
)
from overseer.tables import Tables
from subsystems.elections.gateways.rows import (
    ACCOUNTS,
    ASSIGNED,
    BALLOTS,
    GATEWAYS,
    ITEMS,
    QUEUES,
    RESULTS,
    ROUNDS,
    STAKES,
    UNBONDING,
    WAITING,
    WEIGHTS,
    Ballot,
    Gateway,
    Holder,
    Item,
    ItemState,
    Queue,
    Result,
    Snapshot,
    account_of,
    ballot_of,
    free_stake,
    gateway_of,
    queue_of,
)
from subsystems.elections.rows import key_hash

__all__ = ["apply"]

_replace = msgspec.structs.replace


def apply(tables: Tables, event: ElectionEvent) -> None:
    """One event."""
    _APPLY[type(event)](tables, key_hash(event.election), event)


# ------------------------------------------------------------------------------------------------ the queue


def _opened(tables: Tables, election: bytes, event: QueueOpened) -> None:
    heard = event.heard
    queue = Queue(rules=event.rules, next_round=event.first_round, heard_ms=heard.at_ms, heard_at=heard.position)
    tables.put(QUEUES, (election,), queue)


def _change(tables: Tables, election: bytes, **changed: int) -> Queue:
    queue = _replace(queue_of(tables, election), **changed)
    tables.put(QUEUES, (election,), queue)
    return queue


def _stepped(tables: Tables, election: bytes, heard: Heard, **changed: int) -> Queue:
    """As _change, of a step that rests on the chain."""
    queue = queue_of(tables, election)
    known = max((queue.heard_ms, queue.heard_at), (heard.at_ms, heard.position))
    return _change(tables, election, heard_ms=known[0], heard_at=known[1], **changed)


def _submitted(tables: Tables, election: bytes, event: RequestSubmitted) -> None:
    queue = queue_of(tables, election)
    arrival = queue.arrivals + 1
    item = Item(
        arrival=arrival,
        content=event.content,
        size=event.size,
        account=event.account,
        balance=event.balance,
        round=event.round,
        joined=queue.ballots + event.behind,
    )
    tables.put(ITEMS, (election, event.request), item)
    tables.put(WAITING, (election, arrival), event.request)
    _change(tables, election, arrivals=arrival, waiting=queue.waiting + 1)


def _item(tables: Tables, election: bytes, request: bytes) -> Item:
    item = tables.get(ITEMS, (election, request))
    assert item is not None
    return item


# ------------------------------------------------------------------------------------------------ gateways


def _known(tables: Tables, election: bytes, account: bytes) -> Gateway:
    """The gateway's row; a new one gets the next number."""
    gateway = tables.get(GATEWAYS, (election, account))
    if gateway is None:
        number = queue_of(tables, election).gateways + 1
        gateway = Gateway(number=number)
        tables.put(ACCOUNTS, (election, number), account)
        _change(tables, election, gateways=number)
    return gateway


def _bonded(tables: Tables, election: bytes, event: StakeBonded) -> None:
    gateway = _known(tables, election, event.gateway)
    tables.put(GATEWAYS, (election, event.gateway), _replace(gateway, bonded=gateway.bonded + event.amount))


def _declared(tables: Tables, election: bytes, event: GatewayDeclared) -> None:
    gateway = _known(tables, election, event.gateway)
    declared = _replace(gateway, declared=True, scheme=event.scheme, paused=event.paused, in_session=event.in_session)
    tables.put(GATEWAYS, (election, event.gateway), declared)


def _unbond_requested(tables: Tables, election: bytes, event: UnbondRequested) -> None:
    gateway = gateway_of(tables, election, event.gateway)
    _put_gateway(tables, election, event.gateway, _replace(gateway, unbonding=gateway.unbonding + event.amount))


def _put_gateway(tables: Tables, election: bytes, account: bytes, gateway: Gateway) -> None:
    """The row, after what is free of the stake that wants to leave has left (G24)."""
    if gateway.unbonding:
        _, _, reserved = free_stake(tables, election, queue_of(tables, election), gateway)
        leaves = min(gateway.unbonding, gateway.bonded - gateway.held - reserved)
        gateway = _replace(
            gateway, bonded=gateway.bonded - leaves, unbonding=gateway.unbonding - leaves, unbonded=gateway.unbonded + leaves
        )
        if gateway.unbonding:
            tables.put(UNBONDING, (election, gateway.number), b"")
        else:
            tables.delete(UNBONDING, (election, gateway.number))
    tables.put(GATEWAYS, (election, account), gateway)


def _let_leave(tables: Tables, election: bytes) -> None:
    """The ballot let go of the stakes: what waited to leave, and is not held, leaves."""
    for (_, number), _ in list(tables.scan(UNBONDING, (election,))):
        account = account_of(tables, election, number)
        _put_gateway(tables, election, account, gateway_of(tables, election, account))


def _redistributed(tables: Tables, election: bytes, event: StakeRedistributed) -> None:
    number = gateway_of(tables, election, event.gateway).number
    arrival = _item(tables, election, event.item).arrival
    weight, stake = (election, event.ballot, arrival, number), (election, event.ballot, number)
    before = int.from_bytes(tables.get(WEIGHTS, weight) or b"", "big")
    snapshot = tables.get(STAKES, stake)
    assert snapshot is not None
    tables.put(STAKES, stake, Snapshot(snapshot.stake, snapshot.used - before + event.amount, snapshot.held))
    if event.amount:
        tables.put(WEIGHTS, weight, event.amount.to_bytes(8, "big"))
    else:
        tables.delete(WEIGHTS, weight)


# ------------------------------------------------------------------------------------------------ rounds


def _cut(tables: Tables, election: bytes, event: RoundCut) -> None:
    queue = queue_of(tables, election)
    for holding in event.stakes:
        number = gateway_of(tables, election, holding.gateway).number
        tables.put(STAKES, (election, event.ballot, number), Snapshot(holding.stake))
    ballot = Ballot(round=event.round, phase=RoundPhase.VOTING, cut=event.cut, last=queue.arrivals, before=queue.standing)
    tables.put(BALLOTS, (election, event.ballot), ballot)
    tables.put(ROUNDS, (election, event.round, event.ballot), event.cut.hash)
    oldest = _forgotten(tables, election, queue, event.ballot)
    number = event.ballot
    _stepped(tables, election, event.heard, ballots=number, standing=number, current=number, next_round=event.round + 1, oldest=oldest)


# Ballots forgotten with one cut at most: more than one, so that they become fewer again after some had to be kept.
_FORGOTTEN_PER_CUT = 4


def _forgotten(tables: Tables, election: bytes, queue: Queue, number: int) -> int:
    """Drop the votes and results of ballots too far back; those with requests that wait for proof are kept, and all behind them."""
    oldest = queue.oldest
    for _ in range(_FORGOTTEN_PER_CUT):
        ballot = tables.get(BALLOTS, (election, oldest))
        if oldest + queue.rules.rounds_kept > number or (ballot is not None and ballot.assigned):
            break
        for table in (STAKES, WEIGHTS, RESULTS):
            tables.delete_range(table, (election, oldest))
        oldest += 1
    return oldest


def _skipped(tables: Tables, election: bytes, event: RoundsSkipped) -> None:
    ballots = queue_of(tables, election).ballots + event.next - event.round
    _stepped(tables, election, event.heard, next_round=event.next, ballots=ballots)


def _closed(tables: Tables, election: bytes, event: RoundClosed) -> None:
    ballot = ballot_of(tables, election, event.ballot)
    tables.put(BALLOTS, (election, event.ballot), _replace(ballot, phase=RoundPhase.CLOSING, close=event.close))
    _stepped(tables, election, event.heard)


def _results(tables: Tables, election: bytes, event: RoundResults) -> None:
    ballot, queue = ballot_of(tables, election, event.ballot), queue_of(tables, election)
    assert ballot.close is not None
    assigned = gone = 0
    for result in event.results:
        item = _item(tables, election, result.request)
        tables.put(RESULTS, (election, event.ballot, item.arrival), Result(result.request, result.outcome))
        match result.outcome:
            case RoundOutcome.CARRIED:
                item = _replace(item, carries=item.carries + 1)
            case RoundOutcome.EXPIRED:
                item = _replace(item, state=ItemState.EXPIRED, ballot=event.ballot)
            case RoundOutcome.ASSIGNED:
                holders = tuple(_hold_vote(tables, election, event.ballot, each.gateway, each.weight) for each in result.winners)
                deadline = ballot.close.number + queue.rules.claim_blocks
                item = _assigned(tables, election, result.request, item, holders, deadline)
                item = _replace(item, ballot=event.ballot, turns=len(holders))
                assigned += 1
        if result.outcome is not RoundOutcome.CARRIED:
            tables.delete(WAITING, (election, item.arrival))
            gone += 1
        tables.put(ITEMS, (election, result.request), item)
    phase = RoundPhase.CLOSED if event.last else RoundPhase.CLOSING
    settled = _replace(ballot, phase=phase, reached=event.reached, page=ballot.page + 1, assigned=ballot.assigned + assigned)
    tables.put(BALLOTS, (election, event.ballot), settled)
    _stepped(tables, election, event.heard, waiting=queue.waiting - gone, current=0 if event.last else queue.current)
    if event.last:
        _let_leave(tables, election)


def _hold_vote(tables: Tables, election: bytes, ballot: int, account: bytes, weight: int) -> Holder:
    """A winner's weight is no longer redistributed, but held."""
    gateway = gateway_of(tables, election, account)
    stake = (election, ballot, gateway.number)
    snapshot = tables.get(STAKES, stake)
    assert snapshot is not None
    tables.put(STAKES, stake, Snapshot(snapshot.stake, snapshot.used, snapshot.held + weight))
    tables.put(GATEWAYS, (election, account), _replace(gateway, held=gateway.held + weight))
    return Holder(gateway.number, weight)


def _assigned(tables: Tables, election: bytes, request: bytes, item: Item, holders: tuple[Holder, ...], deadline: int) -> Item:
    tables.put(ASSIGNED, (election, deadline, item.arrival), request)
    return _replace(item, state=ItemState.ASSIGNED, holders=holders, deadline=deadline)


# ------------------------------------------------------------------------------------------------ assignments


def _withdrawn(tables: Tables, election: bytes, item: Item, *, failed: bool = False) -> Item:
    """Nobody holds it any more: their stakes are free. The caller says what it is now."""
    tables.delete(ASSIGNED, (election, item.deadline, item.arrival))
    for holder in item.holders:
        account = account_of(tables, election, holder.gateway)
        gateway = gateway_of(tables, election, account)
        failures = gateway.failures + failed
        _put_gateway(tables, election, account, _replace(gateway, held=gateway.held - holder.held, failures=failures))
    return _replace(item, holders=(), deadline=0)


def _open_again(tables: Tables, election: bytes, request: bytes, item: Item) -> Item:
    """Into the open queue with its age: the next ballot takes it."""
    queue = queue_of(tables, election)
    tables.put(WAITING, (election, item.arrival), request)
    _change(tables, election, waiting=queue.waiting + 1)
    return _replace(item, state=ItemState.WAITING, joined=queue.ballots, ballot=0, turns=0)


def _fewer_assigned(tables: Tables, election: bytes, number: int) -> None:
    ballot = ballot_of(tables, election, number)
    tables.put(BALLOTS, (election, number), _replace(ballot, assigned=ballot.assigned - 1))


def _executed(tables: Tables, election: bytes, event: RequestExecuted) -> None:
    item = _withdrawn(tables, election, _item(tables, election, event.request))
    _fewer_assigned(tables, election, event.ballot)
    executed = _replace(item, state=ItemState.EXECUTED, executor=event.executor, height=event.height)
    tables.put(ITEMS, (election, event.request), executed)


def _expired(tables: Tables, election: bytes, event: ClaimsExpired) -> None:
    for claim in event.claims:
        item = _item(tables, election, claim.request)
        number = item.ballot
        after = _withdrawn(tables, election, item, failed=True)
        if claim.promoted is not None:
            after = _promoted(tables, election, claim, after, event.height)
        else:
            _fewer_assigned(tables, election, number)
            after = _open_again(tables, election, claim.request, after)
        tables.put(ITEMS, (election, claim.request), after)
    _stepped(tables, election, event.heard)


def _promoted(tables: Tables, election: bytes, claim: Claim, item: Item, height: int) -> Item:
    """The next alternate holds it, with what of its weight is free: some may have been given to another ballot meanwhile.

    What it holds now cannot be redistributed in the present ballot any more.
    """
    assert claim.promoted is not None
    queue, gateway = queue_of(tables, election), gateway_of(tables, election, claim.promoted)
    weight = int.from_bytes(tables.get(WEIGHTS, (election, item.ballot, item.arrival, gateway.number)) or b"", "big")
    free, _, _ = free_stake(tables, election, queue, gateway)
    held = min(weight, free)
    stake = (election, queue.current, gateway.number)
    snapshot = tables.get(STAKES, stake) if queue.current else None
    if snapshot is not None:
        left = snapshot.held + gateway.bonded - gateway.held - held
        tables.put(STAKES, stake, Snapshot(min(snapshot.stake, left), snapshot.used, snapshot.held))
    tables.put(GATEWAYS, (election, claim.promoted), _replace(gateway, held=gateway.held + held))
    holders = (Holder(gateway.number, held),)
    promoted = _assigned(tables, election, claim.request, item, holders, height + queue.rules.claim_blocks)
    return _replace(promoted, turns=item.turns + 1)


# ------------------------------------------------------------------------------------------------ revocation


def _revoked(tables: Tables, election: bytes, event: RoundRevoked) -> None:
    """Nothing of it counts any more; its requests are returned page by page. Votes are kept for the record."""
    ballot, number = ballot_of(tables, election, event.ballot), event.ballot
    settled = ballot.phase is not RoundPhase.VOTING
    phase = RoundPhase.REVOKING if settled else RoundPhase.REVOKED
    tables.put(BALLOTS, (election, number), _replace(ballot, phase=phase, reached=0))
    revoking = number if settled else 0
    _stepped(tables, election, event.heard, revoking=revoking, current=0, standing=ballot.before, next_round=ballot.round)
    _let_leave(tables, election)


def _returned(tables: Tables, election: bytes, event: RequestsReturned) -> None:
    ballot = ballot_of(tables, election, event.ballot)
    results = tables.scan(
        RESULTS,
        (election, event.ballot),
        start=(election, event.ballot, ballot.reached + 1),
        end=(election, event.ballot, event.reached + 1),
    )
    returned, executed = set(event.returned), set(event.executed)
    for _, result in list(results):
        item = _item(tables, election, result.request)
        if result.request in returned:
            _fewer_assigned(tables, election, event.ballot)
            item = _open_again(tables, election, result.request, _withdrawn(tables, election, item))
        elif result.request in executed or (item.state is ItemState.EXPIRED and item.ballot == event.ballot):
            item = _replace(item, flagged=True)
        elif result.outcome is RoundOutcome.CARRIED and item.state is ItemState.WAITING:
            item = _replace(item, carries=max(0, item.carries - 1))
        tables.put(ITEMS, (election, result.request), item)
    after = ballot_of(tables, election, event.ballot)
    phase = RoundPhase.REVOKED if event.last else RoundPhase.REVOKING
    tables.put(BALLOTS, (election, event.ballot), _replace(after, phase=phase, reached=event.reached))
    _stepped(tables, election, event.heard, revoking=0 if event.last else event.ballot)


_APPLY: dict[type[ElectionEvent], Callable[[Tables, bytes, Any], None]] = {
    QueueOpened: _opened,
    RequestSubmitted: _submitted,
    StakeBonded: _bonded,
    UnbondRequested: _unbond_requested,
    GatewayDeclared: _declared,
    StakeRedistributed: _redistributed,
    RoundCut: _cut,
    RoundsSkipped: _skipped,
    RoundClosed: _closed,
    RoundResults: _results,
    RequestExecuted: _executed,
    ClaimsExpired: _expired,
    RoundRevoked: _revoked,
    RequestsReturned: _returned,
}
