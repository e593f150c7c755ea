"""Blocks signed by the serving group: this node's part, the others', and the signature of any N - f."""

import pytest
from dkg_kit import CHAIN, drawn, identity
from manager_world import ManagerNode, World
from msgspec.structs import replace

from messages.codec import encode
from messages.consensus_blocks import BlockSignature, BlockSignatureReport, NextBlock, NextBlockReport, NotNext, SignBlock
from messages.consensus_manager import BlockPartial, GroupTransaction
from messages.message import Message
from subsystems.consensus_manager.blocks import is_block_signed
from subsystems.consensus_manager.tables import NAMED, PARTIALS, PARTIALS_BY


@pytest.fixture(scope="module")
def elected() -> World:
    """Behind the block that accepted the first group."""
    return World(seed=3).mine(16)


@pytest.fixture
def world(elected: World) -> World:
    made = World(seed=3)
    for node, known in zip(made.nodes, elected.nodes, strict=True):
        node.given = known.given.replayed()
    made.blocks = list(elected.blocks)
    return made


def wanted(node: ManagerNode) -> NextBlockReport:
    report = node.given.ask(NextBlock())
    assert isinstance(report, NextBlockReport)
    return report


def command(node: ManagerNode, block: bytes, **changed: object) -> SignBlock:
    report = wanted(node)
    made = SignBlock(
        hash=block, parent=report.parent, number=report.number, epoch=report.epoch, epoch_start=report.epoch_start, round=report.round
    )
    return replace(made, **changed)


def parts_of(then) -> list[BlockPartial]:
    assert then.rejection is None
    return [message for message in then.sent if isinstance(message, BlockPartial)]


def named(world: World, block: bytes) -> list[tuple[ManagerNode, BlockPartial]]:
    """All nodes name it; who said a part."""
    return [(node, part) for node in world.nodes for part in parts_of(node.given.when(command(node, block)))]


def hear(node: ManagerNode, message: Message, at: str = "far") -> None:
    node.given.node = at
    node.given.when(message, sender="consensus_manager")


def signature(node: ManagerNode, block: bytes) -> bytes | None:
    report = node.given.ask(BlockSignature(block=block))
    assert isinstance(report, BlockSignatureReport)
    return report.signature


def test_members_sign_and_every_node_has_the_same_signature_of_any_n_minus_f(world: World) -> None:
    block = drawn("next")
    said = named(world, block)
    group = world.nodes[0].epoch().group
    assert group is not None
    assert [identity(node.number).signing for node, _ in sorted(said, key=lambda each: each[1].sender)] == [
        member.identity.signing for member in group.members
    ]
    for number, node in enumerate(world.nodes):
        # Another part is missing at each.
        mine = said[number % 4 :] + said[: number % 4]
        for _, part in mine[:2]:
            hear(node, part)
        assert signature(node, block) is None
        hear(node, mine[2][1])
    signatures = {signature(node, block) for node in world.nodes}
    (only,) = signatures
    assert only is not None
    assert is_block_signed(only, chain=CHAIN, epoch=1, block=block, key=group.key)


def test_parts_that_come_before_the_block_is_named_count_once_it_is(world: World, elected: World) -> None:
    block = drawn("next")
    node = world.nodes[0]
    before = elected.nodes[0].given.replayed()
    said = [part for _, part in named(world, block)]
    node.given = before
    for part in said:
        hear(node, part)
    assert signature(node, block) is None
    assert {by for (_, _, by), _ in node.given.view.scan(PARTIALS)} == {"far"}
    node.given.when(command(node, block))
    assert signature(node, block) is not None


def test_a_wrong_part_is_left_out_and_a_missing_one_waited_for(world: World) -> None:
    block = drawn("next")
    said = [part for _, part in named(world, block)]
    wrong = replace(said[0], partial=said[1].partial)
    node = world.nodes[0]
    for part in (wrong, said[1], said[2]):
        hear(node, part)
    assert signature(node, block) is None
    hear(node, said[3])
    assert signature(node, block) is not None


def test_who_says_the_part_of_another_does_not_take_its_place(world: World) -> None:
    block = drawn("next")
    said = [part for _, part in named(world, block)]
    node = world.nodes[0]
    for part in said:
        hear(node, replace(part, partial=said[0].partial), at="liar")
    assert signature(node, block) is None
    for number, part in enumerate(said[1:]):
        hear(node, part, at=f"n{number}")
    assert signature(node, block) is not None


def test_one_child_of_a_block_is_signed_and_no_other(world: World) -> None:
    first, second = drawn("first"), drawn("second")
    assert len(named(world, first)) == 4
    assert named(world, second) == []
    # Named again, after a restart of the feed: nothing more is said.
    assert named(world, first) == []


def test_a_member_that_gets_its_share_after_the_block_was_named_signs_when_it_is_named_again(elected: World) -> None:
    group = elected.nodes[0].epoch().group
    assert group is not None
    (late,) = [n for n in range(6) if identity(n).signing == group.members[0].identity.signing]
    world = World(seed=3)
    node = world.nodes[late]
    node.deaf = True
    world.mine(16)
    assert node.epoch().group is not None
    block = drawn("next")
    # The chain has told it of the group, but the network not of what the members said.
    assert late not in {each.number for each, _ in named(world, block)}
    node.deaf = False
    world.settle()
    (said,) = parts_of(node.given.when(command(node, block)))
    assert said.sender == 0
    assert parts_of(node.given.when(command(node, block))) == []
    # By what it signed it stands.
    assert parts_of(node.given.when(command(node, drawn("other")))) == []


def test_R7_a_member_that_was_away_until_its_group_serves_signs_the_block_that_waits_for_it(elected: World) -> None:
    group = elected.nodes[0].epoch().group
    assert group is not None
    (late,) = [n for n in range(6) if identity(n).signing == group.members[0].identity.signing]
    world = World(seed=3).mine(9)
    node = world.nodes[late]
    node.blind = node.deaf = True
    world.mine(5)
    world.catch_up(node)
    node.blind = node.deaf = False
    world.settle()
    assert node.epoch().group is not None
    # No block comes before this one.
    (said,) = parts_of(node.given.when(command(node, drawn("next"))))
    assert said.sender == 0
    assert parts_of(node.given.when(command(node, drawn("other")))) == []


def test_only_the_child_of_the_best_block_with_its_right_header_is_signed(world: World) -> None:
    node, block = world.nodes[0], drawn("next")
    refused = node.given.when(command(node, block, parent=drawn("other"))).rejection
    assert isinstance(refused, NotNext)
    assert (refused.reason, refused.retriable) == ("parent", True)
    for changed in ({"number": 99}, {"epoch": 2}, {"epoch_start": 1}, {"round": 1}):
        refused = node.given.when(command(node, block, **changed)).rejection
        assert isinstance(refused, NotNext)
        assert (refused.reason, refused.retriable) == ("header", False)
    assert list(node.given.view.scan(NAMED)) == []


def test_before_the_first_group_blocks_are_not_signed(world: World) -> None:
    node = World(seed=1).mine(3).nodes[0]
    assert (wanted(node).epoch, wanted(node).signed, wanted(node).number) == (0, False, 4)
    assert parts_of(node.given.when(command(node, drawn("next")))) == []


def test_the_next_block_carries_the_transaction_of_a_completed_attempt_until_one_is_accepted() -> None:
    world = World(seed=2)
    world.including = False
    world.mine(14)
    carried = [wanted(node).group_transactions for node in world.nodes]
    transaction = next(message for message in world.log if isinstance(message, GroupTransaction))
    assert carried == [[encode(transaction)]] * len(world.nodes)
    world.including = True
    world.mine(1)
    assert [wanted(node).group_transactions for node in world.nodes] == [[]] * len(world.nodes)


def test_a_node_that_says_too_much_keeps_out_nobody_else_and_all_is_forgotten_in_time(world: World) -> None:
    node, block = world.nodes[0], drawn("next")
    said = [part for _, part in named(world, block)]
    for number in range(100):
        hear(node, BlockPartial(epoch=1, block=drawn("noise", number), sender=0, partial=said[0].partial), at="loud")
    assert node.given.view.get(PARTIALS_BY, ("loud",)) == 64
    for part in said:
        hear(node, part, at="far")
    assert signature(node, block) is not None
    world.mine(20)
    for table in (NAMED, PARTIALS, PARTIALS_BY):
        assert list(node.given.view.scan(table)) == []


def test_a_part_that_came_early_takes_none_with_it_that_came_in_time(world: World) -> None:
    node, block = world.nodes[0], drawn("next")
    said = [part for _, part in named(world, block)]
    other = drawn("later")
    hear(node, replace(said[0], block=other), at="early")
    world.mine(10)
    hear(node, replace(said[1], block=other), at="in time")
    world.mine(8)
    assert {by for (of, _, by), _ in node.given.view.scan(PARTIALS) if of == other} == {"early", "in time"}
    world.mine(9)
    assert [of for (of, _, _), _ in node.given.view.scan(PARTIALS) if of == other] == []
