"""A chain whose store was set back says again what it told (found by the simulation: seed 5004 of `gateways`)."""

from queue_story import Story, block, submit

from messages.signals import BestChain, GovernanceState
from subsystems.elections.chain import Chain


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
