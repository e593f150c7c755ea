"""What holds for gateway elections whatever happens: stake and requests are conserved, results follow from votes and close blocks."""

import random
from collections import Counter

import msgspec
import pytest
from blake3 import blake3
from queue_story import QUEUE, Story, account, digest, proof, submit, vote

from messages.elections import OfElection
from messages.gateway_queries import ActiveRequests, AssignedRequestPage, AssignedRequests, RequestPage
from messages.gateways import (
    Bond,
    DeclareGateway,
    RoundClosed,
    RoundOutcome,
    RoundPhase,
    RoundResults,
    StakeRedistributed,
    Standing,
    Unbond,
)
from messages.polkadot import Scheme
from messages.signals import GovernanceState
from subsystems.elections.chain import Chain
from subsystems.elections.gateways.config import GatewaysConfig
from subsystems.elections.gateways.rows import (
    ASSIGNED,
    BALLOTS,
    GATEWAYS,
    ITEMS,
    QUEUES,
    STAKES,
    WAITING,
    ItemState,
    free_stake,
    weights_of,
)
from subsystems.elections.rows import key_hash

E = key_hash(QUEUE)
NAMES = "ABC"
# Tiny steps, so that everything is paged, and short claims.
TINY = GatewaysConfig(
    collect_blocks=4, vote_blocks=4, claim_blocks=7, carries_max=2, winners_max=2, requests_per_step=1, standings_per_step=2, rounds_kept=3
)


class Course:
    """Anything happens at any time, refused or not, as the seed says; signals come in any order that a chain allows."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.story = self.make()
        self.deposited: Counter[bytes] = Counter()
        self.submitted: dict[bytes, str] = {}
        self.branches = 0
        for name in NAMES:
            self.bond(name, 100)
            self.tried(DeclareGateway(election=QUEUE, gateway=account(name), scheme=Scheme.ED25519))

    def make(self) -> Story:
        return Story(msgspec.structs.replace(TINY, window_blocks=self.chance.randint(1, 5)), chain_steps_max=2)

    def run(self, steps: int) -> None:
        kinds = {
            self.submit: 3,
            self.vote: 6,
            self.prove: 3,
            self.grow: 6,
            self.reorganise: 2,
            self.stakes: 2,
            self.session: 1,
            self.governance: 1,
            self.what_serves_stands: 2,
        }
        for _ in range(steps):
            self.chance.choices(list(kinds), list(kinds.values()))[0]()
            self.stake_is_conserved()
            self.requests_are_conserved()
        self.what_serves_stands()
        self.story.replays()
        results_follow_from_votes(self.story)

    def tried(self, command: OfElection) -> bool:
        return self.story.when(command).rejection is None

    def someone(self) -> str:
        return self.chance.choice(NAMES)

    # -------------------------------------------------------------------------------------------- what happens

    def bond(self, name: str, amount: int) -> None:
        if self.tried(Bond(election=QUEUE, gateway=account(name), amount=amount)):
            self.deposited[account(name)] += amount

    def stakes(self) -> None:
        """Somebody bonds, unbonds, pauses or comes back."""
        name = self.someone()
        self.bond(self.someone(), self.chance.randint(1, 60))
        self.tried(Unbond(election=QUEUE, gateway=account(name), amount=self.chance.randint(1, 80)))
        paused = self.chance.random() < 0.2
        self.tried(DeclareGateway(election=QUEUE, gateway=account(name), scheme=Scheme.ED25519, paused=paused))

    def submit(self) -> None:
        """New ones; and one of which the name was used, or not."""
        fresh = [f"i{len(self.submitted) + number}" for number in range(self.chance.randint(1, 3))]
        for name in [*fresh, f"i{self.chance.randint(0, 40)}"]:
            if self.tried(submit(name)):
                self.submitted[digest(name)] = name

    def vote(self) -> None:
        """On what is in the ballot, as a rule."""
        for _ in range(5):
            if self.story.queue().voting or self.chance.random() < 0.1:
                break
            self.story.reach(self.story.height + 1, f"{self.branches}")
        ballot = self.story.ask(ActiveRequests(election=QUEUE), RequestPage)
        known = [self.submitted[row.request] for row in ballot.requests] or ["i0"]
        for _ in range(self.chance.randint(1, 8)):
            self.tried(vote(self.someone(), self.chance.choice(known), 10 * self.chance.randint(0, 4), round=ballot.round or 0))

    def prove(self) -> None:
        """Something that is assigned, by one who holds it, as a rule."""
        page = self.story.ask(AssignedRequests(election=QUEUE), AssignedRequestPage)
        if page.requests:
            row = self.chance.choice(page.requests)
            key = self.chance.choice(row.holders).gateway
            holder = next(name for name in NAMES if account(name) == key)
            by = holder if self.chance.random() < 0.8 else self.someone()
            self.tried(proof(by, self.submitted[row.request], round=row.round))

    def grow(self) -> None:
        """A block or some; steps that go on by timers are through, or not, when the next command comes."""
        blocks = self.chance.choice((1, 1, 2, 3, 5, 12))
        self.story.reach(self.story.height + blocks, f"{self.branches}", settle=self.chance.random() < 0.7)

    def reorganise(self) -> None:
        keep = max(0, self.story.height - self.chance.randint(1, 12))
        if keep < self.story.height:
            self.branches += 1
            self.story.reach(keep + self.chance.randint(0, 13), f"{self.branches}", keep=keep, settle=self.chance.random() < 0.7)

    def session(self) -> None:
        self.story.session(*(name for name in NAMES if self.chance.random() < 0.9))

    def governance(self) -> None:
        """A while of it."""
        self.story.governance(GovernanceState.ENTERED)
        self.grow()
        self.stake_is_conserved()
        self.story.governance(GovernanceState.LEFT)

    # -------------------------------------------------------------------------------------------- what holds

    def stake_is_conserved(self) -> None:
        view = self.story.given.view
        queue = view.get(QUEUES, (E,))
        held: Counter[int] = Counter()
        for _, item in view.scan(ITEMS, (E,)):
            for holder in item.holders:
                held[holder.gateway] += holder.held
        for (_, name), row in view.scan(GATEWAYS, (E,)):
            free, redistributed, reserved = free_stake(view, E, queue, row)
            assert free + redistributed + row.held == row.bonded
            assert min(free, redistributed, row.bonded, row.held, row.unbonding) >= 0
            assert row.bonded + row.unbonded == self.deposited[name]
            assert row.held == held[row.number]
            assert reserved <= row.bonded - row.held, "what a ballot may still claim is there"
            if queue.current and redistributed:
                snapshot = view.get(STAKES, (E, queue.current, row.number))
                weights = sum(
                    w for _, i in view.scan(ITEMS, (E,)) for g, w in weights_of(view, E, queue.current, i.arrival) if g == row.number
                )
                assert snapshot.used == weights <= snapshot.stake

    def requests_are_conserved(self) -> None:
        view = self.story.given.view
        queue = view.get(QUEUES, (E,))
        states = {request: item for (_, request), item in view.scan(ITEMS, (E,))}
        assert states.keys() == self.submitted.keys()
        waiting = [request for _, request in view.scan(WAITING, (E,))]
        assert sorted(waiting) == sorted(r for r, item in states.items() if item.state is ItemState.WAITING)
        assert queue.waiting == len(waiting)
        assigned = [request for _, request in view.scan(ASSIGNED, (E,))]
        assert sorted(assigned) == sorted(r for r, item in states.items() if item.state is ItemState.ASSIGNED)
        of_ballots = Counter(item.ballot for item in states.values() if item.state is ItemState.ASSIGNED)
        assert all(row.assigned == of_ballots[number] for (_, number), row in view.scan(BALLOTS, (E,)))

    def what_serves_stands(self) -> None:
        """When all that is due was done, no assignment is left of a round whose blocks are gone."""
        self.story.given.settle()
        view = self.story.given.view
        chain = Chain(view)
        for (_, number), row in view.scan(BALLOTS, (E,)):
            if row.phase in (RoundPhase.VOTING, RoundPhase.CLOSING, RoundPhase.CLOSED):
                assert chain.stands(row.cut), number
                assert row.close is None or chain.stands(row.close)
            else:
                assert row.phase is RoundPhase.REVOKED
                assert row.assigned == 0


def results_follow_from_votes(story: Story) -> None:
    """Every result that was recorded, worked out again from the recorded votes and the close block."""
    weights: dict[tuple[int, bytes], dict[bytes, int]] = {}
    closes: dict[int, bytes] = {}
    for event in story.given.history:
        match event:
            case StakeRedistributed():
                weights.setdefault((event.ballot, event.item), {})[event.gateway] = event.amount
            case RoundClosed():
                closes[event.ballot] = event.close.hash
            case RoundResults():
                for row in event.results:
                    cast = {g: w for g, w in weights.get((event.ballot, row.request), {}).items() if w}
                    tie = {g: blake3(closes[event.ballot] + row.request + g).digest() for g in cast}
                    expected = [Standing(g, cast[g]) for g in sorted(cast, key=lambda g: (-cast[g], tie[g]))]
                    assert [*row.winners, *row.alternates] == expected
                    assert (row.outcome is RoundOutcome.ASSIGNED) == bool(cast)
            case _:
                pass


@pytest.mark.parametrize("seed", range(12))
def test_stake_and_requests_are_conserved_whatever_happens(seed: int) -> None:
    Course(seed).run(100)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(100, 500))
def test_many_more_courses_of_a_queue(seed: int) -> None:
    Course(seed).run(200)


@pytest.mark.parametrize("seed", range(5))
def test_the_result_is_the_same_whatever_the_order_of_arrival(seed: int) -> None:
    chance = random.Random(seed)
    commands: list[OfElection] = [vote(name, item, chance.choice((5, 10, 10))) for name in "ABCDEFGH" for item in "xyz"]

    def results(commands: list[OfElection], order: str) -> list[object]:
        story = Story()
        story.gateways(**dict.fromkeys(order, 100))
        story.done(submit("x"), submit("y"), submit("z"))
        story.reach(5)
        story.done(*commands)
        story.reach(9)
        return [story.results().results]

    expected = results(commands, "ABCDEFGH")
    chance.shuffle(commands)
    assert results(commands, "HGFEDCBA") == expected
