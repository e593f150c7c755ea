"""One queue of gateways by the text of its rules alone: what may happen to it, and what it then is (docs/gateways.md).

`QueueModel` is told every event, in order, with what is known of the chain at that moment, and raises Violation for one that the rules
do not give.
"""

from typing import NamedTuple

import msgspec
from blake3 import blake3

from messages.elections import ElectionEvent
from messages.gateways import (
    ClaimsExpired,
    GatewayDeclared,
    ItemResult,
    QueueRules,
    RequestExecuted,
    RequestsReturned,
    RequestSubmitted,
    RoundClosed,
    RoundCut,
    RoundOutcome,
    RoundResults,
    RoundRevoked,
    RoundsSkipped,
    StakeBonded,
    StakeRedistributed,
    Standing,
    UnbondRequested,
)
from messages.signals import BestChain, BlockRef
from overseer.simulation.checks_course import differ, must, shown

__all__ = ["NAME", "Ballot", "Gateway", "Known", "QueueModel", "Request"]

NAME = "queues"


class Known:
    """What a node's elections have heard of the world."""

    def __init__(self) -> None:
        self.blocks: dict[int, bytes] = {}
        self.height = 0
        self.session: frozenset[bytes] = frozenset()
        self.governed = False

    def hear(self, message: BestChain) -> None:
        """Duplicates change nothing; what is no continuation of anything is ignored."""
        applied = list(message.applied)
        if not message.reverted and all(self.blocks.get(ref.number) == ref.hash for ref in applied):
            return
        first = min(ref.number for ref in (*message.reverted, *applied))
        if message.reverted and first > self.height + 1:
            # Somebody who was set back says again what was heard to its end.
            return
        if first == 0 or [ref.number for ref in applied] != list(range(first, first + len(applied))):
            return
        kept = {number: block for number, block in self.blocks.items() if number < first}
        if applied and not message.reverted and first <= self.height:
            # Known already at its beginning: what is above stays only if it is not contradicted there.
            while applied and self.blocks.get(applied[0].number) == applied[0].hash:
                ref = applied.pop(0)
                kept[ref.number] = ref.hash
                first += 1
        self.blocks = kept | {ref.number: ref.hash for ref in applied}
        self.height = first - 1 + len(applied)

    def stands(self, block: BlockRef) -> bool:
        lowest = min(self.blocks, default=1)
        return block.number <= self.height and (block.number < lowest or self.blocks.get(block.number) == block.hash)


class Gateway(msgspec.Struct):
    declared: bool = False
    paused: bool = False
    in_session: bool = False
    bonded: int = 0
    held: int = 0
    unbonding: int = 0
    unbonded: int = 0


class Request(msgspec.Struct):
    """`place`: open (in the ballot too), assigned, executed or expired. `waits`: so many cuts were due when it came; they leave it out."""

    arrival: int
    content: bytes
    size: int
    account: bytes
    balance: int
    waits: int
    place: str = "open"
    carries: int = 0
    ballot: int = 0
    turns: int = 0
    holders: dict[bytes, int] = {}
    deadline: int = 0
    executor: bytes | None = None
    flagged: bool = False


class Ballot(msgspec.Struct):
    """`phase`: voting, closing, closed, revoking, revoked. `items`: its requests by age; `settled`: how many of them are."""

    round: int
    cut: BlockRef
    stakes: dict[bytes, int]
    items: list[bytes]
    before: int
    close: BlockRef | None = None
    phase: str = "voting"
    weights: dict[bytes, dict[bytes, int]] = {}
    held: dict[bytes, int] = {}
    results: list[ItemResult] = []
    settled: int = 0
    returned: int = 0

    def used(self, gateway: bytes) -> int:
        return sum(cast.get(gateway, 0) for cast in self.weights.values())

    def ranking(self, request: bytes) -> list[Standing]:
        """From the greatest weight down; ties by a hash of the close block, the request and the gateway."""
        assert self.close is not None
        end = self.close.hash
        cast = {gateway: weight for gateway, weight in self.weights.get(request, {}).items() if weight}
        order = sorted(cast, key=lambda gateway: (-cast[gateway], blake3(end + request + gateway).digest()))
        return [Standing(gateway, cast[gateway]) for gateway in order]


class Stake(NamedTuple):
    free: int
    redistributed: int
    held: int


class QueueModel:
    """`ballots` by their number, from 1; `identities`: every (round, cut block) that ever was."""

    def __init__(self, rules: QueueRules, height: int, known: Known) -> None:
        self.rules = rules
        self.known = known
        self.next_round = max(0, height - rules.origin) // (rules.collect_blocks + 1)
        self.requests: dict[bytes, Request] = {}
        self.gateways: dict[bytes, Gateway] = {}
        self.ballots: dict[int, Ballot] = {}
        self.numbers: int = 0
        self.standing = 0
        self.current = 0
        self.revoking = 0
        self.identities: set[tuple[int, bytes]] = set()

    def cut_height(self, round: int) -> int:
        return self.rules.origin + (round + 1) * (self.rules.collect_blocks + 1)

    def close_height(self, round: int) -> int:
        return self.cut_height(round) + self.rules.vote_blocks + 1

    @property
    def ballot(self) -> Ballot | None:
        """The one that is voted on or being closed."""
        return self.ballots[self.current] if self.current else None

    def stands(self, ballot: Ballot) -> bool:
        known = self.known
        return known.stands(ballot.cut) and (ballot.close is None or known.stands(ballot.close))

    def stake(self, account: bytes) -> Stake:
        gateway, ballot = self.gateways[account], self.ballot
        redistributed = ballot.used(account) - ballot.held.get(account, 0) if ballot is not None and account in ballot.stakes else 0
        return Stake(gateway.bonded - gateway.held - redistributed, redistributed, gateway.held)

    def voting(self) -> bool:
        """Whether votes are taken at this height."""
        ballot = self.ballot
        if ballot is None or ballot.phase != "voting" or not self.known.stands(ballot.cut):
            return False
        return 0 <= self.known.height - self.cut_height(ballot.round) < self.rules.window_blocks

    def open_requests(self) -> list[bytes]:
        """Neither assigned nor done, by age."""
        return sorted((r for r, request in self.requests.items() if request.place == "open"), key=lambda r: self.requests[r].arrival)

    def in_ballot(self) -> list[bytes]:
        ballot = self.ballot
        return [] if ballot is None else ballot.items[ballot.settled :]

    def due(self) -> str:
        """What the chain makes due and was not done yet, or ""."""
        known, ballot = self.known, self.ballot
        if self.revoking:
            return "requests of a revoked ballot are to be returned"
        lost = [n for n, b in self.ballots.items() if b.phase in ("voting", "closing", "closed") and not self.stands(b)]
        if lost:
            return f"ballots {lost} rest on blocks that are gone"
        if ballot is not None and ballot.phase == "closing":
            return "results are to be told"
        if known.governed:
            return ""
        if ballot is not None and self.close_height(ballot.round) <= known.height:
            return f"round {ballot.round} is to be closed"
        if ballot is None and self.cut_height(self.next_round) <= known.height:
            return f"round {self.next_round} is to be cut"
        late = [r for r, request in self.requests.items() if request.place == "assigned" and request.deadline <= known.height]
        return f"claims of {shown(late)} are to expire" if late else ""

    # -------------------------------------------------------------------------------------------- what happens

    def take(self, event: ElectionEvent) -> None:
        match event:
            case RequestSubmitted():
                self._submitted(event)
            case StakeBonded():
                self.gateways.setdefault(event.gateway, Gateway()).bonded += event.amount
            case UnbondRequested():
                self.gateways[event.gateway].unbonding += event.amount
            case GatewayDeclared():
                gateway = self.gateways.setdefault(event.gateway, Gateway())
                gateway.declared, gateway.paused = True, event.paused
                gateway.in_session = event.gateway in self.known.session
            case StakeRedistributed():
                self._redistributed(event)
            case RequestExecuted():
                self._executed(event)
            case _:
                self._step(event)
        if not isinstance(event, StakeBonded):
            self._let_leave()
        self._conserved()

    def _step(self, event: ElectionEvent) -> None:
        """What the chain makes of the queue: not while a revoked ballot is on its way back."""
        must(NAME, not self.revoking or isinstance(event, RequestsReturned), f"{event.spec.name} before all is returned")
        must(
            NAME,
            not self.known.governed or isinstance(event, RequestsReturned | RoundRevoked | RoundResults),
            f"{event.spec.name} in governance mode",
        )
        match event:
            case RoundCut():
                self._cut(event)
            case RoundsSkipped():
                self._skipped(event)
            case RoundClosed():
                self._closed(event)
            case RoundResults():
                self._results(event)
            case ClaimsExpired():
                self._expired(event)
            case RoundRevoked():
                self._revoked(event)
            case RequestsReturned():
                self._returned(event)
            case _:
                must(NAME, False, f"{event.spec.key} is no event of a queue")

    def _let_leave(self) -> None:
        """What was unbonded leaves as soon as neither a ballot nor an assignment has a claim on it."""
        ballot = self.ballot
        for account, gateway in self.gateways.items():
            if gateway.unbonding:
                claimed = ballot.stakes.get(account, 0) - ballot.held.get(account, 0) if ballot is not None else 0
                leaves = min(gateway.unbonding, gateway.bonded - gateway.held - claimed)
                gateway.bonded, gateway.unbonding, gateway.unbonded = (
                    gateway.bonded - leaves,
                    gateway.unbonding - leaves,
                    gateway.unbonded + leaves,
                )

    def _conserved(self) -> None:
        held: dict[bytes, int] = {}
        for request in self.requests.values():
            must(NAME, bool(request.holders) == (request.place == "assigned"), "a request has holders and is not assigned")
            for account, amount in request.holders.items():
                held[account] = held.get(account, 0) + amount
        for account, gateway in self.gateways.items():
            stake = self.stake(account)
            fine = min(stake.free, stake.redistributed, stake.held, gateway.bonded) >= 0 and stake.held == held.get(account, 0)
            must(NAME, fine, f"stake of {account.hex()[:8]}: {stake} of {gateway.bonded}, {held.get(account, 0)} by its assignments")

    def _submitted(self, event: RequestSubmitted) -> None:
        waits = max(0, max(0, self.known.height - self.rules.origin) // (self.rules.collect_blocks + 1) - self.next_round)
        self.requests[event.request] = Request(
            len(self.requests) + 1, event.content, event.size, event.account, event.balance, waits, holders={}
        )

    def _redistributed(self, event: StakeRedistributed) -> None:
        ballot = self.ballot
        assert ballot is not None, "refusals are looked at first"
        must(NAME, event.ballot == self.current, f"a vote counts for ballot {event.ballot}, that of round {event.round} is {self.current}")
        ballot.weights.setdefault(event.item, {})[event.gateway] = event.amount

    def _release(self, request: Request) -> None:
        for account, amount in request.holders.items():
            self.gateways[account].held -= amount
        request.holders, request.deadline = {}, 0

    def _executed(self, event: RequestExecuted) -> None:
        request = self.requests[event.request]
        self._release(request)
        request.place, request.executor = "executed", event.executor

    # -------------------------------------------------------------------------------------------- rounds

    def _cut(self, event: RoundCut) -> None:
        height, known = self.cut_height(self.next_round), self.known
        must(NAME, not self.current, "a ballot is cut while another one is voted on")
        must(
            NAME,
            event.round == self.next_round and event.ballot == self.numbers + 1,
            f"round {event.round} is cut, {self.next_round} is next",
        )
        due = event.cut.number == height and known.blocks.get(height) == event.cut.hash and height <= known.height
        must(NAME, due, f"round {event.round} is cut at {event.cut}, due is {height} of {known.height}")
        must(NAME, (event.round, event.cut.hash) not in self.identities, f"round {event.round} is run twice under one identity")
        self.identities.add((event.round, event.cut.hash))
        differ(NAME, "eligible with their stakes", self._eligible(), [(each.gateway, each.stake) for each in event.stakes])
        waiting = self.open_requests()
        items = [r for r in waiting if not self.requests[r].waits]
        self.numbers, self.next_round = event.ballot, event.round + 1
        stakes = {each.gateway: each.stake for each in event.stakes}
        self.ballots[event.ballot] = Ballot(event.round, event.cut, stakes, items, self.standing, weights={}, held={}, results=[])
        self.standing = self.current = event.ballot
        self._one_cut_fewer(1)

    def _one_cut_fewer(self, cuts: int) -> None:
        for request in self.requests.values():
            request.waits = max(0, request.waits - cuts)

    def _eligible(self) -> list[tuple[bytes, int]]:
        found: list[tuple[bytes, int]] = []
        for account, gateway in self.gateways.items():
            stake = gateway.bonded - gateway.unbonding
            serves = gateway.declared and not gateway.paused and (not gateway.in_session or account in self.known.session)
            if serves and stake >= self.rules.stake_min and stake > gateway.held:
                found.append((account, stake - gateway.held))
        return found

    def _skipped(self, event: RoundsSkipped) -> None:
        block = self.known.blocks.get(self.cut_height(event.round))
        must(NAME, not self.current and event.round == self.next_round < event.next, f"rounds from {event.round} are skipped")
        run = block is None or (event.round, block) in self.identities
        must(NAME, run, f"round {event.round} is skipped, though it was never run at its block")
        self.numbers += event.next - event.round
        self.next_round = event.next
        self._one_cut_fewer(event.next - event.round)

    def _closed(self, event: RoundClosed) -> None:
        ballot, known = self.ballot, self.known
        must(NAME, ballot is not None and event.ballot == self.current, f"ballot {event.ballot} is closed, {self.current} is voted on")
        assert ballot is not None
        height = self.close_height(ballot.round)
        due = event.close.number == height <= known.height and known.blocks.get(height) == event.close.hash
        must(NAME, ballot.phase == "voting" and due, f"round {ballot.round} is closed at {event.close}, due is {height} of {known.height}")
        must(NAME, known.stands(ballot.cut), f"round {ballot.round} is closed, though its cut block is gone")
        ballot.phase, ballot.close = "closing", event.close

    def _results(self, event: RoundResults) -> None:
        ballot = self.ballot
        must(NAME, ballot is not None and event.ballot == self.current and ballot.phase == "closing", f"results of ballot {event.ballot}")
        assert ballot is not None
        for result in event.results:
            left = ballot.items[ballot.settled :]
            must(NAME, left[:1] == [result.request], f"the next result is of {result.request.hex()[:8]}, not of {shown(left[:1])}")
            due = self._result(ballot, result.request)
            must(NAME, result == due, f"the votes come to {due}, told is {result}")
            self._settle(ballot, event.ballot, result)
            ballot.results.append(result)
            ballot.settled += 1
        must(NAME, not event.last or ballot.settled == len(ballot.items), f"ballot {event.ballot} ends with {ballot.settled} results")
        if event.last:
            ballot.phase, self.current = "closed", 0

    def _result(self, ballot: Ballot, key: bytes) -> ItemResult:
        request, ranking = self.requests[key], ballot.ranking(key)
        if ranking:
            wins = self.rules.winners_max
            return ItemResult(key, RoundOutcome.ASSIGNED, ranking[:wins], ranking[wins:])
        if request.carries < self.rules.carries_max:
            return ItemResult(key, RoundOutcome.CARRIED, [], [])
        return ItemResult(key, RoundOutcome.EXPIRED, [], [], request.account, request.balance)

    def _settle(self, ballot: Ballot, number: int, result: ItemResult) -> None:
        request = self.requests[result.request]
        match result.outcome:
            case RoundOutcome.CARRIED:
                request.carries += 1
            case RoundOutcome.EXPIRED:
                request.place, request.ballot = "expired", number
            case RoundOutcome.ASSIGNED:
                assert ballot.close is not None
                request.place, request.ballot, request.turns = "assigned", number, len(result.winners)
                request.deadline = ballot.close.number + self.rules.claim_blocks
                request.holders = {winner.gateway: winner.weight for winner in result.winners}
                for account, weight in request.holders.items():
                    self.gateways[account].held += weight
                    ballot.held[account] = ballot.held.get(account, 0) + weight

    # -------------------------------------------------------------------------------------------- afterwards

    def _expired(self, event: ClaimsExpired) -> None:
        must(NAME, event.height <= self.known.height, f"claims expire at {event.height} of {self.known.height}")
        for claim in event.claims:
            request = self.requests[claim.request]
            must(NAME, request.place == "assigned" and request.deadline == event.height, f"a claim expires at {event.height}: {request}")
            ballot = self.ballots[request.ballot]
            differ(NAME, "who failed", list(request.holders), claim.failed)
            behind = ballot.ranking(claim.request)[request.turns :]
            next_one = behind[0] if behind else None
            due = next_one.gateway if next_one is not None else None
            must(NAME, claim.promoted == due, f"after {event.height} {shown([claim.promoted])} holds it, the next is {shown([due])}")
            self._release(request)
            if next_one is None:
                self._open_again(request)
            else:
                self._promote(request, next_one, event.height)

    def _promote(self, request: Request, alternate: Standing, height: int) -> None:
        """It holds what of its weight is free; that much it cannot redistribute in the present ballot any more."""
        self._let_leave()
        account, ballot, gateway = alternate.gateway, self.ballot, self.gateways[alternate.gateway]
        amount = min(alternate.weight, self.stake(account).free)
        gateway.held += amount
        if ballot is not None and account in ballot.stakes:
            ballot.stakes[account] = min(ballot.stakes[account], ballot.held.get(account, 0) + gateway.bonded - gateway.held)
        request.holders, request.turns, request.deadline = {account: amount}, request.turns + 1, height + self.rules.claim_blocks

    def _open_again(self, request: Request) -> None:
        request.place, request.ballot, request.turns, request.waits = "open", 0, 0, 0

    def _revoked(self, event: RoundRevoked) -> None:
        must(NAME, event.ballot == self.standing, f"ballot {event.ballot} is revoked, the last that stands is {self.standing}")
        ballot = self.ballots[event.ballot]
        height = self.close_height(ballot.round)
        unknown = ballot.phase == "voting" and height <= self.known.height and height not in self.known.blocks
        must(NAME, not self.stands(ballot) or unknown, f"round {ballot.round} is revoked, though its blocks stand")
        settled = ballot.phase != "voting"
        ballot.phase = "revoking" if settled else "revoked"
        self.current, self.standing, self.next_round = 0, ballot.before, ballot.round
        self.revoking = event.ballot if settled else 0

    def _returned(self, event: RequestsReturned) -> None:
        must(NAME, event.ballot == self.revoking != 0, f"requests of ballot {event.ballot} return, revoked is {self.revoking}")
        ballot = self.ballots[event.ballot]
        page: list[ItemResult] = []
        while ballot.returned < ballot.settled and self.requests[ballot.items[ballot.returned]].arrival <= event.reached:
            page.append(ballot.results[ballot.returned])
            ballot.returned += 1
        mine = [(each, request) for each in page if (request := self.requests[each.request]).ballot == event.ballot]
        returned = [each.request for each, request in mine if request.place == "assigned"]
        differ(NAME, f"returned of ballot {event.ballot}", returned, event.returned)
        differ(NAME, f"flagged of ballot {event.ballot}", [e.request for e, r in mine if r.place == "executed"], event.executed)
        for each in page:
            self._take_back(each, event.ballot)
        must(NAME, event.last == (ballot.returned == ballot.settled), f"the return of ballot {event.ballot} ends too early, or never")
        if event.last:
            ballot.phase, self.revoking = "revoked", 0

    def _take_back(self, result: ItemResult, number: int) -> None:
        request = self.requests[result.request]
        if request.ballot == number and request.place == "assigned":
            self._release(request)
            self._open_again(request)
        elif request.ballot == number:
            request.flagged = True
        elif result.outcome is RoundOutcome.CARRIED and request.place == "open":
            request.carries = max(0, request.carries - 1)
