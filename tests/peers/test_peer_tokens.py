"""The contract of token stores, for all of them."""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from messages.peers import TokenMapping
from overseer.memory.rows import MemoryRows
from overseer.simulation.peer_nodes.holdings import LayeredTokens
from overseer.simulation.peers.universe import Holding, Universe
from overseer.tables import Overlay, Tables
from subsystems.elections.peers.proof import prove
from subsystems.elections.peers.ring import RING
from subsystems.elections.peers.tokens import TOKEN_BLOCKS, TOKEN_RING, MemoryTokens, TableTokens, Tokens, low, near, put_token


def in_tables(mappings: list[TokenMapping]) -> Tokens:
    tables = Tables(Overlay(MemoryRows([TOKEN_BLOCKS.name, TOKEN_RING.name])))
    for mapping in mappings:
        put_token(tables, mapping)
    return TableTokens(tables)


def in_memory_one_by_one(mappings: list[TokenMapping]) -> Tokens:
    tokens = MemoryTokens()
    for mapping in mappings:
        tokens.put(mapping)
    return tokens


def in_layers(mappings: list[TokenMapping]) -> Tokens:
    """Half of them below, some of those twice: what is above counts."""
    tables = Tables(Overlay(MemoryRows([TOKEN_BLOCKS.name, TOKEN_RING.name])))
    for mapping in mappings[len(mappings) // 3 :]:
        put_token(tables, mapping)
    return LayeredTokens([MemoryTokens(mappings[: len(mappings) // 2])], tables)


every_store = pytest.mark.parametrize("store", [MemoryTokens, in_memory_one_by_one, in_tables, in_layers])
Make = Callable[[list[TokenMapping]], Tokens]
# Few low bits, and the ends of the ring.
IDS = st.builds(lambda high, bits: (high << 10 | bits) % RING, st.sampled_from([0, 1, 2, 1 << 53, (1 << 54) - 1]), st.integers(0, 3))


@every_store
def test_a_token_is_held_with_its_last_block(store: Make) -> None:
    tokens = store([TokenMapping(5, 1), TokenMapping(RING - 1, 2), TokenMapping(5, 3)])
    assert [tokens.block_of(each) for each in (5, RING - 1, 6)] == [3, 2, None]
    assert list(tokens.around(0, upward=True)) == [5, RING - 1]


@every_store
@settings(max_examples=100, deadline=None, database=None, derandomize=True)
@given(held=st.lists(IDS), place=IDS, bits=st.integers(0, 3))
def test_scans_go_once_around_the_ring_in_order(store: Make, held: list[int], place: int, bits: int) -> None:
    tokens = store([TokenMapping(each, each % 7) for each in held])
    up = sorted(set(held), key=lambda each: (each - place) % RING)
    down = sorted(set(held), key=lambda each: (place - each - 1) % RING)
    assert list(tokens.around(place, upward=True)) == up
    assert list(tokens.around(place, upward=False)) == down
    for upward, order in ((True, up), (False, down)):
        expected = [TokenMapping(each, each % 7) for each in order if low(each) == bits and each != place]
        assert list(tokens.with_low_bits(bits, after=place, upward=upward)) == expected


@every_store
def test_tokens_near_a_place(store: Make) -> None:
    tokens = store([TokenMapping(each, 1) for each in (3, 10, RING - 4, 1 << 62)])
    assert near(tokens, 0, 2) == [3, RING - 4]
    assert near(tokens, 3, 1) == [3]
    assert len(near(tokens, 0, 9)) == 4


def test_both_stores_prove_the_same() -> None:
    random = Random(3)
    mappings = [TokenMapping(random.getrandbits(64), random.getrandbits(64)) for _ in range(12_000)]
    memory, tables = MemoryTokens(mappings), in_tables(mappings)
    proofs = [prove(memory, 7, mapping.id) for mapping in mappings[:20]]
    assert [prove(tables, 7, mapping.id) for mapping in mappings[:20]] == proofs
    assert sum(proof is not None for proof in proofs) > 10


@pytest.mark.parametrize("peer", [0, 5 << 60, RING - 1])
@pytest.mark.parametrize("reach", [100, 40])
def test_a_simulated_peer_holds_its_part_of_the_universe_as_a_store_would(peer: int, reach: int) -> None:
    universe = Universe(1, 2_000)
    holding = Holding(universe, salt=3, density_percent=80, peer=peer, reach_percent=reach)
    held = [TokenMapping(token, universe.block_of(token)) for token in universe.ring if holding.holds(token)]
    assert 0.7 * reach / 100 < len(held) / 2_000 < 0.9 * reach / 100
    store = MemoryTokens(held)
    for place in (0, held[0].id, held[9].id + 1, 7 << 60, RING - 1):
        for upward in (True, False):
            assert list(holding.around(place, upward=upward)) == list(store.around(place, upward=upward))
            one, other = (each.with_low_bits(low(held[5].id), after=place, upward=upward) for each in (holding, store))
            assert list(one) == list(other)
        assert holding.block_of(place) == store.block_of(place)


@pytest.mark.parametrize("percent", [0, 40, 100])
def test_without_a_shared_genesis_a_simulated_peer_holds_its_own_tokens_and_what_it_took_over(percent: int) -> None:
    universe = Universe(1, 4_000)
    holdings = [Holding(universe, salt=n + 5, density_percent=90, owner=n, owners=8) for n in range(8)]
    for holding in holdings:
        holding.fill(percent)
    held = [[token for token in universe.ring if holding.holds(token)] for holding in holdings]
    assert all(any(token in tokens for tokens in map(set, held)) for token in universe.ring), "each is somebody's"
    assert (sum(map(len, held)) == len(universe.ring)) == (percent == 0), "and at first of one alone"
    store = MemoryTokens([TokenMapping(token, universe.block_of(token)) for token in held[3]])
    for place in (0, held[3][5], RING - 1):
        for upward in (True, False):
            assert list(holdings[3].around(place, upward=upward)) == list(store.around(place, upward=upward))
            one, other = (each.with_low_bits(low(held[3][0]), after=place, upward=upward) for each in (holdings[3], store))
            assert list(one) == list(other)
