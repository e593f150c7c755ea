"""Queries about a queue, each a page of bounded work."""

from itertools import islice

from messages.gateway_queries import (
    ActiveRequests,
    AssignedRequest,
    AssignedRequestPage,
    AssignedRequests,
    Execution,
    ExecutionPage,
    ExecutionResults,
    GatewayPage,
    GatewayReport,
    GetQueue,
    ListGateways,
    PendingRequests,
    QueuedRequest,
    QueueReport,
    RequestPage,
    Results,
    ResultsPage,
    UnknownRound,
)
from messages.gateways import ItemResult, RoundOutcome, Standing
from messages.message import Message, Rejection
from overseer.tables import View
from subsystems.elections.chain import Chain
from subsystems.elections.gateways.decisions import in_ballot, phase_of
from subsystems.elections.gateways.ranking import ranked
from subsystems.elections.gateways.rounds import round_at
from subsystems.elections.gateways.rows import (
    ASSIGNED,
    GATEWAYS,
    ITEMS,
    RESULTS,
    STAKES,
    WAITING,
    Gateway,
    Item,
    ItemState,
    Queue,
    account_of,
    ballot_of,
    free_stake,
    last_ballot,
    queue_of,
    weights_of,
)
from subsystems.elections.rows import key_hash

__all__ = ["ANSWERS", "answer"]

ANSWERS = (PendingRequests, ActiveRequests, AssignedRequests, Results, ExecutionResults, ListGateways, GetQueue)

# Rows of one page, and standings in one page of results; and rows that are looked at for one.
ROWS_MAX = 1_000
STANDINGS_MAX = 10_000
LOOKED_MAX = 4_000


def answer(view: View, query: Message) -> Message | Rejection:
    """Rejects with UnknownRound."""
    match query:
        case PendingRequests() | ActiveRequests():
            return _requests(view, query)
        case AssignedRequests():
            return _assigned(view, query)
        case Results():
            return _results(view, query)
        case ExecutionResults():
            return _executions(view, query)
        case ListGateways():
            return _gateways(view, query)
        case GetQueue():
            return _queue(view, query)
        case _:
            raise TypeError(f"{query.spec.key} is not answered by gateway elections")


def _item(view: View, election: bytes, request: bytes) -> Item:
    item = view.get(ITEMS, (election, request))
    assert item is not None
    return item


def _requests(view: View, query: PendingRequests | ActiveRequests) -> RequestPage:
    """Waiting requests: those in the ballot, or those that are not."""
    election, active = key_hash(query.election), isinstance(query, ActiveRequests)
    number = queue_of(view, election).current
    ballot = ballot_of(view, election, number) if number else None
    limit = min(query.limit, ROWS_MAX)
    found: list[QueuedRequest] = []
    reached = query.after
    end = (election, ballot.last + 1) if ballot is not None and active else None
    rows = view.scan(WAITING, (election,), start=(election, query.after + 1), end=end) if ballot is not None or not active else iter(())
    for looked, ((_, arrival), request) in enumerate(rows):
        if len(found) >= limit or looked >= LOOKED_MAX:
            break
        reached = arrival
        item = _item(view, election, request)
        if (ballot is not None and in_ballot(item, number, ballot)) == active:
            found.append(QueuedRequest(arrival, request, item.size, item.balance, item.round, item.carries))
    else:
        reached = 0
    round = ballot.round if ballot is not None and active else None
    return RequestPage(election=query.election, round=round, requests=found, next=reached or None)


def _assigned(view: View, query: AssignedRequests) -> AssignedRequestPage:
    election, limit = key_hash(query.election), min(query.limit, ROWS_MAX)
    start = (election, query.after_deadline, query.after + 1)
    rows = list(islice(view.scan(ASSIGNED, (election,), start=start), limit + 1))
    found: list[AssignedRequest] = []
    holding = 0
    for (_, deadline, arrival), request in rows[:limit]:
        item = _item(view, election, request)
        holding += len(item.holders)
        if found and holding > STANDINGS_MAX:
            break
        holders = [Standing(account_of(view, election, holder.gateway), holder.held) for holder in item.holders]
        round = ballot_of(view, election, item.ballot).round
        found.append(AssignedRequest(arrival, request, item.content, item.size, round, holders, deadline))
    return AssignedRequestPage(election=query.election, requests=found, more=len(rows) > len(found))


def _results(view: View, query: Results) -> ResultsPage | Rejection:
    election = key_hash(query.election)
    number = last_ballot(view, election, query.round)
    if number is None or number < queue_of(view, election).oldest:
        return UnknownRound(round=query.round)
    ballot, rules = ballot_of(view, election, number), queue_of(view, election).rules
    results: list[ItemResult] = []
    accounts: dict[int, bytes] = {}
    looked, reached, next = 0, query.after, None
    for (_, _, arrival), row in view.scan(RESULTS, (election, number), start=(election, number, query.after + 1)):
        if len(results) >= min(query.limit, ROWS_MAX) or looked > STANDINGS_MAX:
            next = reached
            break
        reached = arrival
        assert ballot.close is not None, "nothing is settled before the close"
        if row.outcome is RoundOutcome.EXPIRED:
            item = _item(view, election, row.request)
            results.append(ItemResult(row.request, row.outcome, [], [], item.account, item.balance))
            continue
        weights = weights_of(view, election, number, arrival)
        standings = [Standing(accounts.get(each) or accounts.setdefault(each, account_of(view, election, each)), w) for each, w in weights]
        ranking = ranked(standings, close=ballot.close.hash, item=row.request)
        looked += len(ranking)
        results.append(ItemResult(row.request, row.outcome, ranking[: rules.winners_max], ranking[rules.winners_max :]))
    return ResultsPage(
        election=query.election,
        round=query.round,
        ballot=number,
        phase=ballot.phase,
        cut=ballot.cut,
        close=ballot.close,
        results=results,
        next=next,
    )


def _executions(view: View, query: ExecutionResults) -> ExecutionPage | Rejection:
    election, limit = key_hash(query.election), min(query.limit, ROWS_MAX)
    number = last_ballot(view, election, query.round)
    if number is None or number < queue_of(view, election).oldest:
        return UnknownRound(round=query.round)
    rows = list(islice(view.scan(RESULTS, (election, number), start=(election, number, query.after + 1)), limit + 1))
    found: list[Execution] = []
    for _, row in rows[:limit]:
        item = _item(view, election, row.request)
        done = item.state is ItemState.EXECUTED and item.ballot == number
        found.append(
            Execution(row.request, row.outcome, item.executor if done else None, item.height if done else None, done and item.flagged)
        )
    next = rows[limit - 1][0][2] if len(rows) > limit else None
    return ExecutionPage(election=query.election, round=query.round, ballot=number, executions=found, next=next)


def _gateways(view: View, query: ListGateways) -> GatewayPage:
    election, limit = key_hash(query.election), min(query.limit, ROWS_MAX)
    queue = queue_of(view, election)
    # Keys have 32 bytes: behind a shorter one comes itself with zeros.
    start = (query.after + bytes(32))[:32]
    rows = view.scan(GATEWAYS, (election,), start=(election, start))
    found = list(islice(((account, row) for (_, account), row in rows if account > query.after), limit + 1))
    reports = [_gateway(view, election, queue, account, row) for account, row in found[:limit]]
    return GatewayPage(election=query.election, gateways=reports, more=len(found) > limit)


def _gateway(view: View, election: bytes, queue: Queue, account: bytes, row: Gateway) -> GatewayReport:
    free, redistributed, _ = free_stake(view, election, queue, row)
    snapshot = view.get(STAKES, (election, queue.current, row.number)) if queue.current else None
    return GatewayReport(
        account,
        row.scheme,
        row.declared,
        row.paused,
        row.in_session,
        row.bonded,
        free,
        redistributed,
        row.held,
        row.unbonding,
        row.unbonded,
        snapshot.stake if snapshot is not None else 0,
        row.failures,
    )


def _queue(view: View, query: GetQueue) -> QueueReport:
    election, chain = key_hash(query.election), Chain(view)
    queue = queue_of(view, election)
    standing = ballot_of(view, election, queue.standing) if queue.standing else None
    return QueueReport(
        election=query.election,
        rules=queue.rules,
        height=chain.height,
        collecting=round_at(queue.rules, chain.height),
        voting=phase_of(view, election, queue, chain) == "voting",
        round=standing.round if standing is not None else None,
        ballot=queue.standing,
        phase=standing.phase if standing is not None else None,
        waiting=queue.waiting,
        gateways=queue.gateways,
    )
