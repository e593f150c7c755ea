"""What is forgotten behind finality: tables stay bounded, and nothing that is decided depends on what is gone."""

from collections.abc import Sequence

import pytest
from dkg_kit import identity
from manager_world import ManagerNode, World, block_hash

from messages.consensus_manager import Attempt, Epoch, EpochReport, EpochUnknown
from messages.polkadot import Scheme, Validator
from messages.signals import BestChain, BlockRef, GovernanceMode, GovernanceState, SessionChange
from subsystems.consensus_manager.handover import Acceptance, outlived
from subsystems.consensus_manager.parameters import Parameters
from subsystems.consensus_manager.schedule import acceptable_until, asked_back, attempts_followed, begins
from subsystems.consensus_manager.tables import (
    ACCEPTED,
    ATTEMPTS,
    BLOCKS,
    CHAIN,
    DEALS,
    FLOOR,
    JUDGED,
    MINE,
    PROGRESS,
    TABLES,
    VALIDATORS,
)

PARAMETERS = Parameters(interval=10, min_confirmations=3)
# Of blocks before a portion is worth looking for.
PORTION = 32


def rows(node: ManagerNode) -> dict[str, int]:
    return {table.name: len(list(node.given.view.scan_packed(table))) for table in TABLES}


def known(node: ManagerNode) -> tuple[int, int] | None:
    report = node.given.ask(Epoch())
    return (report.epoch, report.epoch_start) if isinstance(report, EpochReport) else None


def course(world: World) -> list[object]:
    """All that the nodes said, judged and refused, and what they tell of themselves in the end."""
    told: list[object] = [list(world.log)]
    for node in world.nodes:
        told += [node.judged, node.refused, node.epoch(), node.attempts()]
    return told


def refs(world: World, numbers: Sequence[int]) -> list[BlockRef]:
    return [BlockRef(world.blocks[number - 1].hash, number) for number in numbers]


@pytest.mark.slow
def test_after_five_hundred_blocks_with_finality_the_number_of_rows_is_bounded() -> None:
    kept, behind = 20, 5
    world = World(4, seed=1, parameters=PARAMETERS, final_behind=behind, kept_blocks=kept)
    most: dict[str, int] = {}
    for number in range(500):
        world.mine(1)
        if number % 100 == 50:
            # A dead fork goes as well, and validators of sessions that are over.
            world.reorganise(3)
            for node in world.nodes:
                node.line.append(SessionChange(index=0, validators=[Validator(identity(n).signing, Scheme.ED25519) for n in range(4)]))
        for node in world.nodes:
            most = {name: max(count, most.get(name, 0)) for name, count in rows(node).items()}
    epoch = world.nodes[0].epoch().epoch
    assert epoch > 30
    blocks = kept + asked_back(PARAMETERS) + behind + PORTION + 2
    # The dead forks of two reorganisations at most, and the last two accepting blocks before.
    assert most[BLOCKS.name] <= blocks + 2 * 3 + 2
    assert most[CHAIN.name] <= blocks + 2
    groups = (kept + behind + PORTION) // PARAMETERS.interval + 3
    assert most[ACCEPTED.name] <= groups
    assert most[JUDGED.name] <= blocks // PARAMETERS.interval + 3
    assert most[VALIDATORS.name] == most[FLOOR.name] == 1
    # The elections of the last blocks, and the two groups that may serve.
    attempts = (asked_back(PARAMETERS) + behind) // PARAMETERS.election_timeout + 2
    assert max(most[ATTEMPTS.name], most[PROGRESS.name], most[MINE.name]) <= attempts
    assert most[DEALS.name] <= attempts * 4


def test_attempts_of_an_election_that_never_ends_are_forgotten_as_well() -> None:
    world = World(4, seed=1, parameters=PARAMETERS, final_behind=5, kept_blocks=20)
    world.including = False
    world.mine(80)
    assert known(world.nodes[0]) == (0, 0)
    assert rows(world.nodes[0])[ATTEMPTS.name] <= (asked_back(PARAMETERS) + 5) // PARAMETERS.election_timeout + 1
    assert rows(world.nodes[0])[BLOCKS.name] <= 20 + asked_back(PARAMETERS) + 5 + PORTION
    world.including = True
    world.mine(6)
    assert known(world.nodes[0]) not in (None, (0, 0))


def test_finality_that_comes_late_is_caught_up_with_in_portions() -> None:
    world = World(1, seed=2, parameters=Parameters(interval=10_000, min_confirmations=3), kept_blocks=20)
    world.mine(2_500)
    node = world.nodes[0]
    left: list[int] = []
    for _ in range(3):
        world.finalize(2_500)
        world.settle()
        left.append(rows(node)[BLOCKS.name])
    assert left == [2_500 - 1_024, 2_500 - 2_048, 20 + asked_back(PARAMETERS) + 1]
    assert known(node) == (0, 0)


def test_no_block_asks_for_more_than_is_kept() -> None:
    for keep in range(1, 5):
        for timeout in (5, 7):
            parameters = Parameters(interval=9, election_timeout=timeout, attempts_alive=keep)
            for head in range(9, 200):
                followed = attempts_followed(head, 0, parameters)
                assert min(begins(attempt) for attempt in followed) > head - asked_back(parameters)
                attempts = [Attempt(0, 9, delay, 0) for delay in range(0, 200, timeout)]
                judged = [a for a in attempts if begins(a) < head <= acceptable_until(a, parameters)]
                assert all(begins(attempt) >= head - asked_back(parameters) for attempt in judged)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_nothing_that_is_decided_depends_on_what_is_forgotten(seed: int) -> None:
    worlds: list[World] = []
    for kept_blocks in (0, 10**6):
        world = World(5, seed=seed, parameters=PARAMETERS, final_behind=4, kept_blocks=kept_blocks)
        for _ in range(5):
            # What is accepted began long ago: the last block that may accept it is this one.
            world.including = False
            world.mine(world.random.randint(10, 24))
            world.including = True
            world.mine(1).reorganise(world.random.randint(1, 4))
            world.mine(2, quiet=False)
            world.some(40)
        worlds.append(world.settle())
    pruned, whole = worlds
    assert rows(pruned.nodes[0])[BLOCKS.name] < rows(whole.nodes[0])[BLOCKS.name] // 2
    assert pruned.nodes[0].epoch().epoch >= 2
    assert course(pruned) == course(whole)


@pytest.mark.slow
def test_a_governance_decision_moves_finality_back_and_the_same_is_decided_as_if_nothing_were_forgotten() -> None:
    worlds: list[World] = []
    for kept_blocks in (30, 10**6):
        world = World(4, seed=3, parameters=PARAMETERS, final_behind=3, kept_blocks=kept_blocks).mine(160)
        for node in world.nodes:
            node.line.append(GovernanceMode(state=GovernanceState.ENTERED, entry=1, frozen_at=128))
            node.line.append(GovernanceMode(state=GovernanceState.LEFT, entry=1, frozen_at=128))
        world.reorganise(160 - 128)
        worlds.append(world.settle().mine(40))
    pruned, whole = worlds
    assert not pruned.nodes[0].given.view.has(BLOCKS, (pruned.blocks[60].hash,))
    assert course(pruned) == course(whole)
    assert pruned.nodes[0].epoch().epoch_start > 161


def test_behind_what_is_kept_a_node_says_nothing_until_it_knows_again_who_serves() -> None:
    world = World(4, seed=3, parameters=PARAMETERS, final_behind=3, kept_blocks=0).mine(160)
    before, said = known(world.nodes[0]), len(world.log)
    gone = range(160, 70, -1)
    for node in world.nodes:
        node.line.append(GovernanceMode(state=GovernanceState.ENTERED, entry=1, frozen_at=70))
        node.line.append(BestChain(reverted=refs(world, gone), applied=[]))
    world.settle()
    for node in world.nodes:
        assert isinstance(node.given.ask(Epoch()), EpochUnknown)
    for node in world.nodes:
        node.line.append(GovernanceMode(state=GovernanceState.LEFT, entry=1, frozen_at=70))
        node.line.append(BestChain(reverted=[], applied=refs(world, gone[::-1])))
    judged = [len(node.judged) for node in world.nodes]
    world.settle()
    assert known(world.nodes[0]) == before
    assert len(world.log) == said
    assert [len(node.judged) for node in world.nodes] == judged
    world.mine(40)
    assert len({known(node) for node in world.nodes}) == 1
    assert known(world.nodes[0]) != before


def test_the_state_follows_from_a_journal_in_which_is_forgotten() -> None:
    world = World(4, seed=4, parameters=PARAMETERS, final_behind=3, kept_blocks=0).mine(120)
    for node in world.nodes:
        again = node.given.replayed()
        for table in TABLES:
            assert dict(again.rows.scan(table.name, b"", None)) == dict(node.given.rows.scan(table.name, b"", None)), table


def joined(world: World, first: int) -> ManagerNode:
    """A node whose stream begins with that block: it has what came since, and is the last of the world's."""
    node = world.nodes[-1]
    fresh = ManagerNode(node.number, node.given.subsystem.config, [Validator(identity(n).signing, Scheme.ED25519) for n in range(4)])
    for block in world.blocks[first - 1 :]:
        fresh.line += [block, BestChain(reverted=[], applied=[BlockRef(block.hash, block.number)])]
    # It reads the network's stream from its beginning.
    world.nodes[-1] = fresh
    return fresh


def test_a_store_that_begins_in_the_middle_of_an_epoch_follows_and_tells_nothing_wrong() -> None:
    world = World(4, seed=5, parameters=PARAMETERS, final_behind=3)
    world.mine(40)
    assert world.nodes[0].epoch().epoch >= 2
    world.epoch_said = world.nodes[0].epoch().epoch
    world.mine(8)
    said = len(world.log)
    late = joined(world, 45)
    world.settle()
    assert len(world.log) == said
    world.mine(60)
    assert known(late) is None
    assert late.judged == []
    unknown = late.given.ask(Epoch())
    assert unknown == EpochUnknown(known_from=45)
    # The other three go on without it.
    assert {known(node) for node in world.nodes[:3]} != {None}
    assert len({known(node) for node in world.nodes[:3]}) == 1
    assert rows(late)[BLOCKS.name] <= 256


def test_a_store_that_begins_before_the_first_election_takes_part_in_it() -> None:
    world = World(4, seed=5, parameters=PARAMETERS, final_behind=3).mine(7)
    late = joined(world, 5)
    world.mine(9)
    assert known(late) == known(world.nodes[0]) != (0, 0)
    assert [judged.verdict for judged in late.judged] == [judged.verdict for judged in world.nodes[0].judged]
    world.mine(60)
    assert len({known(node) for node in world.nodes}) == 1


@pytest.mark.parametrize("first", [12, 14])
def test_a_store_that_begins_in_mid_election_does_not_judge_what_it_cannot(first: int) -> None:
    world = World(4, seed=5, parameters=PARAMETERS).mine(17)
    assert world.nodes[0].epoch().epoch_start == 14
    late = joined(world, first)
    world.mine(4)
    assert world.nodes[0].epoch().epoch == 1
    assert late.judged == []
    assert known(late) is None


def test_a_best_chain_that_goes_back_to_genesis_is_noticed() -> None:
    world = World(4, seed=6, parameters=PARAMETERS).mine(11)
    for node in world.nodes:
        node.line.append(BestChain(reverted=refs(world, range(11, 0, -1)), applied=[]))
    world.settle()
    for node in world.nodes:
        assert node.attempts().attempts == [] or all(a.state != "running" for a in node.attempts().attempts)
        assert known(node) == (0, 0)
    fork = World(4, seed=6, parameters=PARAMETERS)
    fork.forks = 7
    (first,) = fork.mine(1).blocks
    said = len(world.log)
    for node in world.nodes:
        node.line += [first, BestChain(reverted=[], applied=[BlockRef(first.hash, 1)])]
    world.settle()
    assert len(world.log) == said


def group(number: int, epoch: int, fork: int = 0) -> Acceptance:
    block = block_hash(number, fork)
    return Acceptance(block=block, number=number, epoch=epoch, session=block, attempt=Attempt(0, 0, 0, 0), key=bytes(48), members=())


def test_of_the_groups_before_a_block_the_last_two_on_the_chain_are_kept() -> None:
    groups = [group(10, 1), group(20, 2), group(21, 2, fork=1), group(30, 3), group(40, 4), group(41, 4, fork=1)]

    def gone(below: int) -> list[int]:
        on_chain = {g.block for g in groups if g.block == block_hash(g.number)}
        return [g.number for g in outlived(groups, below=below, is_on_chain=on_chain.__contains__)]

    assert gone(9) == []
    assert gone(29) == [21]
    assert gone(35) == [10, 21]
    assert gone(45) == [10, 20, 21, 41]
