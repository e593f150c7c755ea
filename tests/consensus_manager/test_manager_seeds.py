"""Many nodes' `consensus_manager` under seeds: nodes away and blind, blocks too early or too late, forks, silence; then all is well."""

import pytest
from manager_world import World

from messages.chain_api import GroupVerdict
from messages.consensus_manager import Group, GroupReport, NotTaken, NotTakenReason
from subsystems.consensus_manager.parameters import Parameters


def troubled(seed: int) -> World:
    # Reorganisations are of 4 blocks at most. By turns as much as can be is forgotten, and nothing.
    kept_blocks = 0 if seed % 2 else 10**6
    world = World(7, seed=seed, parameters=Parameters(interval=8, min_confirmations=3), final_behind=5, kept_blocks=kept_blocks)
    random = world.random
    for _ in range(60):
        node = random.choice(world.nodes)
        match random.randrange(10):
            case 0:
                node.blind = not node.blind
            case 1:
                # Two at once: what two rounds of draws may do without.
                node.away = not node.away and sum(other.away for other in world.nodes) < 2
            case 2 if len(world.blocks) > 6:
                world.reorganise(random.randint(1, 4))
            case 3:
                world.silence()
            case 4 | 5:
                world.mine(1, quiet=False)
            case 6:
                world.mine(1)
            case _:
                world.some(random.randint(1, 60))
    for node in world.nodes:
        node.blind = node.away = False
    return world.settle()


def groups(world: World, at: int = 0) -> list[GroupReport]:
    """The groups of the best chain as a node tells them, epoch by epoch; old ones may be forgotten."""
    node = world.nodes[at]
    found = [node.given.ask(Group(epoch=epoch)) for epoch in range(1, node.epoch().epoch + 1)]
    known = [group for group in found if isinstance(group, GroupReport)]
    assert [group.epoch for group in known] == list(range(len(found) - len(known) + 1, len(found) + 1))
    return known


def check(world: World) -> None:
    epochs = {(report.epoch, report.epoch_start) for report in (node.epoch() for node in world.nodes)}
    assert len(epochs) == 1, "nodes with the same chain know different epochs"
    chain = {block.number: block for block in world.blocks}
    known = {tuple((group.epoch, group.block, group.key) for group in groups(world, at)) for at in range(len(world.nodes))}
    assert len(known) == 1, "nodes with the same chain know different groups"
    start = 0
    for group in groups(world):
        assert chain[group.number].hash == group.block
        assert group.number - start >= 8, "a group served less than its interval"
        start = group.number
    refused = [r for node in world.nodes for r in node.refused if isinstance(r, NotTaken)]
    wrong = {r.reason for r in refused} & {NotTakenReason.DIVERGENT, NotTakenReason.BAD_SIGNATURE, NotTakenReason.GROUNDLESS}
    assert not wrong, "honest nodes say what others find wrong"
    verdicts: dict[tuple[bytes, bytes], set[tuple[GroupVerdict, str | None]]] = {}
    for node in world.nodes:
        for judged in node.judged:
            verdicts.setdefault((judged.block, judged.transaction), set()).add((judged.verdict, judged.error))
    assert all(len(found) == 1 for found in verdicts.values()), "nodes judged one transaction differently"


def elected_after(world: World) -> None:
    """Once faults stop the chain of groups goes on, and who is a member has its share."""
    before = world.nodes[0].epoch().epoch
    world.mine(40)
    check(world)
    assert world.nodes[0].epoch().epoch > before
    group = world.nodes[0].epoch().group
    assert group is not None
    held = sum(report.held for report in (node.epoch().group for node in world.nodes) if report is not None)
    assert held >= 3


# 103: a node comes back so late that others have forgotten what it is yet to read.
@pytest.mark.parametrize("seed", [1, 2, 3, 103])
def test_whatever_happens_nodes_agree_and_groups_follow_once_it_ends(seed: int) -> None:
    world = troubled(seed)
    check(world)
    elected_after(world)


@pytest.mark.slow
@pytest.mark.parametrize("ten", [0, 1, *(pytest.param(ten, marks=pytest.mark.full) for ten in range(2, 10))])
def test_the_same_for_a_hundred_seeds(ten: int) -> None:
    for seed in range(100 + ten * 10, 110 + ten * 10):
        world = troubled(seed)
        check(world)
        elected_after(world)
