"""What holds for gateway elections whatever happens: stake and requests are conserved, results follow from votes and close blocks."""

import random
from collections import Counter

import msgspec
import pytest
from blake3 import blake3
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from queue_story import QUEUE, Story, account, digest, proof, submit, vote

from messages.elections import OfElection
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
ITEM_NAMES = [f"i{number}" for number in range(12)]
# Tiny steps, so that everything is paged, and short claims.
TINY = GatewaysConfig(
    collect_blocks=4, vote_blocks=4, claim_blocks=7, carries_max=2, winners_max=2, requests_per_step=1, standings_per_step=2, rounds_kept=3
)

gateways = st.sampled_from(NAMES)
items = st.sampled_from(ITEM_NAMES)


class Queue(RuleBasedStateMachine):
    """Anything may happen at any time, refused or not; signals come in any order that a chain allows."""

    @initialize(window=st.integers(1, 5))
    def begin(self, window: int) -> None:
        self.story = Story(msgspec.structs.replace(TINY, window_blocks=window), chain_steps_max=2)
        self.deposited: Counter[bytes] = Counter()
        self.submitted: set[bytes] = set()
        self.branches = 0

    def tried(self, command: OfElection) -> bool:
        return self.story.when(command).rejection is None

    @rule(name=gateways, amount=st.integers(1, 120))
    def bond(self, name: str, amount: int) -> None:
        if self.tried(Bond(election=QUEUE, gateway=account(name), amount=amount)):
            self.deposited[account(name)] += amount

    @rule(name=gateways, amount=st.integers(1, 120))
    def unbond(self, name: str, amount: int) -> None:
        self.tried(Unbond(election=QUEUE, gateway=account(name), amount=amount))

    @rule(name=gateways, paused=st.booleans())
    def declare(self, name: str, paused: bool) -> None:
        self.tried(DeclareGateway(election=QUEUE, gateway=account(name), scheme=Scheme.ED25519, paused=paused))

    @rule()
    def all_bonded_and_declared(self) -> None:
        for name in NAMES:
            self.bond(name, 100)
            self.declare(name, False)

    @rule(name=items)
    def submit(self, name: str) -> None:
        if self.tried(submit(name)):
            self.submitted.add(digest(name))

    @rule(name=gateways, item=items, amount=st.integers(0, 100))
    def vote(self, name: str, item: str, amount: int) -> None:
        present = self.story.queue()
        self.tried(vote(name, item, amount, round=present.round or 0))

    @rule(name=gateways, item=items)
    def prove(self, name: str, item: str) -> None:
        row = self.story.given.view.get(ITEMS, (E, digest(item)))
        ballot = self.story.given.view.get(BALLOTS, (E, row.ballot)) if row is not None else None
        self.tried(proof(name, item, round=ballot.round if ballot is not None else 0))

    @rule(blocks=st.integers(1, 12))
    def grow(self, blocks: int) -> None:
        self.story.reach(self.story.height + blocks, f"{self.branches}")

    @rule(back=st.integers(1, 14), blocks=st.integers(0, 15))
    def reorganise(self, back: int, blocks: int) -> None:
        keep = max(0, self.story.height - back)
        if keep == self.story.height:
            return
        self.branches += 1
        self.story.reach(keep + blocks, f"{self.branches}", keep=keep)

    @rule(blocks=st.integers(1, 12))
    def unheeded_steps_wait_for_their_timer(self, blocks: int) -> None:
        """A signal comes before the steps of the one before are through."""
        self.story.reach(self.story.height + blocks, f"{self.branches}", settle=False)

    @rule(name=st.lists(gateways, max_size=3))
    def session(self, name: list[str]) -> None:
        self.story.session(*name)

    @rule(state=st.sampled_from(GovernanceState))
    def governance(self, state: GovernanceState) -> None:
        self.story.governance(state)

    @rule()
    def settle(self) -> None:
        self.story.given.settle()

    @invariant()
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

    @invariant()
    def requests_are_conserved(self) -> None:
        view = self.story.given.view
        queue = view.get(QUEUES, (E,))
        states = {request: item for (_, request), item in view.scan(ITEMS, (E,))}
        assert set(states) == self.submitted
        waiting = [request for _, request in view.scan(WAITING, (E,))]
        assert sorted(waiting) == sorted(r for r, item in states.items() if item.state is ItemState.WAITING)
        assert queue.waiting == len(waiting)
        assigned = [request for _, request in view.scan(ASSIGNED, (E,))]
        assert sorted(assigned) == sorted(r for r, item in states.items() if item.state is ItemState.ASSIGNED)
        of_ballots = Counter(item.ballot for item in states.values() if item.state is ItemState.ASSIGNED)
        assert all(row.assigned == of_ballots[number] for (_, number), row in view.scan(BALLOTS, (E,)))

    @rule()
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

    def teardown(self) -> None:
        if not hasattr(self, "story"):
            return
        self.story.replays()
        results_follow_from_votes(self.story)


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


Queue.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck))
TestQueue = Queue.TestCase


@pytest.mark.full
def test_many_more_courses_of_a_queue() -> None:
    class Longer(Queue):
        pass

    Longer.TestCase.settings = settings(max_examples=1_000, stateful_step_count=100, deadline=None, suppress_health_check=list(HealthCheck))
    Longer.TestCase("runTest").runTest()


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
