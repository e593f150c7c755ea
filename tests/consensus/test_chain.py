"""The chain of a development network as a function of what its feeds say."""

import pytest
from msgspec.structs import replace

from overseer.consensus.chain import NetworkChain, hash_of
from overseer.consensus.roster import Described
from subsystems.consensus_manager.parameters import Parameters

NODES = [Described(node=f"n{n}", signing=bytes([n] * 32).hex(), box=bytes([n + 9] * 32).hex()) for n in (2, 1, 3, 4)]
GENESIS = bytes([7]) * 32


@pytest.fixture
def chain() -> NetworkChain:
    return NetworkChain(GENESIS, NODES, Parameters())


def test_the_first_sound_proposal_is_meant_and_the_first_sealed_block_is_the_chains(chain: NetworkChain) -> None:
    first, second = chain.propose([]), chain.propose([b"a transaction"])
    assert first.hash != second.hash
    assert chain.hear_proposed(first)
    assert not chain.hear_proposed(second)
    assert chain.proposal == first
    assert chain.hear_sealed(second)
    assert (chain.tip, chain.number, chain.proposal) == (second.hash, 1, None)
    assert not chain.hear_sealed(first)
    assert not chain.hear_proposed(second)
    assert chain.hash_at(1) == second.hash


def test_the_first_block_starts_the_session_with_the_nodes_in_the_order_of_their_names(chain: NetworkChain) -> None:
    first = chain.propose([])
    assert first.session_start is not None
    assert [validator.key[0] for validator in first.session_start] == [1, 2, 3, 4]
    assert chain.hear_sealed(first)
    assert chain.propose([]).session_start is None


def test_what_is_not_the_next_block_is_neither_meant_nor_sealed(chain: NetworkChain) -> None:
    good = chain.propose([])
    for changed in (
        {"number": 2},
        {"parent": bytes(32)},
        {"epoch": 1},
        {"epoch_start": 1},
        {"round": 2},
        {"session": 2},
        {"session_start": None},
        {"backed": [bytes(32)]},
        {"transactions": [bytes(32)]},
        {"sync": True},
        {"hash": bytes(32)},
    ):
        other = replace(good, **changed)
        for block in (other, other if "hash" in changed else replace(other, hash=hash_of(other))):
            assert not chain.hear_proposed(block), changed
            assert not chain.hear_sealed(block), changed
    assert chain.number == 0


def test_the_signature_is_no_part_of_what_is_hashed(chain: NetworkChain) -> None:
    block = chain.propose([])
    assert hash_of(replace(block, epoch_signature=b"x", sync=True, target_height=9)) == block.hash
