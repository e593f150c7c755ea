"""Moments as people write them, and what is said of those that are none."""

import pytest

from overseer.history.moments import AtIndex, AtPosition, AtTime, BadMoment, Now, read_moment, time_text

# 2026-11-22T14:05:06.789Z
NOW = 1_795_356_306_789
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
MIDNIGHT = NOW - NOW % DAY
FIVE_PAST = MIDNIGHT + 14 * HOUR + 5 * MINUTE


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("25", AtPosition(25)),
        ("0", AtPosition(0)),
        (" 25 ", AtPosition(25)),
        ("votes_db:120", AtIndex("votes_db", 120)),
        ("now", Now(NOW)),
        ("5m", AtTime(NOW - 5 * MINUTE)),
        ("5m ago", AtTime(NOW - 5 * MINUTE)),
        ("-5m", AtTime(NOW - 5 * MINUTE)),
        ("1h30m", AtTime(NOW - 90 * MINUTE)),
        ("2d", AtTime(NOW - 2 * DAY)),
        ("90s ago", AtTime(NOW - 90_000)),
        ("250ms", AtTime(NOW - 250)),
        ("14:05", AtTime(FIVE_PAST)),
        ("14:05:06", AtTime(FIVE_PAST + 6_000)),
        ("14:05:06.5", AtTime(FIVE_PAST + 6_500)),
        ("14:06", AtTime(FIVE_PAST + MINUTE - DAY)),
        ("9:30", AtTime(MIDNIGHT + 9 * HOUR + 30 * MINUTE)),
        ("2026-11-22T14:05:00Z", AtTime(FIVE_PAST)),
        ("2026-11-22T14:05:00", AtTime(FIVE_PAST)),
        ("2026-11-22 14:05", AtTime(FIVE_PAST)),
        ("2026-11-22T16:05:00+02:00", AtTime(FIVE_PAST)),
        ("2026-11-22T14:05:06.789Z", AtTime(NOW)),
    ],
)
def test_a_moment_is_read_as_it_is_written(text: str, moment: object) -> None:
    assert read_moment(text, NOW) == moment


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("yesterday", "'yesterday' is no moment. A moment is"),
        ("", "is no moment"),
        ("25:61", "is no moment"),
        ("20261122", ""),
        ("2026-11-22", "is no moment"),
        ("-5", "is no moment"),
        ("5x", "is no moment"),
        ("votes_db:", "is no moment"),
        ("votes_db:-1", "is no moment"),
        ("9" * 30, "too large a number"),
        ("999999999d", "before all time"),
        ("2026-11-22T14:05:07Z", "2026-11-22T14:05:07.000Z is yet to come; it is 2026-11-22T14:05:06.789Z."),
        ("1900-01-01T00:00:00Z", "is no moment"),
        ("²⁵", "is no moment"),
    ],
)
def test_what_is_no_moment_is_said(text: str, words: str) -> None:
    if not words:
        # A number is a position, whatever it looks like.
        assert isinstance(read_moment(text, NOW), AtPosition)
        return
    with pytest.raises(BadMoment) as said:
        read_moment(text, NOW)
    assert words in str(said.value)


def test_a_time_that_is_shown_can_be_given_again() -> None:
    assert read_moment(time_text(NOW), NOW) == AtTime(NOW)
    assert time_text(2**64 - 1).endswith(" ms")
