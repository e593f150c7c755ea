"""`consensus_manager` as a subsystem: several nodes on one stream and one chain, messages in and out."""

import pytest
from dkg_kit import drawn, identity
from manager_world import ManagerNode, World, block_hash
from msgspec.structs import replace

from messages.chain_api import GroupVerdict
from messages.codec import decode, encode
from messages.consensus_manager import (
    Attempt,
    AttemptState,
    Confirm,
    Deal,
    Group,
    GroupReport,
    GroupsOnDisk,
    GroupsReport,
    GroupTransaction,
    OfAttempt,
    Opened,
    Stalled,
    UnknownGroup,
)
from messages.polkadot import Scheme, Validator
from messages.signals import BestChain, BlockFinalized, BlockRef, GovernanceMode, GovernanceState
from subsystems.consensus_manager.tables import ATTEMPTS, HELD, HELD_BY, MINE, PROGRESS


def epochs(world: World) -> set[tuple[int, int]]:
    return {(report.epoch, report.epoch_start) for report in (node.epoch() for node in world.live)}


@pytest.mark.parametrize("seed", range(3))
def test_epochs_follow_one_another_and_all_nodes_agree(seed: int) -> None:
    world = World(seed=seed).mine(9)
    assert epochs(world) == {(0, 0)}
    world.mine(36)
    assert len(epochs(world)) == 1
    ((epoch, _),) = epochs(world)
    assert epoch >= 3
    starts = [group.number for e in range(1, epoch + 1) if isinstance(group := world.nodes[0].given.ask(Group(epoch=e)), GroupReport)]
    assert all(later - earlier >= 10 for earlier, later in zip([0, *starts], starts, strict=False))
    assert {judged.verdict for node in world.nodes for judged in node.judged} == {GroupVerdict.ACCEPTED}
    assert len({node.epoch().group.key for node in world.nodes}) == 1


def test_the_state_follows_from_the_journal() -> None:
    world = World(seed=4).mine(25)
    for node in world.nodes:
        again = node.given.replayed()
        for table in node.given.subsystem.declaration.tables:
            assert dict(again.rows.scan(table.name, b"", None)) == dict(node.given.rows.scan(table.name, b"", None)), table


def test_members_hold_their_share_and_others_do_not() -> None:
    world = World(seed=1).mine(15)
    members = {member.identity.signing for member in world.nodes[0].epoch().group.members}
    for node in world.nodes:
        held = node.given.ask(GroupsOnDisk())
        assert isinstance(held, GroupsReport)
        assert (held.epochs == [1]) == (identity(node.number).signing in members)
        report = node.given.ask(Group(epoch=1))
        assert isinstance(report, GroupReport)
        assert report.serving
        assert isinstance(node.given.ask(Group(epoch=2)), UnknownGroup)


def test_E04_who_is_not_chosen_says_nothing_in_the_attempt() -> None:
    world = World(seed=2).mine(13)
    (attempt,) = world.nodes[0].attempts().attempts
    chosen = {node.number for node in world.nodes if node.attempts().attempts[0].place is not None}
    assert len(chosen) == 4
    assert attempt.state is AttemptState.COMPLETE
    assert {m.session for m in world.log if isinstance(m, OfAttempt)} == {attempt.session}
    assert len([m for m in world.log if isinstance(m, Opened)]) == 4


def test_E03_a_block_that_is_told_twice_begins_its_attempt_once() -> None:
    world = World(seed=2).mine(10)
    before = len(world.log)
    block = world.blocks[-1]
    for node in world.nodes:
        node.line += [block, BestChain(reverted=[], applied=[BlockRef(block.hash, block.number)])]
    world.settle()
    assert len(world.log) == before


def test_E23_a_node_whose_blocks_come_behind_the_messages_finds_the_same() -> None:
    world = World(seed=3).mine(9)
    world.including = False
    late = next(node for node in world.nodes if identity(node.number).signing not in first_members(3))
    late.blind = True
    world.mine(5)
    assert late.epoch().epoch == 0
    assert late.attempts().attempts == []
    late.blind = False
    world.settle()
    other = next(node for node in world.nodes if node is not late and node.attempts().attempts[0].place is None)
    assert late.attempts() == other.attempts()
    world.including = True
    world.mine(1)
    assert epochs(world) == {(1, 15)}
    session = late.epoch().group.attempt
    assert session == Attempt(0, 10, 0, 0)


def first_members(seed: int) -> set[bytes]:
    """Who is chosen for the first election of a world."""
    world = World(seed=seed).mine(10)
    return {identity(node.number).signing for node in world.nodes if node.attempts().attempts[0].place is not None}


def test_a_member_that_is_late_by_the_whole_dkg_deals_nothing_and_still_gets_its_share() -> None:
    world = World(seed=3).mine(9)
    late = next(node for node in world.nodes if identity(node.number).signing in first_members(3))
    late.blind = True
    world.including = False
    world.mine(4)
    late.blind = False
    world.settle()
    (attempt,) = late.attempts().attempts
    assert (attempt.dealt, attempt.confirmed) == (3, 3)
    world.including = True
    world.mine(1)
    assert epochs(world) == {(1, 14)}
    held = late.given.ask(GroupsOnDisk())
    assert isinstance(held, GroupsReport)
    assert held.epochs == [1]


@pytest.mark.parametrize("first", ["blocks", "messages"])
def test_R7_a_member_that_was_away_until_its_group_serves_says_nothing_and_gets_its_share_out_of_the_stream(first: str) -> None:
    world = World(seed=3).mine(9)
    late = next(node for node in world.nodes if identity(node.number).signing in first_members(3))
    late.blind, late.deaf = True, first == "blocks"
    world.mine(5)
    assert world.blocks[-1].group_transactions
    world.catch_up(late)
    late.blind = False
    world.settle()
    late.deaf = False
    world.mine(1)
    assert epochs(world) == {(1, 14)}
    held = late.given.ask(GroupsOnDisk())
    assert isinstance(held, GroupsReport)
    assert held.epochs == [1]
    assert f"n{late.number}" not in world.said_by


def test_R7_a_member_that_was_away_for_several_attempts_finds_the_outcome_that_the_chain_accepted() -> None:
    world = World(seed=1).mine(9)
    late, other = [node for node in world.nodes if identity(node.number).signing in first_members(1)][:2]
    late.blind = late.deaf = other.blind = other.deaf = True
    world.mine(6)
    other.blind = other.deaf = False
    world.mine(5)
    world.catch_up(late)
    late.blind = late.deaf = False
    world.mine(1)
    group = world.nodes[-1].epoch().group
    assert group.attempt == Attempt(0, 10, 5, 0)
    assert late.given.ask(GroupsOnDisk()) == GroupsReport(epochs=[1])
    (session,) = {message.session for message in world.log if isinstance(message, Confirm)}
    (found,) = {node.given.view.get(PROGRESS, (session,)).transaction for node in world.nodes}
    # It tells of an attempt that this node knows nothing of.
    assert decode(GroupTransaction.spec, found).absent == [late.number, other.number]


def test_R7_a_member_that_holds_only_a_part_of_its_session_finds_no_other_key_and_stays_out() -> None:
    world = World(seed=3).mine(9)
    late = next(node for node in world.nodes if identity(node.number).signing in first_members(3))
    late.blind = late.deaf = True
    world.mine(5)
    world.catch_up(late)
    # Its store and the stream's beginning are lost: a dealer is missing.
    late.position = 1 + next(at for at, message in enumerate(world.log) if isinstance(message, Deal))
    late.blind, late.deaf = False, False
    world.settle()
    (session,) = {message.session for message in world.log if isinstance(message, OfAttempt)}
    row, progress = late.given.view.get(ATTEMPTS, (session,)), late.given.view.get(PROGRESS, (session,))
    assert row.lossy
    assert progress.key is None
    assert late.given.ask(GroupsOnDisk()) == GroupsReport(epochs=[])
    world.mine(12)
    assert f"n{late.number}" in world.said_by


def test_R7_a_member_that_lost_its_store_behind_what_it_said_stays_out_until_the_next_group() -> None:
    world = World(seed=3).mine(14)
    node = next(node for node in world.nodes if f"n{node.number}" in world.said_by)
    lost = ManagerNode(node.number, node.given.subsystem.config, [Validator(identity(n).signing, Scheme.ED25519) for n in range(6)])
    for block in world.blocks:
        lost.line += [block, BestChain(reverted=[], applied=[BlockRef(block.hash, block.number)])]
    world.catch_up(lost)
    # Its keys are not in the store.
    lost.given.subsystem.vault = node.given.subsystem.vault
    world.nodes[node.number] = lost
    world.mine(2)
    assert epochs(world) == {(1, 14)}
    assert lost.given.ask(GroupsOnDisk()) == GroupsReport(epochs=[])
    world.mine(24)
    assert lost.given.ask(GroupsOnDisk()) != GroupsReport(epochs=[])


def test_R7_a_member_of_whose_session_nothing_is_left_in_the_stream_stays_out() -> None:
    world = World(seed=3).mine(9)
    late = next(node for node in world.nodes if identity(node.number).signing in first_members(3))
    late.blind = late.deaf = True
    world.mine(5)
    world.catch_up(late)
    late.position, late.blind, late.deaf = len(world.log), False, False
    world.settle()
    held = late.given.ask(GroupsOnDisk())
    assert isinstance(held, GroupsReport)
    assert held.epochs == []
    # It takes part in the next election.
    world.mine(12)
    assert f"n{late.number}" in world.said_by


def test_E18_when_the_accepting_block_leaves_the_best_chain_the_epoch_before_is_back() -> None:
    world = World(seed=5).mine(15)
    ((epoch, start),) = epochs(world)
    assert epoch == 1
    accepting = world.blocks[start - 1]
    gone = [BlockRef(block.hash, block.number) for block in reversed(world.blocks) if block.number >= start]
    for node in world.nodes:
        node.line += [BestChain(reverted=gone, applied=[])]
        # The same again, as after a union over two forks (E25).
        node.line += [BestChain(reverted=[BlockRef(accepting.hash, accepting.number)], applied=[])]
    world.settle()
    assert epochs(world) == {(0, 0)}
    back = [BlockRef(block.hash, block.number) for block in world.blocks if block.number >= start]
    for node in world.nodes:
        node.line += [BestChain(reverted=[], applied=back)]
    world.settle()
    assert epochs(world) == {(epoch, start)}
    # Judged when it joined first, and not again.
    assert all(len(node.judged) == 1 for node in world.nodes)


def test_E24_R1_without_any_block_stalls_carry_the_election_through() -> None:
    world = World(seed=6).mine(10)
    assert not any(isinstance(m, GroupTransaction) for m in world.log)
    for _ in range(4):
        world.silence()
    transactions = {encode(m) for m in world.log if isinstance(m, GroupTransaction)}
    assert len(transactions) == 1
    world.mine(1)
    assert epochs(world) == {(1, 11)}


def test_E24_when_a_group_is_complete_and_only_a_block_is_missing_no_other_round_begins() -> None:
    world = World(seed=6).mine(10)
    for _ in range(4):
        world.silence()
    assert any(isinstance(m, GroupTransaction) for m in world.log)
    said = len(world.log)
    for _ in range(12):
        world.silence()
    assert len(world.log) == said
    assert {attempt.attempt.round for attempt in world.nodes[0].attempts().attempts} == {0}
    world.mine(1)
    assert epochs(world) == {(1, 11)}


def test_E24_a_member_that_never_got_its_share_of_the_serving_group_tells_stalls_of_the_next_election() -> None:
    world = World(4, seed=6)
    poor = world.nodes[0]
    vault = poor.given.subsystem.vault
    vault.lost = lambda _: True
    world.mine(14)
    assert (poor.epoch().epoch, poor.epoch().group.held) == (1, False)
    first = {session for (session,), _ in poor.given.view.scan(ATTEMPTS)}
    vault.lost = first.__contains__
    world.mine(poor.epoch().due - 14)
    world.silence()
    validators = {m.sender for m in world.log if isinstance(m, Stalled)}
    assert validators == {0, 1, 2, 3}


def test_E24_a_round_that_gives_nothing_is_followed_by_one_with_other_members() -> None:
    world = World(7, seed=7).mine(9)
    probe = World(7, seed=7).mine(10)
    # Two of the four members are gone for good; of seven validators five say so.
    for number in [node.number for node in probe.nodes if node.attempts().attempts[0].place is not None][:2]:
        world.nodes[number].away = True
    world.mine(1)
    for _ in range(30):
        if any(isinstance(m, GroupTransaction) for m in world.log):
            break
        world.silence()
    transaction = next(m for m in world.log if isinstance(m, GroupTransaction))
    assert transaction.attempt.round > 0
    assert len(transaction.stalls) >= 5
    world.mine(1)
    assert epochs(world) == {(1, 11)}


def test_R1_a_timer_that_fires_much_too_late_waits_once_more() -> None:
    world = World(seed=6).mine(10)
    world.silence(ms=60 * 60 * 1000)
    assert not any(isinstance(m, Stalled) for m in world.log)
    world.silence()
    assert any(isinstance(m, Stalled) for m in world.log)


def test_R2_a_node_that_is_behind_begins_nothing() -> None:
    world = World(seed=1)
    blocks = World(seed=1).mine(12).blocks
    node = world.nodes[0]
    for block in blocks:
        behind = replace(block, group_transactions=[], sync=True, target_height=100)
        node.line += [behind, BestChain(reverted=[], applied=[BlockRef(block.hash, block.number)])]
    world.settle()
    assert world.log == []
    assert node.attempts().attempts == []


def test_in_governance_mode_no_attempt_begins_and_those_that_run_fall_silent() -> None:
    world = World(seed=8).mine(9)
    for node in world.nodes:
        node.line.append(GovernanceMode(state=GovernanceState.ENTERED, entry=1, frozen_at=5))
    world.mine(3)
    assert world.log == []
    for node in world.nodes:
        node.line.append(GovernanceMode(state=GovernanceState.LEFT, entry=1, frozen_at=5))
    world.mine(8)
    assert {m.attempt for m in world.log if isinstance(m, Opened)} >= {Attempt(0, 10, 5, 0)}
    assert epochs(world) != {(0, 0)}


def test_a_forged_group_transaction_is_refused_by_every_node_and_the_chain_is_told_why() -> None:
    world = World(seed=9)
    world.including = False
    world.mine(14)
    right = next(m for m in world.log if isinstance(m, GroupTransaction))
    forged = encode(replace(right, members=right.members[::-1]))
    block = replace(
        world.blocks[-1], number=15, parent=block_hash(14), hash=block_hash(15), group_transactions=[forged, encode(right), b"junk"]
    )
    for node in world.nodes:
        node.line += [block, BestChain(reverted=[], applied=[BlockRef(block.hash, 15)])]
    world.settle()
    for node in world.nodes:
        assert [judged.error for judged in node.judged] == ["group_mismatch", None, "duplicate_group"]
    assert epochs(world) == {(1, 15)}


def late_member(world: World, room: int) -> ManagerNode:
    """A member of the first election that sees none of its blocks, and has so much room for what each node says of it."""
    late = next(node for node in world.nodes if identity(node.number).signing in first_members(3))
    late.given.subsystem.config = replace(late.given.subsystem.config, held_per_node_max=room)
    late.blind = True
    return late


def test_of_an_unknown_attempt_the_oldest_gives_room_and_who_lost_what_a_member_said_says_nothing_in_it() -> None:
    world = World(seed=3).mine(9)
    late = late_member(world, room=2)
    world.mine(3)
    held = [row for _, row in late.given.view.scan(HELD)]
    assert {count for _, count in late.given.view.scan(HELD_BY)} == {2}
    for node in {row.node for row in held}:
        said = [encode(m) for m, by in zip(world.log, world.said_by, strict=True) if by == node and isinstance(m, OfAttempt)]
        assert [row.body for row in held if row.node == node] == said[-2:]
    before = len(world.log)
    late.blind = False
    world.settle()
    (attempt,) = late.attempts().attempts
    progress = late.given.view.get(PROGRESS, (attempt.session,))
    assert progress is not None
    # It would find another key than the others.
    assert progress.key is None
    assert not late.given.view.has(MINE, (attempt.session,))
    assert f"n{late.number}" not in world.said_by[before:]
    assert list(late.given.view.scan(HELD)) == list(late.given.view.scan(HELD_BY)) == []
    assert epochs(world.mine(3)) == {(1, 14)}


def test_a_node_that_is_no_member_mutes_nobody_however_much_it_says() -> None:
    world = World(seed=3).mine(9)
    members = first_members(3)
    late = late_member(world, room=32)
    loud = next(node for node in world.nodes if identity(node.number).signing not in members)
    world.mine(1)
    opened = next(message for message in world.log if isinstance(message, Opened))
    for number in range(100):
        world.say(opened, f"n{loud.number}")
        world.say(replace(opened, session=drawn("flood", number)), f"n{loud.number}")
    world.mine(2)
    assert late.given.view.get(HELD_BY, (f"n{loud.number}",)) == 32
    before = len(world.log)
    late.blind = False
    world.settle()
    (attempt,) = late.attempts().attempts
    assert attempt.place is not None
    assert f"n{late.number}" in world.said_by[before:]


def test_attempts_that_a_final_block_decided_are_forgotten_but_for_the_serving_groups() -> None:
    world = World(seed=1).mine(30)
    node = world.nodes[0]
    rows = len(list(node.given.view.scan(ATTEMPTS)))
    for each in world.nodes:
        each.line.append(BlockFinalized(hash=world.blocks[-1].hash, number=30))
    world.settle()
    left = [row for _, row in node.given.view.scan(ATTEMPTS)]
    epoch = node.epoch().epoch
    assert epoch == 2
    assert len(left) == rows == 2
    world.mine(30)
    for each in world.nodes:
        each.line.append(BlockFinalized(hash=world.blocks[-1].hash, number=60))
    world.settle()
    left = [row for _, row in node.given.view.scan(ATTEMPTS)]
    epoch = node.epoch().epoch
    assert epoch >= 4
    # That of the serving group, and of the one before it: a governance decision can move finality back.
    assert min(row.epoch for row in left) == epoch - 1
    assert all(isinstance(node.given.ask(Group(epoch=e)), GroupReport) for e in range(1, epoch + 1))
