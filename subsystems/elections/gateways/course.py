"""What the chain makes of a queue: one step after the other, each of bounded work, in order of height.

A round stands while its cut and close blocks are on the best chain. The blocks of the rounds that stand are a line of ancestors, so only
the last round has to be looked at: while it stands, all before it do.
"""

from itertools import islice
from typing import TypedDict

import msgspec

from messages.elections import ElectionEvent
from messages.gateways import (
    Claim,
    ClaimsExpired,
    Heard,
    ItemResult,
    QueueRules,
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
from subsystems.elections.gateways.config import GatewaysConfig
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

__all__ = ["Step", "events_of", "pending"]

# Requests looked at in one step that are not in the ballot.
_LOOKED_PER_STEP = 4_000


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
        return height, Skip(round, round_at(rules, chain.known_from(height) - 1))
    if any(cut == block.hash for _, cut in view.scan(ROUNDS, (election, round))):
        return height, Skip(round, round + 1)
    return height, Cut(round, block)


# ------------------------------------------------------------------------------------------------ what follows


class _Told(TypedDict):
    """The fields of every event here that is told."""

    election: str
    at_ms: int
    sequence: int
    heard: Heard


class _Accounts(dict[int, bytes]):
    """Gateways' accounts by number, each read once: a large close asks for them a million times."""

    def __init__(self, view: View, election: bytes) -> None:
        self._view = view
        self._election = election

    def __missing__(self, number: int) -> bytes:
        account = self[number] = account_of(self._view, self._election, number)
        return account


class _Draft:
    """A step that is being decided on: the queue, the chain, and what its events have in common."""

    def __init__(self, view: View, key: str, at_ms: int, sequence: int, config: GatewaysConfig) -> None:
        self.view = view
        self.election = key_hash(key)
        self.queue = queue_of(view, self.election)
        self.chain = Chain(view)
        self.config = config
        row = self.chain.row
        self.told = _Told(election=key, at_ms=at_ms, sequence=sequence, heard=Heard(row.at_ms, row.position))
        self._accounts = _Accounts(view, self.election)

    def item(self, request: bytes) -> Item:
        item = self.view.get(ITEMS, (self.election, request))
        assert item is not None
        return item

    def ballot(self, number: int) -> Ballot:
        return ballot_of(self.view, self.election, number)

    def account(self, number: int) -> bytes:
        return self._accounts[number]

    def standings(self, ballot: int, arrival: int) -> list[Standing]:
        """Who gave a request which weight."""
        accounts = self._accounts
        return [Standing(accounts[number], weight) for number, weight in weights_of(self.view, self.election, ballot, arrival)]


def events_of(view: View, key: str, step: Step, at_ms: int, sequence: int, config: GatewaysConfig) -> list[ElectionEvent]:
    """The events of a step, the first of them number `sequence`."""
    draft = _Draft(view, key, at_ms, sequence, config)
    match step:
        case Revoke(number):
            ballot = draft.ballot(number)
            return [RoundRevoked(**draft.told, round=ballot.round, ballot=number, cut=ballot.cut, close=ballot.close)]
        case Return(number):
            return [_returned(draft, number)]
        case Settle(number):
            return [_results(draft, number, draft.ballot(number))]
        case Expire(height):
            return [_expired(draft, height)]
        case Close(number, block):
            return _closed(draft, number, block)
        case Cut(round, block):
            return [RoundCut(**draft.told, round=round, ballot=draft.queue.ballots + 1, cut=block, stakes=_eligible(draft))]
        case Skip(round, next):
            return [RoundsSkipped(election=key, at_ms=at_ms, round=round, next=next, heard=draft.told["heard"])]


def _eligible(draft: _Draft) -> list[StakeHolding]:
    """Bonded, declared, not paused, with the least stake; what backs assignments cannot be redistributed."""
    holdings: list[StakeHolding] = []
    for (_, account), gateway in draft.view.scan(GATEWAYS, (draft.election,)):
        stake = gateway.bonded - gateway.unbonding
        offered = gateway.declared and not gateway.paused and (not gateway.in_session or draft.chain.in_session(account))
        if offered and stake >= draft.queue.rules.stake_min and stake > gateway.held:
            holdings.append(StakeHolding(account, stake - gateway.held))
    return holdings


# ------------------------------------------------------------------------------------------------ closing


def _closed(draft: _Draft, number: int, close: BlockRef) -> list[ElectionEvent]:
    """The close, and the first page of its results."""
    ballot = msgspec.structs.replace(draft.ballot(number), close=close)
    closed = RoundClosed(**draft.told, round=ballot.round, ballot=number, cut=ballot.cut, close=close)
    draft.told["sequence"] += 1
    return [closed, _results(draft, number, ballot)]


def _results(draft: _Draft, number: int, ballot: Ballot) -> RoundResults:
    """The next page: requests in order of age, as many as one step may settle."""
    assert ballot.close is not None
    election, config = draft.election, draft.config
    results: list[ItemResult] = []
    reached, standings_count, last = ballot.reached, 0, True
    waiting = draft.view.scan(WAITING, (election,), start=(election, ballot.reached + 1), end=(election, ballot.last + 1))
    for looked, ((_, arrival), request) in enumerate(waiting):
        item = draft.item(request)
        standings = draft.standings(number, arrival) if item.joined < number else []
        full = len(results) >= config.requests_per_step or (results and standings_count + len(standings) > config.standings_per_step)
        if full or looked >= _LOOKED_PER_STEP:
            last = False
            break
        reached = arrival
        # Requests that joined later, with an old age, are not in this ballot.
        if item.joined < number:
            standings_count += len(standings)
            ranking = ranked(standings, close=ballot.close.hash, item=request)
            results.append(_result(request, item, ranking, draft.queue.rules))
    return RoundResults(
        **draft.told,
        round=ballot.round,
        ballot=number,
        page=ballot.page,
        last=last,
        results=results,
        reached=ballot.last if last else reached,
    )


def _result(request: bytes, item: Item, ranking: list[Standing], rules: QueueRules) -> ItemResult:
    if ranking:
        return ItemResult(request, RoundOutcome.ASSIGNED, ranking[: rules.winners_max], ranking[rules.winners_max :])
    if item.carries < rules.carries_max:
        return ItemResult(request, RoundOutcome.CARRIED, [], [])
    return ItemResult(request, RoundOutcome.EXPIRED, [], [], item.account, item.balance)


# ------------------------------------------------------------------------------------------------ afterwards


def _expired(draft: _Draft, height: int) -> ClaimsExpired:
    """Requests whose time ran out at `height`, and the next alternate of each."""
    claims: list[Claim] = []
    looked = 0
    for _, request in islice(draft.view.scan(ASSIGNED, (draft.election, height)), draft.config.requests_per_step):
        item = draft.item(request)
        close = draft.ballot(item.ballot).close
        assert close is not None
        standings = draft.standings(item.ballot, item.arrival)
        looked += len(standings)
        if claims and looked > draft.config.standings_per_step:
            break
        ranking = ranked(standings, close=close.hash, item=request)
        failed = [draft.account(holder.gateway) for holder in item.holders]
        claims.append(Claim(request, failed, ranking[item.turns].gateway if item.turns < len(ranking) else None))
    return ClaimsExpired(**draft.told, height=height, claims=claims)


def _returned(draft: _Draft, number: int) -> RequestsReturned:
    """A page of what a revoked ballot had assigned."""
    ballot, limit = draft.ballot(number), draft.config.requests_per_step
    rows = draft.view.scan(RESULTS, (draft.election, number), start=(draft.election, number, ballot.reached + 1))
    found = list(islice(rows, limit + 1))
    page = [(arrival, result.request, draft.item(result.request)) for (_, _, arrival), result in found[:limit]]
    mine = [(request, item.state) for _, request, item in page if item.ballot == number]
    return RequestsReturned(
        **draft.told,
        round=ballot.round,
        ballot=number,
        returned=[request for request, state in mine if state is ItemState.ASSIGNED],
        executed=[request for request, state in mine if state is ItemState.EXECUTED],
        reached=page[-1][0] if page else ballot.reached,
        last=len(found) <= limit,
    )
