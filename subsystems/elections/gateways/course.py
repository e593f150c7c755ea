"""What the chain makes of a queue: one step after the other, each of bounded work, in order of height.

A round stands while its cut and close blocks are on the best chain. The blocks of the rounds that stand are a line of ancestors, so only
the last round has to be looked at: while it stands, all before it do.
"""

from itertools import islice

import msgspec

from messages.elections import ElectionEvent
from messages.gateways import (
    Claim,
    ClaimsExpired,
    Heard,
    ItemResult,
    RequestsReturned,
    RoundClosed,
    RoundCut,
    RoundOutcome,
    RoundPhase,
    RoundResults,
    RoundRevoked,
    RoundsSkipped,
    StakeHolding,
    Standing,
)
from messages.signals import BlockRef
from overseer.tables import View
from subsystems.elections.chain import Chain
from subsystems.elections.gateways.decisions import behind
from subsystems.elections.gateways.ranking import ranked
from subsystems.elections.gateways.rounds import close_height, cut_height, round_at
from subsystems.elections.gateways.rows import (
    ASSIGNED,
    GATEWAYS,
    ITEMS,
    QUEUES,
    RESULTS,
    ROUNDS,
    WAITING,
    Ballot,
    Item,
    ItemState,
    Queue,
    account_of,
    ballot_of,
    queue_of,
    weights_of,
)
from subsystems.elections.rows import governed, key_hash

__all__ = ["Step", "events_of", "pending", "standings_of"]

# Bounds of one step, so that it takes some ten milliseconds and its event fits a message (18 432 values, 3 of each standing).
STANDINGS_PER_PAGE = 4_000
RESULTS_PER_PAGE = 500
# Requests looked at that are not in the ballot.
LOOKED_PER_PAGE = 4_000
RETURNED_PER_PAGE = 500
CLAIMS_PER_STEP = 100
# Standings ranked anew for claims.
CLAIM_STANDINGS_PER_STEP = 10_000


class Revoke(msgspec.Struct, frozen=True):
    """This ballot lost one of its blocks."""

    ballot: int


class Return(msgspec.Struct, frozen=True):
    """Requests of a revoked ballot are to be returned."""

    ballot: int


class Settle(msgspec.Struct, frozen=True):
    """Requests of a closed ballot are to be settled."""

    ballot: int


class Expire(msgspec.Struct, frozen=True):
    """The time to prove some requests ran out at this height."""

    height: int


class Close(msgspec.Struct, frozen=True):
    ballot: int
    block: BlockRef


class Cut(msgspec.Struct, frozen=True):
    round: int
    block: BlockRef


class Skip(msgspec.Struct, frozen=True):
    """Rounds that cannot be run, up to before `next`."""

    round: int
    next: int


Step = Revoke | Return | Settle | Expire | Close | Cut | Skip


# ------------------------------------------------------------------------------------------------ what is due


def pending(view: View, key: str) -> Step | None:
    """The next step, if one is due. In governance mode phases hold, but what lost its blocks is revoked."""
    election, chain = key_hash(key), Chain(view)
    queue = view.get(QUEUES, (election,))
    if queue is None or behind(queue, chain):
        return None
    if queue.revoking:
        return Return(queue.revoking)
    standing = ballot_of(view, election, queue.standing) if queue.standing else None
    if standing is not None and not _stands(chain, standing):
        return Revoke(queue.standing)
    if standing is not None and standing.phase is RoundPhase.CLOSING:
        return Settle(queue.standing)
    if governed(view):
        return None
    height, step = _next_phase(view, election, queue, chain)
    deadline = next((ASSIGNED.unpack(row)[1] for row, _ in view.scan_packed(ASSIGNED, (election,))), None)
    # At the same height, what nobody proved is open again before it is cut.
    return Expire(deadline) if deadline is not None and deadline <= min(height, chain.height) else step


def _stands(chain: Chain, ballot: Ballot) -> bool:
    return chain.stands(ballot.cut) and (ballot.close is None or chain.stands(ballot.close))


def _next_phase(view: View, election: bytes, queue: Queue, chain: Chain) -> tuple[int, Step | None]:
    """The height of the next cut or close, and the step if the chain is there."""
    rules = queue.rules
    if queue.current:
        ballot = ballot_of(view, election, queue.current)
        height = close_height(rules, ballot.round)
        if height > chain.height:
            return height, None
        block = chain.block(height)
        # A close block that was forgotten before it was heeded decides no ties, and could never be seen to go.
        return height, Revoke(queue.current) if block is None else Close(queue.current, block)
    round = queue.next_round
    height = cut_height(rules, round)
    if height > chain.height:
        return height, None
    block = chain.block(height)
    if block is None:
        return height, Skip(round, round_at(rules, chain.row.lowest - 1))
    if any(cut == block.hash for _, cut in view.scan(ROUNDS, (election, round))):
        return height, Skip(round, round + 1)
    return height, Cut(round, block)


# ------------------------------------------------------------------------------------------------ what follows


def events_of(view: View, key: str, step: Step, at_ms: int, sequence: int) -> list[ElectionEvent]:
    """The events of a step, the first of them number `sequence`."""
    election, chain = key_hash(key), Chain(view)
    queue = queue_of(view, election)
    heard = Heard(chain.row.at_ms, chain.row.position)
    match step:
        case Revoke():
            ballot = ballot_of(view, election, step.ballot)
            return [
                RoundRevoked(
                    election=key,
                    at_ms=at_ms,
                    sequence=sequence,
                    round=ballot.round,
                    ballot=step.ballot,
                    cut=ballot.cut,
                    close=ballot.close,
                    heard=heard,
                )
            ]
        case Return():
            return [_returned(view, key, step.ballot, at_ms, sequence, heard)]
        case Settle():
            ballot = ballot_of(view, election, step.ballot)
            return [_results(view, key, step.ballot, ballot, at_ms, sequence, heard)]
        case Expire():
            return [_expired(view, key, step.height, at_ms, sequence, heard)]
        case Close():
            return _closed(view, key, step, at_ms, sequence, heard)
        case Cut():
            return [
                RoundCut(
                    election=key,
                    at_ms=at_ms,
                    sequence=sequence,
                    round=step.round,
                    ballot=queue.ballots + 1,
                    cut=step.block,
                    stakes=_eligible(view, election, queue, chain),
                    heard=heard,
                )
            ]
        case Skip():
            return [RoundsSkipped(election=key, at_ms=at_ms, round=step.round, next=step.next, heard=heard)]


def _eligible(view: View, election: bytes, queue: Queue, chain: Chain) -> list[StakeHolding]:
    """Bonded, declared, not paused, with the least stake; what backs assignments cannot be redistributed."""
    holdings: list[StakeHolding] = []
    for (_, account), gateway in view.scan(GATEWAYS, (election,)):
        stake = gateway.bonded - gateway.unbonding
        offered = gateway.declared and not gateway.paused and (not gateway.in_session or chain.in_session(account))
        if offered and stake >= queue.rules.stake_min and stake > gateway.held:
            holdings.append(StakeHolding(account, stake - gateway.held))
    return holdings


# ------------------------------------------------------------------------------------------------ closing


def _closed(view: View, key: str, step: Close, at_ms: int, sequence: int, heard: Heard) -> list[ElectionEvent]:
    """The close, and the first page of its results."""
    ballot = msgspec.structs.replace(ballot_of(view, key_hash(key), step.ballot), close=step.block)
    closed = RoundClosed(
        election=key, at_ms=at_ms, sequence=sequence, round=ballot.round, ballot=step.ballot, cut=ballot.cut, close=step.block, heard=heard
    )
    return [closed, _results(view, key, step.ballot, ballot, at_ms, sequence + 1, heard)]


def standings_of(view: View, election: bytes, ballot: int, arrival: int, accounts: dict[int, bytes]) -> list[Standing]:
    """Who gave a request which weight in a ballot. `accounts` remembers those that were looked up."""
    standings: list[Standing] = []
    for number, weight in weights_of(view, election, ballot, arrival):
        if number not in accounts:
            accounts[number] = account_of(view, election, number)
        standings.append(Standing(accounts[number], weight))
    return standings


def _results(view: View, key: str, number: int, ballot: Ballot, at_ms: int, sequence: int, heard: Heard) -> RoundResults:
    """The next page: requests in order of age, as many as fit."""
    assert ballot.close is not None
    election, rules = key_hash(key), queue_of(view, key_hash(key)).rules
    results: list[ItemResult] = []
    accounts: dict[int, bytes] = {}
    reached, standings_count, last = ballot.reached, 0, True
    waiting = view.scan(WAITING, (election,), start=(election, ballot.reached + 1), end=(election, ballot.last + 1))
    for looked, ((_, arrival), request) in enumerate(waiting):
        item = view.get(ITEMS, (election, request))
        assert item is not None
        standings = standings_of(view, election, number, arrival, accounts) if item.joined < number else []
        if (
            looked >= LOOKED_PER_PAGE
            or len(results) >= RESULTS_PER_PAGE
            or (results and standings_count + len(standings) > STANDINGS_PER_PAGE)
        ):
            last = False
            break
        reached = arrival
        if item.joined >= number:
            continue
        standings_count += len(standings)
        results.append(
            _result(request, item, ranked(standings, close=ballot.close.hash, item=request), rules.winners_max, rules.carries_max)
        )
    return RoundResults(
        election=key,
        at_ms=at_ms,
        sequence=sequence,
        round=ballot.round,
        ballot=number,
        page=ballot.page,
        last=last,
        results=results,
        reached=ballot.last if last else reached,
        heard=heard,
    )


def _result(request: bytes, item: Item, ranking: list[Standing], winners_max: int, carries_max: int) -> ItemResult:
    if ranking:
        return ItemResult(request, RoundOutcome.ASSIGNED, ranking[:winners_max], ranking[winners_max:])
    if item.carries < carries_max:
        return ItemResult(request, RoundOutcome.CARRIED, [], [])
    return ItemResult(request, RoundOutcome.EXPIRED, [], [], item.account, item.balance)


# ------------------------------------------------------------------------------------------------ afterwards


def _expired(view: View, key: str, height: int, at_ms: int, sequence: int, heard: Heard) -> ClaimsExpired:
    """Requests whose time ran out at `height`: the next alternate of each."""
    election = key_hash(key)
    claims: list[Claim] = []
    accounts: dict[int, bytes] = {}
    looked = 0
    for _, request in islice(view.scan(ASSIGNED, (election, height)), CLAIMS_PER_STEP):
        item = view.get(ITEMS, (election, request))
        assert item is not None
        close = ballot_of(view, election, item.ballot).close
        assert close is not None
        standings = standings_of(view, election, item.ballot, item.arrival, accounts)
        looked += len(standings)
        if claims and looked > CLAIM_STANDINGS_PER_STEP:
            break
        ranking = ranked(standings, close=close.hash, item=request)
        failed = [account_of(view, election, holder.gateway) for holder in item.holders]
        claims.append(Claim(request, failed, ranking[item.turns].gateway if item.turns < len(ranking) else None))
    return ClaimsExpired(election=key, at_ms=at_ms, sequence=sequence, height=height, claims=claims, heard=heard)


def _returned(view: View, key: str, number: int, at_ms: int, sequence: int, heard: Heard) -> RequestsReturned:
    """A page of what a revoked ballot had assigned."""
    election = key_hash(key)
    ballot = ballot_of(view, election, number)
    returned: list[bytes] = []
    executed: list[bytes] = []
    rows = list(islice(view.scan(RESULTS, (election, number), start=(election, number, ballot.reached + 1)), RETURNED_PER_PAGE + 1))
    for _, result in rows[:RETURNED_PER_PAGE]:
        item = view.get(ITEMS, (election, result.request))
        assert item is not None
        if item.ballot == number and item.state is ItemState.ASSIGNED:
            returned.append(result.request)
        elif item.ballot == number and item.state is ItemState.EXECUTED:
            executed.append(result.request)
    page = rows[:RETURNED_PER_PAGE]
    return RequestsReturned(
        election=key,
        at_ms=at_ms,
        sequence=sequence,
        round=ballot.round,
        ballot=number,
        returned=returned,
        executed=executed,
        reached=page[-1][0][2] if page else ballot.reached,
        last=len(rows) <= RETURNED_PER_PAGE,
        heard=heard,
    )
