"""A chain whose store was set back says again what it told (seed 5004 of the simulation of `gateways`), and signals that are lost."""

import random

import pytest
from queue_story import Story, assigned, block, submit, voting

from messages.gateways import RoundPhase, RoundsSkipped
from messages.signals import BestChain, BlockRef, GovernanceState
from overseer.simulation.queue_model import Known
from subsystems.elections.chain import BEST, Chain
from subsystems.elections.gateways.rows import BALLOTS
from subsystems.elections.rows import key_hash


def known(story: Story, to: int) -> list[int]:
    """The heights up to `to` at which a block is known."""
    chain = Chain(story.given.view)
    return [height for height in range(to + 1) if chain.block(height) is not None]


def phases(story: Story) -> list[RoundPhase]:
    return [ballot.phase for _, ballot in story.given.view.scan(BALLOTS, (key_hash("ingestion"),))]


def test_what_a_chain_that_was_set_back_says_again_takes_nothing_of_what_is_known() -> None:
    """Told: 8 is replaced by another 8, then both heights go. Whoever has heard it all hears it again, from the first of them on."""
    story = Story()
    story.done(submit("x"))
    story.reach(4)
    # Phases hold: the cut at 5 is due, and done later.
    story.governance(GovernanceState.ENTERED)
    story.reach(8)
    told = [
        BestChain(reverted=[block(8)], applied=[block(8, "b")]),
        BestChain(reverted=[block(8, "b"), block(7)], applied=[]),
    ]
    for _ in range(2):
        for signal in told:
            story.when(signal)
    chain = Chain(story.given.view)
    assert [chain.block(height) for height in range(1, 8)] == [*(block(height) for height in range(1, 7)), None]
    story.governance(GovernanceState.LEFT)
    story.given.settle()
    assert story.ballot() == "x"
    assert "rounds_skipped" not in story.history()
    story.replays()


def test_blocks_that_are_said_again_above_our_end_leave_what_is_known_below() -> None:
    """Told: 7 and 8 are applied, then all from 6 on goes. Whoever has heard it all hears it again: nothing but blocks to add, at first."""
    story = Story()
    story.done(submit("x"))
    story.reach(4)
    # Phases hold: the cut at 5 is due, and done later.
    story.governance(GovernanceState.ENTERED)
    story.reach(6)
    told = [
        BestChain(reverted=[], applied=[block(7), block(8)]),
        BestChain(reverted=[block(8), block(7), block(6)], applied=[]),
    ]
    for signal in told:
        story.when(signal)
    story.when(told[0])
    assert known(story, 9) == [1, 2, 3, 4, 5, 7, 8]
    story.when(told[1])
    chain = Chain(story.given.view)
    assert [chain.block(height) for height in range(1, 7)] == [*(block(height) for height in range(1, 6)), None]
    story.governance(GovernanceState.LEFT)
    story.given.settle()
    assert story.ballot() == "x"
    assert "rounds_skipped" not in story.history()
    story.replays()


def test_a_ballot_stands_while_blocks_are_said_again_above_its_window() -> None:
    story = voting()
    story.reach(6)
    story.when(BestChain(reverted=[], applied=[block(8)]))
    assert phases(story) == [RoundPhase.VOTING]
    story.when(BestChain(reverted=[block(8), block(7)], applied=[]))
    story.reach(9)
    assert phases(story) == [RoundPhase.CLOSED]
    assert "round_revoked" not in story.history()
    story.replays()


def test_a_block_below_a_gap_that_leaves_the_chain_takes_its_round_along() -> None:
    """Where the lower blocks were forgotten with a gap, the close block of round 0 would be taken to stand whatever is said of it."""
    story = assigned(A=60)
    story.when(BestChain(reverted=[], applied=[block(12)]))
    assert known(story, 12) == [*range(1, 10), 12]
    story.when(BestChain(reverted=[block(12), block(11), block(10), block(9)], applied=[block(9, "b")]))
    story.given.settle()
    assert phases(story)[0] is RoundPhase.REVOKED
    story.replays()


def test_rounds_whose_cut_is_in_a_gap_are_skipped_up_to_the_next_block_that_is_known() -> None:
    """Gaps of 5 to 11 and of 17 to 21: the cuts at 5 and 10 are skipped. Then the ballot cut at 15, whose close block is not known, is not
    run again, and the cut at 20 is skipped.
    """
    story = Story()
    story.done(submit("x"))
    story.reach(4)
    skipped: list[tuple[int, int]] = []
    for number, to in ((12, 16), (22, 25)):
        then = story.when(BestChain(reverted=[], applied=[block(each) for each in range(number, to + 1)]))
        rest = story.given.settle()
        skipped += [(event.round, event.next) for event in (*then.events, *rest.events) if isinstance(event, RoundsSkipped)]
    assert skipped == [(0, 2), (2, 3), (3, 4)]
    assert known(story, 25) == [*range(1, 5), *range(12, 17), *range(22, 26)]
    cuts = [ballot.cut.number for _, ballot in story.given.view.scan(BALLOTS, (key_hash("ingestion"),))]
    assert cuts == [15, 25]
    story.replays()


def test_a_chain_that_goes_back_into_a_gap_goes_on_from_there() -> None:
    story = Story()
    story.done(submit("x"))
    story.reach(4)
    story.when(BestChain(reverted=[], applied=[block(8), block(9)]))
    story.when(BestChain(reverted=[block(9), block(8)], applied=[]))
    story.given.settle()
    assert Chain(story.given.view).height == 7
    assert known(story, 9) == [1, 2, 3, 4]
    story.when(BestChain(reverted=[], applied=[block(number, "b") for number in range(8, 11)]))
    story.given.settle()
    assert known(story, 10) == [1, 2, 3, 4, 8, 9, 10]
    assert story.ballot() == "x"
    story.replays()


def test_a_jump_over_more_blocks_than_are_kept_forgets_what_is_too_far_below() -> None:
    story = Story(chain_blocks_kept=10)
    story.reach(4)
    story.when(BestChain(reverted=[], applied=[block(10**6), block(10**6 + 1)]))
    assert [height for (height,), _ in story.given.view.scan(BEST)] == [10**6, 10**6 + 1]
    story.when(BestChain(reverted=[block(10**6 + 1)], applied=[]))
    story.when(BestChain(reverted=[], applied=[block(10**6 + 1, "b")]))
    assert Chain(story.given.view).height == 10**6 + 1
    story.replays()


def told_at_random(chance: random.Random, signals: int) -> tuple[list[BestChain], list[list[BlockRef]]]:
    """What a chain tells that grows, forks and is cut back; and the chain before each signal, and behind the last."""
    told: list[BestChain] = []
    chains: list[list[BlockRef]] = [[]]
    for number in range(signals):
        before = chains[-1]
        keep = len(before) - chance.choice((0, 0, 0, 1, 2, 4))
        kept = before[: max(0, keep)]
        blocks = chance.choice((0, 1, 1, 2, 5)) if len(kept) < len(before) else chance.choice((1, 1, 2, 5))
        applied = [block(height, f"{number}") for height in range(len(kept) + 1, len(kept) + blocks + 1)]
        # It may come back to a branch of before.
        old = chance.choice(chains)
        if chance.random() < 0.3 and old[: len(kept)] == kept and len(old) > len(kept):
            applied = old[len(kept) :]
        reverted = before[len(kept) :][::-1]
        told.append(BestChain(reverted=reverted, applied=applied))
        chains.append([*kept, *applied])
    return told, chains


@pytest.mark.parametrize("seed", range(20))
def test_whoever_hears_the_end_of_it_again_from_anywhere_knows_the_whole_chain_as_before(seed: int) -> None:
    """And the model of the simulation with it, at every step."""
    chance = random.Random(seed)
    told, chains = told_at_random(chance, 25)
    story, model = Story(), Known()
    story.done(submit("x"))
    again = [signal for _ in range(4) for signal in told[chance.randrange(len(told)) :]]
    for signal in [*told, *again]:
        story.when(signal)
        model.hear(signal)
        chain = Chain(story.given.view)
        assert {height: row for (height,), row in story.given.view.scan(BEST)} == model.blocks
        assert chain.height == model.height
    assert model.blocks == {ref.number: ref.hash for ref in chains[-1]}
    story.replays()
