"""Appending to a stream: one publish or one atomic batch, and what the server's answers mean."""

from collections.abc import Mapping, Sequence
from secrets import token_hex
from typing import Any

import msgspec

from overseer.nats.connection import Connection, NobodyListens, Unanswered
from overseer.ports.bus import BusError, BusRefused, BusUnavailable, OutcomeUnknown, Outgoing, StreamFull, WrongLastSequence

__all__ = ["append_batch", "append_one", "refusal"]

_EXPECTED_LAST = "Nats-Expected-Last-Subject-Sequence"
_EXPECTED_UNDER = "Nats-Expected-Last-Subject-Sequence-Subject"
_BATCH_ID = "Nats-Batch-Id"
_BATCH_SEQUENCE = "Nats-Batch-Sequence"
_BATCH_COMMIT = "Nats-Batch-Commit"

# JetStream's error codes: 10071, 10164 wrong last sequence; 10077 the stream's limit, 10023 and 10047 the account's or server's.
_WRONG_LAST = (10071, 10164)
_FULL = (10077, 10023, 10047)
# Parts of a batch did not arrive (10176), too many batches are open (10210, 10211), JetStream is not up (10008, 10039, 10076).
_TRY_AGAIN = (10176, 10210, 10211, 10008, 10039, 10076)


def compare_and_set(own_filter: str, expected_last: int) -> dict[str, str]:
    """The headers that make a publish conditional on the last sequence under a filter."""
    return {_EXPECTED_LAST: str(expected_last), _EXPECTED_UNDER: own_filter}


async def append_one(connection: Connection, message: Outgoing, condition: Mapping[str, str], timeout_ms: int) -> int:
    """Returns the sequence. Raises as `Line.append`."""
    headers = {**message.headers, **condition}
    try:
        reply = await connection.request(message.subject, message.body, headers=headers or None, timeout_ms=timeout_ms)
    except Unanswered as error:
        raise OutcomeUnknown(str(error)) from error
    except NobodyListens as error:
        raise BusUnavailable(f"no stream takes {message.subject} now: it is nearly full (see `overseer status`), or not there") from error
    return _stored_sequence(reply.body)


async def append_batch(connection: Connection, messages: Sequence[Outgoing], condition: Mapping[str, str], timeout_ms: int) -> int:
    """All or none, in order. Returns the last one's sequence. Raises as `Line.append`."""
    batch_id = token_hex(16)
    *firsts, last = messages
    subjects = sorted({message.subject for message in firsts})
    failed: list[BusError] = []
    # Only the commit is answered; what is denied before it, or a session that ends before it, must not go unnoticed.
    forget = connection.expect(subjects, failed.append)
    try:
        for place, message in enumerate(firsts, start=1):
            headers = {**message.headers, _BATCH_ID: batch_id, _BATCH_SEQUENCE: str(place)}
            if place == 1:
                headers.update(condition)
            await connection.publish(message.subject, message.body, headers=headers)
    finally:
        forget()
    if failed:
        # Without the commit nothing is stored.
        raise failed[0] if not isinstance(failed[0], Unanswered) else BusUnavailable(f"{failed[0]}; nothing of the batch was stored")
    headers = {**last.headers, _BATCH_ID: batch_id, _BATCH_SEQUENCE: str(len(messages)), _BATCH_COMMIT: "1"}
    try:
        reply = await connection.request(last.subject, last.body, headers=headers, timeout_ms=timeout_ms, also=subjects)
    except Unanswered as error:
        raise OutcomeUnknown(str(error)) from error
    return _stored_sequence(reply.body)


def _stored_sequence(body: bytes) -> int:
    try:
        answer: Any = msgspec.json.decode(body)
        if "error" not in answer:
            return int(answer["seq"])
    except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
        raise OutcomeUnknown(f"not an acknowledgement of a publish: {body[:200]!r}") from error
    raise refusal(answer["error"])


def refusal(error: Mapping[str, Any]) -> BusError:
    """The error of a JetStream answer, by its code."""
    code = int(error.get("err_code", 0))
    text = str(error.get("description", ""))
    if code in _WRONG_LAST:
        return WrongLastSequence(f"{text} (JetStream error {code}): something else is last under the sender's filter")
    if code in _FULL:
        return StreamFull(f"{text} (JetStream error {code}): trim the stream or raise its limit")
    if code in _TRY_AGAIN:
        return BusUnavailable(f"{text} (JetStream error {code})")
    return BusRefused(code, text)
