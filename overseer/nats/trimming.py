"""Trimming: drop from a stream what every subsystem has durably processed, but for a configured history.

A subsystem acknowledges after its synced commit, so its consumer's ack floor is never ahead of its store. The last message of
each sender always stays: it is that sender's published mark, which it compares and sets with every publish. So does what is NEVER_TRIMMED.
"""

import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from messages.consensus_blocks import BlockSealed
from messages.message import Message
from messages.subjects import SubjectError, parse
from overseer.nats.provision import Api, call, consumer_infos, metadata_of
from overseer.nats.quota import fill_of
from overseer.nats.resources import SUBSYSTEM

__all__ = ["NEVER_TRIMMED", "TRIMMED_BELOW", "Holder", "Trimmed", "lowest_position", "trim"]

# Metadata of the stream: what is missing below this sequence was trimmed, and is not lost.
TRIMMED_BELOW = "overseer_trimmed_below"

# Stays, however old: from its sealed blocks alone, all from genesis on, a restarted feed makes its network's chain again (ADR 0026).
NEVER_TRIMMED: tuple[type[Message], ...] = (BlockSealed,)

# A stream of large messages could be full of history alone.
_HISTORY_FILL_MAX = 0.5


class Holder(msgspec.Struct, frozen=True, order=True):
    """How far a consumer's subsystem has got: everything it consumes up to `sequence` is durably processed."""

    sequence: int
    consumer: str


class Trimmed(msgspec.Struct, frozen=True, kw_only=True):
    """What a trim did. `below`: everything kept, but for senders' last messages and what stays for ever, is at this sequence or after it.

    `held_by` is the consumer that kept it from going further, "" when that was the history or the caller's own bound.
    """

    messages: int
    below: int
    held_by: str = ""


async def lowest_position(api: Api, stream: str) -> Holder | None:
    """The subsystem that is furthest behind on `stream`; None when no subsystem consumes it."""
    last = int((await call(api, f"STREAM.INFO.{stream}"))["state"]["last_seq"])
    holders = [_holder(info, last) for info in await consumer_infos(api, stream) if SUBSYSTEM in metadata_of(info["config"])]
    return min(holders, default=None)


def _holder(info: dict[str, Any], last: int) -> Holder:
    floor = int(info["ack_floor"]["stream_seq"])
    # Nothing for it, and nothing of it open: it has done with all there was when `last` was read.
    done = not info["num_pending"] and not info["num_ack_pending"]
    return Holder(max(floor, last) if done else floor, info["name"])


async def trim(api: Api, stream: str, *, below: int | None = None, keep: int) -> Trimmed:
    """Purge messages before `below` (exclusive; none: as far as allowed), but none that a subsystem may still need and
    not the newest `keep`, or fewer where so many would take up more than half of what the stream has room for beside what
    stays for ever. Raises ApiError.
    """
    info = await call(api, f"STREAM.INFO.{stream}", {"subjects_filter": ">"})
    lowest = await lowest_position(api, stream)
    bounds = [int(info["state"]["last_seq"]) - min(keep, _history_max(info)) + 1]
    if below is not None:
        bounds.append(below)
    held_by = ""
    if lowest is not None and lowest.sequence < min(bounds):
        # The message at a subsystem's position stays: it is compared with the store's mark at start.
        bounds.append(lowest.sequence)
        held_by = lowest.consumer
    bound = min(bounds)
    if bound <= int(info["state"]["first_seq"]):
        return Trimmed(messages=0, below=int(info["state"]["first_seq"]), held_by=held_by)
    await _mark(api, stream, info["config"], bound)
    purged = await _purge(api, stream, sorted(info["state"].get("subjects") or {}), bound)
    return Trimmed(messages=purged, below=bound, held_by=held_by)


def _history_max(info: Mapping[str, Any]) -> int:
    """How many messages, of the present average size, are half of what the stream has room for: history must not fill it."""
    fill = fill_of(info)
    if not fill:
        return sys.maxsize
    subjects: dict[str, int] = info["state"].get("subjects") or {}
    stay = sum(count for subject, count in subjects.items() if _stays(subject))
    return max(0, int(_HISTORY_FILL_MAX * (info["state"]["messages"] / fill - stay)))


async def _mark(api: Api, stream: str, config: dict[str, Any], bound: int) -> None:
    """Say it before it is done: afterwards nobody may take the gap for a loss."""
    metadata = metadata_of(config)
    marked = str(max(bound, int(metadata.get(TRIMMED_BELOW, "0"))))
    await call(api, f"STREAM.UPDATE.{stream}", {**config, "metadata": {**metadata, TRIMMED_BELOW: marked}})


async def _purge(api: Api, stream: str, subjects: list[str], bound: int) -> int:
    """Purge below `bound`, all senders together as far as their last messages allow (cheap), then one by one.

    Where something stays for ever nothing is purged together, and of its senders each other subject alone.
    """
    lasts = {own: await _last(api, stream, own) for own in dict.fromkeys(map(_own_filter, subjects))}
    staying = {_own_filter(subject) for subject in subjects if _stays(subject)}
    together = min([bound, *lasts.values()]) if not staying else 0
    purged = int((await call(api, f"STREAM.PURGE.{stream}", {"seq": together}))["purged"]) if together else 0
    if together >= bound:
        return purged
    alone = {subject: _own_filter(subject) for subject in subjects if _own_filter(subject) in staying and not _stays(subject)}
    for which, own in [*((own, own) for own in lasts if own not in staying), *alone.items()]:
        purged += int((await call(api, f"STREAM.PURGE.{stream}", {"seq": min(bound, lasts[own]), "filter": which}))["purged"])
    return purged


def _stays(subject: str) -> bool:
    try:
        spec = parse(subject).spec()
    except SubjectError:
        return False
    return spec is not None and spec.body in NEVER_TRIMMED


async def _last(api: Api, stream: str, own_filter: str) -> int:
    answer = await call(api, f"STREAM.MSG.GET.{stream}", {"last_by_subj": own_filter})
    return int(answer["message"]["seq"])


def _own_filter(subject: str) -> str:
    """The filter of everything that the sender of `subject` appends to the same stream."""
    tokens = subject.split(".")
    return ".".join(tokens[: 4 if tokens[1] == "net" else 3]) + ".>"
