"""Where elections are, and where a command for one goes (points 3 and 4 of the runtime)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from replicated_world import eight, five

from messages.election_pairs import NotOwnedYetReason, SiteRow, TopologyRecord
from subsystems.elections.runtime.placement import ImpossibleTopology, changed, check, placed
from subsystems.elections.runtime.routing import CatchUp, Deliver, Forward, Refuse, route

KEYS = [f"key-{n}" for n in range(10_000)]


@st.composite
def topologies(draw: st.DrawFn) -> TopologyRecord:
    places = st.tuples(st.integers(0, 5), st.integers(0, 2))
    sites = [
        SiteRow(f"s{n}", f"dc{dc}", f"z{zone}", draw(st.booleans())) for n, (dc, zone) in enumerate(draw(st.lists(places, max_size=12)))
    ]
    return TopologyRecord(version=1, sites=sites)


@given(topology=topologies(), key=st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1, max_size=8))
def test_no_data_centre_holds_three_of_five_and_any_two_followers_include_another_data_centre(topology: TopologyRecord, key: str) -> None:
    try:
        check(topology)
    except ImpossibleTopology:
        return
    if not topology.sites:
        return
    where = {row.name: (row.data_centre, row.zone) for row in topology.sites}
    placement = placed(topology, key)
    if len(topology.sites) == 1:
        assert (placement.sites, placement.followers, placement.acknowledgements) == ((topology.sites[0].name,), (), 0)
        return
    held = [where[site] for site in placement.sites]
    assert len(held) == len(set(held)) == 5, "five copies, each in a zone of its own"
    centres = [centre for centre, _ in held]
    assert max(centres.count(centre) for centre in centres) <= 2
    assert centres[1:].count(centres[0]) <= 1, "one follower at most is at home"
    assert placement.writer in placement.sites
    assert placement.acknowledgements == 2


@pytest.mark.parametrize("topology", [five(), eight()], ids=["five", "eight"])
def test_four_data_centres_with_two_zones_and_five_with_one_are_placed_as_the_spec_says(topology: TopologyRecord) -> None:
    where = {row.name: row.data_centre for row in topology.sites}
    for key in KEYS[:300]:
        centres = [where[site] for site in placed(topology, key).sites]
        if len(where) == 5:
            assert len(set(centres)) == 5
        else:
            assert centres[0] == centres[1], "the writer, and a follower in the other zone of its home"
            assert len(set(centres)) == 4, "and one in each other data centre"


def test_B22_a_ninth_site_takes_a_ninth_of_the_writers_and_no_other_writer_moves() -> None:
    before = eight()
    after = changed(before, [*before.sites, SiteRow("s8", "dc4", "z0")])
    moved = [key for key in KEYS if placed(before, key).writer != placed(after, key).writer]
    assert len(KEYS) / 9 * 0.8 <= len(moved) <= len(KEYS) / 9 * 1.2
    assert {placed(after, key).writer for key in moved} == {"s8"}
    assert changed(after, before.sites).version == 3


def test_B22_while_a_site_that_was_added_is_away_every_election_is_written_where_it_was() -> None:
    before = eight()
    for new in (SiteRow("s8", "dc4", "z0", away=True), SiteRow("s8", "dc0", "z2", away=True)):
        after = changed(before, [*before.sites, new])
        assert [key for key in KEYS if placed(before, key).writer != placed(after, key).writer] == []


def test_a_site_that_is_away_keeps_its_copies_and_another_member_writes() -> None:
    before = five()
    away = changed(before, [SiteRow(r.name, r.data_centre, r.zone, r.name == "s0") for r in before.sites])
    for key in KEYS[:300]:
        old, new = placed(before, key), placed(away, key)
        assert old.sites == new.sites
        assert new.writer == (old.writer if old.writer != "s0" else old.sites[1])


@pytest.mark.parametrize(
    "sites",
    [
        [],
        [SiteRow("a", "x", "1"), SiteRow("b", "y", "1")],
        [SiteRow(f"s{n}", f"dc{n % 2}", f"z{n}") for n in range(8)],
        [SiteRow(f"s{n}", f"dc{n % 4}", "z") for n in range(8)],
        [SiteRow("s0", f"dc{n}", "z") for n in range(5)],
    ],
    ids=["none", "two", "two data centres", "one zone each", "one name"],
)
def test_a_topology_that_cannot_hold_five_copies_is_refused(sites: list[SiteRow]) -> None:
    with pytest.raises(ImpossibleTopology):
        check(TopologyRecord(version=1, sites=sites))


def test_a_command_is_delivered_at_its_owner_and_else_forwarded_there_once() -> None:
    topology = five()
    owner = placed(topology, "k").writer
    other = next(row.name for row in topology.sites if row.name != owner)
    assert route(owner, 1, site=owner, seen=1, path=("a", "b", "c")) == Deliver()
    assert route(owner, 1, site=other, seen=0, path=()) == Forward(owner, (other,))


def test_a_command_never_goes_back_to_where_it_came_from_nor_on_after_three_hops_and_a_site_behind_catches_up() -> None:
    topology = five()
    owner = placed(topology, "k").writer
    other = next(row.name for row in topology.sites if row.name != owner)
    assert route(owner, 1, site=other, seen=1, path=(owner,)) == Refuse(NotOwnedYetReason.LOOP)
    assert route(owner, 1, site=other, seen=1, path=("a", "b", "c")) == Refuse(NotOwnedYetReason.HOPS)
    assert route(owner, 1, site=other, seen=2, path=()) == CatchUp(2)
