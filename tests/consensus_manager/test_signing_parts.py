"""Parts of a block's signature are tried together first: what wrong ones among them may do, and what they may not."""

import pytest
from dkg_kit import CHAIN, drawn
from manager_world import ManagerNode, World
from msgspec.structs import replace
from test_signing import hear, named, signature

from messages.consensus_manager import BlockPartial
from subsystems.consensus_manager.blocks import block_signature, is_block_signed
from subsystems.consensus_manager.transcript import is_share_signature

# Bytes that are no point; the identity; another member's part.
WRONG = {"no point": bytes(96), "identity": bytes([0xC0]) + bytes(95), "another's": None}


@pytest.fixture(scope="module")
def elected() -> World:
    """Behind the block that accepted the first group."""
    return World(seed=3).mine(16)


@pytest.fixture
def parts(elected: World) -> tuple[ManagerNode, bytes, list[BlockPartial]]:
    """A node that was told of a block, and what all members say of it."""
    made = World(seed=3)
    for node, known in zip(made.nodes, elected.nodes, strict=True):
        node.given = known.given.replayed()
    made.blocks = list(elected.blocks)
    block = drawn("next")
    return made.nodes[0], block, [part for _, part in named(made, block)]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_part_that_does_not_hold_is_left_out_whatever_it_is(parts: tuple[ManagerNode, bytes, list[BlockPartial]], wrong: str) -> None:
    node, block, said = parts
    hear(node, replace(said[0], partial=WRONG[wrong] or said[1].partial), at="bad")
    for part in said[1:3]:
        hear(node, part, at=f"n{part.sender}")
    assert signature(node, block) is None
    hear(node, said[3], at="n3")
    found, group = signature(node, block), node.epoch().group
    assert found is not None
    assert group is not None
    assert is_block_signed(found, chain=CHAIN, epoch=1, block=block, key=group.key)


def test_parts_of_which_one_is_no_point_give_no_signature(parts: tuple[ManagerNode, bytes, list[BlockPartial]]) -> None:
    _, _, said = parts
    assert block_signature(said[:3], degree=2) is not None
    assert block_signature([replace(said[0], partial=bytes(96)), *said[1:3]], degree=2) is None


def test_parts_that_hold_are_not_checked_one_by_one(parts: tuple[ManagerNode, bytes, list[BlockPartial]]) -> None:
    node, block, said = parts
    before = is_share_signature.cache_info()
    for part in said:
        hear(node, part, at=f"n{part.sender}")
    assert signature(node, block) is not None
    assert is_share_signature.cache_info() == before
