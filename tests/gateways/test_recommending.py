"""The recommended stake redistribution: what fits, by balance, in whole units."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st
from queue_story import digest

from messages.gateway_queries import QueuedRequest
from overseer.recommending import recommend

REQUESTS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 1_000)), max_size=20)


def request(arrival: int, size: int, balance: int) -> QueuedRequest:
    return QueuedRequest(arrival, digest(arrival), size, balance, 0, 0)


def amounts(requests: list[QueuedRequest], capacity: int, stake: int) -> dict[int, int]:
    arrivals = {each.request: each.arrival for each in requests}
    return {arrivals[row.request]: row.amount for row in recommend(requests, capacity_bytes=capacity, stake=stake)}


def test_stake_goes_to_what_fits_in_proportion_to_the_balances() -> None:
    requests = [request(1, 50, 10), request(2, 60, 30), request(3, 40, 20)]
    assert amounts(requests, capacity=100, stake=100) == {2: 60, 3: 40}, "the smallest balance does not fit any more"
    assert amounts(requests, capacity=1_000, stake=100) == {2: 50, 3: 33, 1: 17}


def test_one_that_does_not_fit_does_not_keep_smaller_ones_out() -> None:
    assert amounts([request(1, 500, 90), request(2, 10, 5)], capacity=100, stake=7) == {2: 7}


def test_the_largest_remainders_get_what_is_left_and_of_equal_ones_the_older() -> None:
    assert amounts([request(n, 1, 1) for n in (1, 2, 3)], capacity=3, stake=5) == {1: 2, 2: 2, 3: 1}


def test_without_anything_that_fits_there_is_nothing_to_vote_for() -> None:
    assert amounts([request(1, 10, 1)], capacity=9, stake=5) == {}
    assert amounts([], capacity=9, stake=5) == {}
    assert amounts([request(1, 1, 1)], capacity=9, stake=0) == {}


@given(REQUESTS, st.integers(0, 300), st.integers(0, 10_000))
def test_the_whole_stake_is_spread_and_each_part_is_within_one_of_its_share(rows: list[tuple[int, int]], capacity: int, stake: int) -> None:
    requests = [request(number, size, balance) for number, (size, balance) in enumerate(rows, 1)]
    found = amounts(requests, capacity, stake)
    assert sum(found.values()) in (0, stake)
    chosen = [each for each in requests if each.arrival in found]
    assert sum(each.size for each in chosen) <= capacity
    total = sum(each.balance for each in chosen)
    for each in chosen:
        if total and len(chosen) == len([r for r in requests if r.balance]):
            assert abs(found[each.arrival] - Fraction(stake * each.balance, total)) < 1
    assert recommend(list(reversed(requests)), capacity_bytes=capacity, stake=stake) == recommend(
        requests, capacity_bytes=capacity, stake=stake
    )
