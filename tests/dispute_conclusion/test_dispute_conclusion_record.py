"""The record of conclusions: what is answered, what is forgotten, and that the tables follow from the events."""

import pytest
from dispute_conclusion_kit import (
    CANDIDATE,
    SESSION,
    VOTERS,
    answer,
    block,
    cascade,
    challenged,
    conclusion,
    detection,
    given,
    h,
    nothing,
    resolution,
    session_change,
)

from messages.chain_api import Descendants
from messages.dispute_conclusion import (
    Challenged,
    ChallengeLifted,
    Conclusions,
    DescendantsAnswer,
    Detection,
    GetConclusion,
    ListConclusions,
    Resolution,
    TransactionRef,
    UnknownConclusion,
)
from messages.polkadot import Side, TransactionKind
from overseer.testing.given import Given
from subsystems.dispute_conclusion.subsystem import DisputeConclusion


def test_old_sessions_are_forgotten_by_range_and_watched_conclusions_outlive_their_inclusions() -> None:
    node = given(inclusion_sessions=2, conclusion_sessions=10)
    node.when(session_change(5))
    node.when(block("A", CANDIDATE, session=5))
    node.when(block("B", h("young"), session=8))
    node.when(resolution(valid=False))
    node.when(answer("A", 2))
    node.when(session_change(8))
    assert nothing(node.when(session_change(8)))
    assert nothing(node.when(session_change(7)))
    assert {key[0] for key, _ in node.view.scan(table(node, "inclusions"))} == {8}
    assert node.when(block("C", CANDIDATE, session=8)).sent == [Descendants(block=h("C"))]
    node.when(session_change(15))
    kept = {t.name for t in node.subsystem.declaration.tables if next(node.view.scan_packed(t), None) is not None}
    assert kept == {"newest"}
    assert isinstance(node.ask(GetConclusion(session=SESSION, candidate=CANDIDATE)), UnknownConclusion)


def test_forgetting_old_conclusions_leaves_the_younger_ones_watched() -> None:
    node = given(conclusion_sessions=2)
    young = h("young")
    node.when(resolution(valid=False))
    node.when(Resolution(session=SESSION + 1, candidate=young, valid=False, voters=VOTERS))
    node.when(session_change(SESSION + 2))
    assert node.when(block("A", CANDIDATE, session=7)).sent == []
    assert node.when(block("B", young, session=7)).sent == [Descendants(block=h("B"))]


def table(node: Given, name: str):  # type: ignore[no-untyped-def]
    return next(t for t in node.subsystem.declaration.tables if t.name == name)


def test_a_conclusion_tells_its_causes() -> None:
    node = given()
    node.when(block("A", CANDIDATE))
    node.when(detection(), now_ms=2_000_000)
    node.when(challenged(), now_ms=2_000_001)
    node.when(resolution(valid=False), now_ms=2_000_002)
    found = conclusion(node)
    assert found.voters == VOTERS
    assert found.including_blocks == [h("A")]
    assert found.transactions == [
        TransactionRef(TransactionKind.SLASH, 0, Side.INVALID),
        TransactionRef(TransactionKind.SLASH, 1, Side.INVALID),
        TransactionRef(TransactionKind.REWARD, 2, Side.INVALID),
    ]
    assert [(s.at_ms, s.position) for s in found.steps] == [
        (2_000_000, 2),
        (2_000_001, 3),
        (2_000_001, 3),
        (2_000_002, 4),
        (2_000_002, 4),
    ]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_conclusions_are_listed_in_pages_open_ones_or_all(limit: int) -> None:
    node = given(rows_scanned_max=2)
    for session in (3, 5, 9):
        for name in ("x", "y"):
            node.when(detection(h(name), session))
    node.when(resolution(valid=True, candidate=h("x")))
    assert len(listed(node, limit, open_only=False)) == 6
    still_open = listed(node, limit, open_only=True)
    assert (5, h("x")) not in still_open
    assert len(still_open) == 5
    assert [session for session, _ in still_open] == sorted(session for session, _ in still_open)


def test_a_list_of_no_conclusions_at_a_time_still_goes_on() -> None:
    node = given()
    node.when(detection(h("x")))
    node.when(detection(h("y")))
    assert len(listed(node, 0, open_only=True)) == 2


def listed(node: Given, limit: int, *, open_only: bool) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    query = ListConclusions(open_only=open_only, limit=limit)
    for _ in range(20):
        reply = node.ask(query)
        assert isinstance(reply, Conclusions)
        found += [(c.session, c.candidate) for c in reply.conclusions]
        if reply.next_session is None:
            return found
        query = ListConclusions(open_only=open_only, limit=limit, after_session=reply.next_session, after_candidate=reply.next_candidate)
    raise AssertionError("the list does not end")


def test_an_unknown_conclusion_is_a_typed_rejection() -> None:
    reply = given().ask(GetConclusion(session=1, candidate=CANDIDATE))
    assert reply == UnknownConclusion(session=1, candidate=CANDIDATE)


def test_only_votes_db_reports_disputes_and_only_chain_api_answers() -> None:
    restricted = DisputeConclusion().declaration.restricted
    assert restricted == {
        Detection: ("votes_db",),
        Challenged: ("votes_db",),
        ChallengeLifted: ("votes_db",),
        Resolution: ("votes_db",),
        DescendantsAnswer: ("chain_api",),
    }


def test_the_tables_are_a_function_of_the_events() -> None:
    node = given()
    for message in (block("A", CANDIDATE), detection(), challenged(), resolution(valid=False), answer("A", 3), cascade("A")):
        node.when(message)
    again = node.replayed()
    for one in node.subsystem.declaration.tables:
        assert list(node.view.scan_packed(one)) == list(again.view.scan_packed(one))
