"""A metrics page read back: how often and how long, over the time between two looks, or since the process began."""

from collections.abc import Mapping

import msgspec
from prometheus_client.parser import text_string_to_metric_families

__all__ = ["EMPTY", "Histogram", "PageError", "Scrape", "quantile_s", "read_page", "since"]

_COUNTERS = {"overseer_batch_messages_sum": "processed", "overseer_published_total": "published"}
_HISTOGRAMS = {"overseer_flight_seconds_bucket": "flight", "overseer_commit_seconds_bucket": "commit"}


class PageError(ValueError):
    """It is no metrics page."""


# How many observations took at most so many seconds, by that bound.
Histogram = Mapping[float, float]


class Scrape(msgspec.Struct, frozen=True, kw_only=True):
    """What a page tells of one subsystem: what it counts, and the histograms of its times in seconds."""

    processed: float = 0.0
    published: float = 0.0
    flight: Histogram = {}
    commit: Histogram = {}


EMPTY = Scrape()


def read_page(text: str) -> dict[str, Scrape]:
    """By subsystem. Raises PageError."""
    # By subsystem: counters, and histograms by bound.
    counts: dict[str, dict[str, float]] = {}
    times: dict[str, dict[str, dict[float, float]]] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                name = sample.labels.get("subsystem", "")
                if (counter := _COUNTERS.get(sample.name)) is not None:
                    counts.setdefault(name, {})[counter] = sample.value
                elif (histogram := _HISTOGRAMS.get(sample.name)) is not None:
                    times.setdefault(name, {}).setdefault(histogram, {})[float(sample.labels["le"])] = sample.value
    except (ValueError, KeyError) as error:
        raise PageError(f"no metrics page: {error}") from error
    return {name: _scrape(counts.get(name, {}), times.get(name, {})) for name in counts.keys() | times.keys()}


def _scrape(counts: Mapping[str, float], times: Mapping[str, Histogram]) -> Scrape:
    return msgspec.structs.replace(EMPTY, **counts, **times)


def since(before: Scrape, now: Scrape) -> Scrape:
    """What was counted between the two; of a process that began anew in between, since its start."""
    if now.processed < before.processed or now.published < before.published:
        return now
    return Scrape(
        processed=now.processed - before.processed,
        published=now.published - before.published,
        flight=_difference(before.flight, now.flight),
        commit=_difference(before.commit, now.commit),
    )


def _difference(before: Histogram, now: Histogram) -> Histogram:
    return {bound: count - before.get(bound, 0.0) for bound, count in now.items()}


def quantile_s(histogram: Histogram, part: float) -> float | None:
    """The time that `part` (0 to 1) of the observations stayed below, within the precision of the bounds; None without any."""
    bounds = sorted(histogram)
    total = histogram[bounds[-1]] if bounds else 0.0
    if total <= 0:
        return None
    wanted, below, lower = part * total, 0.0, 0.0
    for bound in bounds:
        count = histogram[bound]
        if count >= wanted and count > below:
            # In the last bucket, which has no end, its beginning is all that is known.
            return lower if bound == float("inf") else lower + (bound - lower) * (wanted - below) / (count - below)
        below, lower = count, bound
    return lower
