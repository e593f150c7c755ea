"""Large ballots: a close goes over the votes once, in bounded steps, and what is published fits a message (G25)."""

import random

import pytest
from blake3 import blake3
from queue_story import QUEUE, SHORT, Story, account, digest, proof, submit, vote

from messages.codec import BODY_BYTES_MAX, encode
from messages.gateways import ItemResult, NotAuthorized, RoundResults, Standing
from messages.signals import BestChain, BlockRef
from overseer.testing.given import Then
from subsystems.elections.gateways.config import GatewaysConfig
from subsystems.elections.gateways.rows import GATEWAYS, ITEMS, WEIGHTS
from subsystems.elections.rows import key_hash

E = key_hash(QUEUE)
CLOSE = digest("9/a")


def recorded(items: int, gateways: int, votes: int) -> tuple[Story, dict[bytes, dict[bytes, int]]]:
    """At height 8, with so many votes recorded; the weights by item and gateway. They are put as rows: a million commands take a while."""
    chance = random.Random(1)
    story = Story(SHORT)
    story.gateways(**{f"g{number}": 10**9 for number in range(gateways)})
    story.done(*(submit(f"i{number}") for number in range(items)))
    story.reach(8)
    view = story.given.view
    accounts = [(row.number, name) for (_, name), row in view.scan(GATEWAYS, (E,))]
    arrivals = [(item.arrival, request) for (_, request), item in view.scan(ITEMS, (E,))]
    weights: dict[bytes, dict[bytes, int]] = {request: {} for _, request in arrivals}
    rows: list[tuple[bytes, bytes]] = []
    for pair in chance.sample(range(items * gateways), votes):
        (arrival, request), (number, name) = arrivals[pair // gateways], accounts[pair % gateways]
        weight = chance.randint(1, 50)
        weights[request][name] = weight
        rows.append((WEIGHTS.pack((E, 1, arrival, number)), weight.to_bytes(8, "big")))
    story.given.rows.load(WEIGHTS.name, sorted(rows))
    return story, weights


def closed(story: Story) -> list[RoundResults]:
    """The pages of the close, step by step; each fits a message."""
    then = story.when(BestChain(reverted=[], applied=[BlockRef(CLOSE, 9)]))
    pages: list[RoundResults] = []
    step: Then | None = then
    while step is not None:
        assert len(step.events) <= 1 + 2 * story.given.subsystem.config.chain_steps_max  # type: ignore[attr-defined]
        pages += [event for event in step.sent if isinstance(event, RoundResults)]
        step = story.given.fire_one()
    assert [page.page for page in pages] == list(range(len(pages)))
    assert [page.last for page in pages] == [False] * (len(pages) - 1) + [True]
    assert max(len(encode(page)) for page in pages) < BODY_BYTES_MAX // 2
    return pages


def exact(results: list[ItemResult], weights: dict[bytes, dict[bytes, int]]) -> None:
    """Every request once, in order of age, with the ranking that its votes give."""
    assert {row.request for row in results} == weights.keys()
    assert len(results) == len(weights)
    for row in results:
        cast = weights[row.request]
        tie = {name: blake3(CLOSE + row.request + name).digest() for name in cast}
        ranking = [Standing(name, cast[name]) for name in sorted(cast, key=lambda name: (-cast[name], tie[name]))]
        assert (row.winners, row.alternates) == (ranking[:1], ranking[1:])


def test_G25_a_close_is_one_pass_in_steps_and_its_ranked_winners_are_exact() -> None:
    story, weights = recorded(items=600, gateways=25, votes=9_000)
    pages = closed(story)
    assert len(pages) == 3, "4 000 votes, or 500 requests, in a page"
    exact([row for page in pages for row in page.results], weights)
    assert story.gateway("g0").held == sum(
        row.winners[0].weight for page in pages for row in page.results if row.winners and row.winners[0].gateway == account("g0")
    )


@pytest.mark.full
def test_G25_ten_thousand_items_five_hundred_gateways_a_million_votes() -> None:
    story, weights = recorded(items=10_000, gateways=500, votes=1_000_000)
    exact([row for page in closed(story) for row in page.results], weights)


def test_a_request_that_comes_while_a_close_is_in_progress_is_not_in_the_ballot_that_is_due_already() -> None:
    """Where L = M the next round is cut at the block that closes this one: with a large close it is cut later, with what it had to be."""
    story = Story(GatewaysConfig(collect_blocks=4, vote_blocks=4, requests_per_step=1), chain_steps_max=1)
    story.done(*(submit(name) for name in "uvw"))
    story.reach(5)
    story.done(submit("x"))
    story.reach(10, settle=False)
    assert story.queue().round == 0, "the close is in progress"
    assert [story.done(submit("y")).events[0].behind] == [1]  # type: ignore[attr-defined]
    story.given.settle()
    assert story.queue().round == 1
    assert (story.ballot("uvwxyz"), story.open("uvwxyz")) == ("uvwx", "y")
    story.reach(15)
    assert story.ballot("uvwxyz") == "uvwxy"


def test_a_large_revocation_goes_on_in_steps_and_its_assignments_are_void_at_once() -> None:

    story = Story(GatewaysConfig(collect_blocks=4, vote_blocks=3, requests_per_step=1), chain_steps_max=1)
    story.gateways(A=100)
    story.done(*(submit(name) for name in "wxyz"))
    story.reach(5)
    story.done(*(vote("A", name, 25) for name in "wxyz"))
    story.reach(9)
    assert story.assigned("wxyz") == "wxyz"
    story.reach(8, keep=8, settle=False)
    assert story.assigned("wxyz") != ""
    assert story.refused(proof("A", "z")) == NotAuthorized(executor=account("A"))
    story.given.settle()
    assert (story.assigned("wxyz"), story.open("wxyz"), story.gateway("A").free) == ("", "wxyz", 100)
