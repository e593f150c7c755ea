"""Single messages of a stream, as JetStream tells them (STREAM.MSG.GET): for who has no consumer there."""

import base64
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any

from overseer.nats.provision import Api, ApiError, call
from overseer.nats.wire import parse_headers
from overseer.ports.bus import StoredMessage

__all__ = ["read_stored", "stored_message", "stored_messages", "time_ms"]

_NOT_FOUND = 404


async def stored_messages(api: Api, stream: str, subjects: str, from_sequence: int = 1) -> AsyncIterator[StoredMessage]:
    """All that the stream holds on these subjects by now, in order. Raises ApiError, BusError."""
    while message := await stored_message(api, stream, {"seq": from_sequence, "next_by_subj": subjects}):
        yield message
        from_sequence = message.sequence + 1


async def stored_message(api: Api, stream: str, which: Mapping[str, object]) -> StoredMessage | None:
    """The one that `which` asks for, in JetStream's words; None when there is none. Raises ApiError, BusError."""
    try:
        return read_stored((await call(api, f"STREAM.MSG.GET.{stream}", which))["message"])
    except ApiError as error:
        if error.code == _NOT_FOUND:
            return None
        raise


def read_stored(message: Mapping[str, Any]) -> StoredMessage:
    """As JetStream tells a message."""
    headers = base64.b64decode(message.get("hdrs", ""))
    return StoredMessage(
        int(message["seq"]),
        time_ms(message["time"]),
        str(message["subject"]),
        parse_headers(headers) if headers else {},
        base64.b64decode(message.get("data", "")),
    )


def time_ms(text: str) -> int:
    """Milliseconds since the epoch, rounded down, of a time such as 2026-11-21T05:52:24.317688969Z."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return int(datetime.fromisoformat(f"{whole}+00:00").timestamp()) * 1000 + int(fraction.ljust(3, "0")[:3])
