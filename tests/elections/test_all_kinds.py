"""What all kinds of election have in common: keys, history, projections, retention (docs/elections.md)."""

import pytest
from blake3 import blake3

from messages.ballots import BallotCast, CastBallot, CloseElection, OpenElection, ValidateElection
from messages.codec import decode
from messages.elections import (
    Archived,
    ArchiveElection,
    ElectionArchived,
    ElectionEvent,
    ElectionHistory,
    ElectionReport,
    GetElection,
    ListElections,
    ProjectionPage,
    QueryHistory,
    QueryProjection,
    Retained,
    UnknownElection,
    UnknownProjection,
)
from messages.elections import (
    Elections as ElectionList,
)
from messages.message import CATALOG, Kind, Message
from overseer.testing.given import Given
from subsystems.elections.composition import Clash
from subsystems.elections.config import ElectionsConfig
from subsystems.elections.projection import Counts
from subsystems.elections.rows import EVENTS, key_hash
from subsystems.elections.subsystem import Elections

DAY_MS = 24 * 3_600_000
START_MS = 1_000_000


def opened(key: str = "k") -> OpenElection:
    return OpenElection(election=key, title="T", choices=["yes", "no"])


def ballots(count: int, key: str = "k", *, start: int = 0) -> list[CastBallot]:
    return [CastBallot(election=key, voter=b"%d" % n, choice="yes" if n % 3 else "no") for n in range(start, start + count)]


def after(*commands: Message, subsystem: Elections | None = None) -> Given:
    given = Given(subsystem or Elections(ElectionsConfig(validate_unreviewed=True)))
    for command in commands:
        assert given.when(command).rejection is None
    return given


def counts(given: Given, projection: str, key: str = "k") -> dict[str, int]:
    page = given.ask(QueryProjection(election=key, projection=projection))
    assert isinstance(page, ProjectionPage)
    return {row.key: row.count for row in page.counts}


def report(given: Given, key: str = "k") -> ElectionReport:
    answer = given.ask(GetElection(election=key))
    assert isinstance(answer, ElectionReport)
    return answer


# ------------------------------------------------------------------------------------------------ history


def test_every_event_is_kept_in_order_and_the_head_chains_them() -> None:
    given = after(opened(), *ballots(5), CloseElection(election="k"))
    history = given.ask(QueryHistory(election="k"))
    assert isinstance(history, ElectionHistory)
    assert [row.sequence for row in history.events] == list(range(1, 8))
    read = []
    for row in history.events:
        owner, kind, name = row.message.split(".")
        spec = CATALOG.find(Kind(kind), owner, name)
        assert spec is not None
        read.append(decode(spec, row.body))
    assert read == [event for event in given.history if isinstance(event, ElectionEvent)]
    head = bytes(32)
    for _, data in given.view.scan(EVENTS, prefix=(key_hash("k"),)):
        head = blake3(head + data).digest()
    assert report(given).head == head
    assert report(given).summary.sequence == 7


def test_a_long_history_comes_in_pages() -> None:
    given = after(opened(), *ballots(25))
    seen: list[int] = []
    while True:
        page = given.ask(QueryHistory(election="k", start=len(seen) + 1, limit=10))
        assert isinstance(page, ElectionHistory)
        seen += [row.sequence for row in page.events]
        if not page.more:
            break
    assert seen == list(range(1, 27))


def test_elections_are_listed_by_key_in_pages_and_do_not_touch_each_other() -> None:
    given = after(*[opened(f"e{n}") for n in range(5)], *ballots(3, "e1"), *ballots(2, "e4"))
    first = given.ask(ListElections(limit=3))
    assert isinstance(first, ElectionList)
    assert ([row.election for row in first.elections], first.more) == (["e0", "e1", "e2"], True)
    rest = given.ask(ListElections(after="e2"))
    assert isinstance(rest, ElectionList)
    assert ([row.sequence for row in rest.elections], rest.more) == ([1, 3], False)
    assert counts(given, "status", "e1")["1 cast"] == 3
    assert "1 cast" not in counts(given, "status", "e0")


def test_what_is_not_there_is_said_by_name() -> None:
    given = after(opened())
    assert given.ask(GetElection(election="other")) == UnknownElection(election="other")
    assert given.ask(QueryProjection(election="k", projection="nothing")) == UnknownProjection(
        projection="nothing", known=["status", "tally", "turnout"]
    )


# ------------------------------------------------------------------------------------------------ projections


def test_status_tally_and_turnout_are_counted_along() -> None:
    given = after(opened(), *ballots(6))
    given.when(*ballots(1, start=6), now_ms=START_MS + 120_000)
    assert counts(given, "tally") == {"1 cast no": 3, "1 cast yes": 4}
    assert counts(given, "status") == {"round": 1, "1 phase open": START_MS, "1 cast": 7}
    assert counts(given, "turnout") == {"1 0000000000960000": 6, "1 0000000001080000": 1}


class Losing:
    """A third party's: the number of ballots for `no`; it once had a mistake."""

    name = "losing"

    def __init__(self, version: int) -> None:
        self.version = version

    def apply(self, counts: Counts, event: ElectionEvent) -> None:
        if isinstance(event, BallotCast) and event.choice == "no":
            counts.add("no")
            if self.version == 1 and counts.get("no") == 2:
                raise ZeroDivisionError("a mistake")


def with_losing(version: int) -> Elections:
    return Elections(projections=[Losing(version)])


def test_B24_a_projection_that_raises_is_stale_from_there_and_blocks_nothing() -> None:
    given = after(opened(), *ballots(7), subsystem=with_losing(1))
    (state,) = (row for row in report(given).projections if row.name == "losing")
    assert (state.applied, state.stale) == (4, "event 5: ZeroDivisionError('a mistake')")
    assert counts(given, "losing") == {"no": 1}, "of the event that failed nothing is kept"
    assert counts(given, "status")["1 cast"] == 7, "the others go on"
    assert given.replayed().rows.all() == given.rows.all()


def test_B24_with_the_mistake_mended_everything_is_counted_anew() -> None:
    given = after(opened(), *ballots(7), subsystem=with_losing(1))
    mended = with_losing(2)
    assert mended.declaration.evolve_version != given.subsystem.declaration.evolve_version, "the rows are made anew at the start"
    given.subsystem = mended
    assert counts(given.replayed(), "losing") == {"no": 3}
    # Where the journal is no longer complete, the election's own history heals it with its next event.
    given.when(*ballots(1, start=7))
    (state,) = (row for row in report(given).projections if row.name == "losing")
    assert (state.version, state.applied, state.stale) == (2, 9, "")
    assert counts(given, "losing") == {"no": 3}


def test_two_projections_of_one_name_are_refused_at_the_start() -> None:
    class Tally(Losing):
        name = "tally"

    with pytest.raises(Clash, match="two projections called 'tally'"):
        Elections(projections=[Tally(2)])


# ------------------------------------------------------------------------------------------------ retention


def ended(config: ElectionsConfig | None = None) -> Given:
    subsystem = Elections(config or ElectionsConfig(validate_unreviewed=True))
    return after(opened(), *ballots(3), CloseElection(election="k"), ValidateElection(election="k"), subsystem=subsystem)


def test_B20_on_day_20_a_terminal_idle_election_is_all_there_and_not_archived() -> None:
    given = ended()
    then = given.when(ArchiveElection(election="k"), now_ms=START_MS + 20 * DAY_MS)
    assert then.rejection == Retained(election="k", until_ms=START_MS + 21 * DAY_MS)
    assert given.settle(now_ms=START_MS + 20 * DAY_MS).events == []
    assert report(given).summary.sequence == 6
    assert counts(given, "tally")["1 cast yes"] == 2


def test_results_are_retained_for_their_own_time_after_a_late_end() -> None:
    given = after(opened())
    given.when(CloseElection(election="k"), now_ms=START_MS + 30 * DAY_MS)
    given.when(ValidateElection(election="k"))
    assert report(given).retain_until_ms == START_MS + 37 * DAY_MS


def test_an_election_that_has_not_ended_is_never_archived() -> None:
    given = after(opened())
    assert given.when(ArchiveElection(election="k"), now_ms=START_MS + 999 * DAY_MS).rejection == Retained(election="k", until_ms=None)


def test_only_an_archive_event_ends_retention_and_then_the_rows_are_gone_and_the_key_is_taken() -> None:
    given = ended()
    head = report(given).head
    then = given.when(ArchiveElection(election="k"), now_ms=START_MS + 21 * DAY_MS)
    archived = ElectionArchived(election="k", at_ms=START_MS + 21 * DAY_MS, sequence=7, kind="ballots", events=6, head=head)
    assert (then.events, then.sent) == ([archived], [archived])
    assert report(given).summary.archived
    assert [
        name for name in ("events", "projections", "counts", "ballots", "ballot_states") if list(given.rows.scan(name, b"", None))
    ] == []
    assert given.when(opened()).rejection == Archived(election="k")
    assert given.when(ArchiveElection(election="k")).rejection == Archived(election="k")
    assert given.replayed().rows.all() == given.rows.all()


def test_where_it_is_so_configured_it_is_archived_when_it_is_due() -> None:
    given = ended(ElectionsConfig(validate_unreviewed=True, archive_when_due=True))
    assert given.settle(now_ms=START_MS + 21 * DAY_MS - 1).events == []
    (event,) = given.settle(now_ms=START_MS + 21 * DAY_MS).events
    assert isinstance(event, ElectionArchived)
