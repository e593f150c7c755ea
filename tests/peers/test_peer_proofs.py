"""Ids, tickets, proofs and their verification."""

from random import Random

import pytest
from peer_world import SECRET, an_election, answer, made_proof, resealed

from messages.peers import TokenMapping
from subsystems.elections.peers.election import Refusal, Refused, Stored
from subsystems.elections.peers.proof import Flaw, chunks, flaw_of, prove, sound
from subsystems.elections.peers.ring import RING, Draw, distance, segment_of, segment_start, ticket
from subsystems.elections.peers.tokens import MemoryTokens, low, neighbourhood


def universe(seed: int = 1, count: int = 60_000) -> list[TokenMapping]:
    random = Random(seed)
    return [TokenMapping(random.getrandbits(64), random.getrandbits(64)) for _ in range(count)]


ALL = universe()
STORE = MemoryTokens(ALL)
TOKEN = ALL[0].id
CHALLENGER = 999


def good() -> tuple[TokenMapping, list[TokenMapping]]:
    proof = prove(STORE, CHALLENGER, TOKEN)
    assert proof is not None
    return proof


def flaw(mappings: list[TokenMapping], **rules: int) -> Flaw | None:
    return flaw_of(mappings, challenger=CHALLENGER, answer=good()[0], tokens=STORE, **rules)


def test_P01_the_distance_on_the_ring_is_the_smaller_way_around() -> None:
    assert distance(100, 150) == 50
    assert distance(10, RING - 1 - 5) == 16
    assert distance(77, 77) == 0
    assert distance(0, 1 << 63) == 1 << 63


def test_P02_a_ticket_depends_on_token_hop_nonce_and_secret_and_on_nothing_else() -> None:
    first = ticket(1, 2, 3, SECRET)
    assert first == ticket(1, 2, 3, SECRET)
    assert len({first, ticket(2, 2, 3, SECRET), ticket(1, 3, 3, SECRET), ticket(1, 2, 4, SECRET), ticket(1, 2, 3, bytes(32))}) == 5


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        ((999, 100000, 42), [812, 377, 640, 574, 891, 604, 690, 106, 352, 233]),
        ((123, 7, 99), [326, 191, 959, 833, 745, 28, 181, 378, 901, 422]),
        ((0, 0, 0), [987, 9, 783, 692, 654, 785, 151, 556, 491, 494]),
    ],
)
def test_the_golden_chunks(of: tuple[int, int, int], expected: list[int]) -> None:
    assert chunks(*of) == expected


def test_P06_a_proof_for_this_challenger_is_taken_and_one_flipped_low_bit_is_not() -> None:
    election = an_election(999, 100000)
    number = election.create_channel(5)
    assert isinstance(number, int)
    good = answer(999, 5, number, 100000)
    assert [low(mapping.id) for mapping in good.signature] == [812, 377, 640, 574, 891, 604, 690, 106, 352, 233]
    for n in range(10):
        flipped = list(good.signature)
        flipped[n] = TokenMapping(flipped[n].id ^ 1, flipped[n].block)
        other = an_election(999, 100000)
        assert other.create_channel(5) == number
        refused = other.handle_answer(resealed(good, signature=tuple(flipped)))
        assert refused == Refused(code=Refusal.SIGNATURE_VERIFICATION_FAILED, peer=5, ticket=number, flaw=Flaw.LOW_BITS)
    assert election.handle_answer(good) == Stored(number, 5)


def test_a_proof_goes_upward_five_times_and_downward_five_times_to_the_next_token_with_the_chunks_low_bits() -> None:
    (token, mappings) = good()
    ring = sorted(mapping.id for mapping in ALL)
    assert token.id == TOKEN
    for side, sign in ((mappings[:5], 1), (mappings[5:], -1)):
        at = TOKEN
        for mapping in side:
            gone = [sign * (each - at) % RING for each in ring if low(each) == low(mapping.id) and each != at]
            assert sign * (mapping.id - at) % RING == min(gone), "none between was left out"
            at = mapping.id
    assert [low(mapping.id) for mapping in mappings] == chunks(CHALLENGER, TOKEN, token.block)
    assert flaw(mappings) is None


def test_no_proof_of_a_token_that_is_not_held_nor_without_all_ten() -> None:
    assert prove(STORE, CHALLENGER, TOKEN + 1) is None
    assert prove(MemoryTokens(ALL[:500]), CHALLENGER, TOKEN) is None
    assert prove(MemoryTokens([TokenMapping(5, 1)]), CHALLENGER, 5) is None


def test_a_scan_wraps_around_the_end_of_the_ring_and_stops_before_the_token() -> None:
    wanted = chunks(1, RING - 1, 9)
    base = [TokenMapping((n << 10) + bits, n) for n, bits in enumerate(wanted[:5])]
    below = [TokenMapping(RING - ((n + 2) << 10) + bits, n) for n, bits in enumerate(wanted[5:])]
    proof = prove(MemoryTokens([TokenMapping(RING - 1, 9), *base, *below]), 1, RING - 1)
    assert proof is not None
    assert proof[1] == [*base, *below]
    assert prove(MemoryTokens([TokenMapping(RING - 1, 9), *base[:4], *below]), 1, RING - 1) is None


def test_P20_low_bits_alone_are_no_proof() -> None:
    _, mappings = good()
    wrong_side = [*mappings[:4], TokenMapping(mappings[5].id - 2048 - low(mappings[5].id - 2048) + low(mappings[4].id), 1), *mappings[5:]]
    assert flaw(wrong_side) in (Flaw.SIDE, Flaw.GAP)
    out_of_order = [mappings[0], TokenMapping(TOKEN - low(TOKEN) + 1024 + low(mappings[1].id), 1), *mappings[2:]]
    assert flaw(out_of_order) is Flaw.SIDE
    far = [*mappings[:4], TokenMapping((mappings[3].id + (1 << 62)) % RING >> 10 << 10 | low(mappings[4].id), 1), *mappings[5:]]
    assert flaw(far) is Flaw.GAP
    assert flaw(mappings[:9]) is Flaw.LENGTH
    assert flaw([*mappings[5:], *mappings[:5]]) is Flaw.LOW_BITS


def test_P20_repeated_ids_are_refused() -> None:
    # A challenger for whom two chunks of one side are equal: one id would serve twice.
    challenger = next(n for n in range(10_000) if len(set(chunks(n, TOKEN, good()[0].block)[:2])) == 1)
    proof = prove(STORE, challenger, TOKEN)
    assert proof is not None
    twice = [proof[1][0], proof[1][0], *proof[1][2:]]
    assert flaw_of(twice, challenger=challenger, answer=proof[0], tokens=STORE) is Flaw.REPEATED


def test_P20_the_gaps_of_honest_proofs_are_plausible_and_those_of_a_thinner_store_are_not() -> None:
    thin = MemoryTokens(ALL[: len(ALL) // 8])
    refused = taken = 0
    for mapping in ALL[:200]:
        own = prove(STORE, CHALLENGER, mapping.id)
        assert own is not None
        assert flaw_of(own[1], challenger=CHALLENGER, answer=own[0], tokens=STORE) is None
        other = prove(thin, CHALLENGER, mapping.id)
        if other is not None:
            taken += 1
            refused += flaw_of(other[1], challenger=CHALLENGER, answer=other[0], tokens=STORE) in (Flaw.GAP, Flaw.SPAN, Flaw.SIDE)
    assert taken > 50
    assert refused / taken > 0.9, "an eighth of the tokens has gaps eight times as long"


def test_P20_another_block_than_ones_own_copy_is_refused_unless_some_may_differ() -> None:
    _, mappings = good()
    lying = [TokenMapping(mappings[0].id, mappings[0].block ^ 1), *mappings[1:]]
    assert flaw(lying) is Flaw.CONTRADICTED
    assert flaw(lying, contradictions_max=1) is None
    assert flaw_of(mappings, challenger=CHALLENGER, answer=good()[0], tokens=MemoryTokens()) is None, "who holds nothing cannot tell"


def test_P20_ids_that_nobody_holds_are_refused_by_who_could_have_proven_the_same() -> None:
    assert flaw(list(made_proof(CHALLENGER, TOKEN, good()[0].block)), familiar_min=3) is Flaw.UNFAMILIAR
    assert flaw(good()[1], familiar_min=3) is None


def test_the_spacing_around_a_place_is_measured() -> None:
    around = neighbourhood(STORE, TOKEN)
    assert around is not None
    assert RING // len(ALL) * 2 // 3 < around.spacing < RING // len(ALL) * 3 // 2
    assert neighbourhood(MemoryTokens(ALL[:20]), TOKEN) is None


def test_segments_cover_the_ring() -> None:
    for segments in (1, 3, 16, 256):
        for n in range(segments):
            assert segment_of(segment_start(n, segments), segments) == n
            assert segment_of(segment_start(n + 1, segments) - 1, segments) == n


def test_draws_are_repeatable_and_fair() -> None:
    draw, again = Draw(b"entropy", "test"), Draw(b"entropy", "test")
    numbers = [draw.below(4) for _ in range(4_000)]
    assert numbers == [again.below(4) for _ in range(4_000)]
    assert all(900 < numbers.count(n) < 1_100 for n in range(4))
    weighed = [draw.weighted("ab", [1, 3]) for _ in range(4_000)]
    assert 2_850 < weighed.count("b") < 3_150
    assert Draw(b"entropy", "other").u64() != Draw(b"entropy", "test").u64()
    assert draw.u64() != draw.u64()
    assert draw.secret(5) == again.secret(5) != again.secret(6), "whatever was drawn before"


def test_at_the_edge_of_what_is_held_nothing_is_proven_that_others_would_refuse() -> None:
    ring = sorted(mapping.id for mapping in ALL)
    part = MemoryTokens(mapping for mapping in ALL if ring[10_000] <= mapping.id < ring[50_000])
    for at, expected in ((10_000, False), (10_020, False), (49_990, False), (20_000, True), (30_000, True), (40_000, True)):
        token = ring[at]
        assert prove(part, CHALLENGER, token) is not None
        assert (sound(part, CHALLENGER, token) is not None) == expected
    taken = 0
    for token in ring[10_000:50_000:400]:
        proof = sound(part, CHALLENGER, token)
        if proof is not None:
            taken += 1
            assert flaw_of(proof[1], challenger=CHALLENGER, answer=proof[0], tokens=STORE) is None
    assert taken > 70
