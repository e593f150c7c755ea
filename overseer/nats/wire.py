"""The client's half of the NATS wire, for bytes that anybody may have sent.

The parser of nats-py stops for good at a stored message whose subject holds a vertical tab or a byte that is not UTF-8, or
whose header block is shorter than its first line: whoever may publish one message can thereby halt every consumer of the
stream. The server stores such messages (seen on 2.15.1), so this parser takes every subject, header and body as it comes.
"""

import json
import re
from typing import Any, Protocol, cast

__all__ = ["WireEvents", "WireParser", "parse_headers", "parse_status", "wire_text"]

_PREAMBLE = b"NATS/1.0"
# What no server sends: it would be kept until it is whole. A server's max_payload is 64 MiB at most, an INFO some KiB.
_PAYLOAD_BYTES_MAX = 65 * 1024 * 1024
_LINE_BYTES_MAX = 1024 * 1024
_LONE_BYTES = re.compile("[\udc80-\udcff]")


class WireEvents(Protocol):
    """What the parser tells its session. `headers` is the raw block, empty without one."""

    def on_message(self, sid: int, subject: bytes, reply: bytes, headers: bytes, body: bytes) -> None: ...

    async def on_ping(self) -> None: ...

    def on_pong(self) -> None: ...

    async def on_info(self, info: dict[str, Any]) -> None: ...

    def on_error(self, text: str) -> None: ...


class WireParser:
    """Cuts the server's bytes into operations. Raises ValueError for what no server sends (the session is then over)."""

    def __init__(self, events: WireEvents) -> None:
        self._events = events
        self._rest = b""

    def reset(self) -> None:
        self._rest = b""

    async def parse(self, data: bytes = b"") -> None:
        buffer = self._rest + data if self._rest else data
        at = 0
        while True:
            line_end = buffer.find(b"\r\n", at)
            if line_end < 0:
                if len(buffer) - at > _LINE_BYTES_MAX:
                    raise ValueError(f"a line of more than {_LINE_BYTES_MAX} bytes")
                break
            line = buffer[at:line_end]
            if not line.startswith((b"MSG ", b"HMSG ")):
                await self._operation(line)
                at = line_end + 2
                continue
            # [H]MSG <subject> <sid> [reply] [header size] <size>, single spaces; none of the fields can hold a space.
            fields = line.split(b" ")
            with_headers = fields[0] == b"HMSG"
            if not 4 <= len(fields) - with_headers <= 5:
                raise ValueError(f"not a message of the NATS protocol: {line[:100]!r}")
            start = line_end + 2
            stop = start + _size(fields[-1])
            body_start = start + _size(fields[-2]) if with_headers else start
            if body_start > stop:
                raise ValueError(f"headers larger than the message: {line[:100]!r}")
            if len(buffer) < stop + 2:
                break
            reply = fields[3] if len(fields) == 5 + with_headers else b""
            self._events.on_message(_size(fields[2]), fields[1], reply, buffer[start:body_start], buffer[body_start:stop])
            at = stop + 2
        self._rest = buffer[at:]

    async def _operation(self, line: bytes) -> None:
        if line.startswith(b"PING"):
            await self._events.on_ping()
        elif line.startswith(b"PONG"):
            self._events.on_pong()
        elif line.startswith(b"-ERR"):
            self._events.on_error(wire_text(line[4:]).strip().strip("'"))
        elif line.startswith(b"INFO "):
            await self._events.on_info(_info(line[5:]))
        elif not line.startswith(b"+OK"):
            raise ValueError(f"not an operation of the NATS protocol: {line[:100]!r}")


def _size(field: bytes) -> int:
    """A size or subscription number. Raises ValueError: a negative size would have the same bytes read for ever."""
    if not field.isdigit() or len(field) > 18 or int(field) > _PAYLOAD_BYTES_MAX:
        raise ValueError(f"not a number of the NATS protocol: {field[:40]!r}")
    return int(field)


def _info(text: bytes) -> dict[str, Any]:
    """Raises ValueError."""
    try:
        info = json.loads(text)
    except RecursionError:
        raise ValueError("an INFO nested too deep") from None
    if not isinstance(info, dict):
        raise ValueError("an INFO that is no object")
    return cast(dict[str, Any], info)


def wire_text(raw: bytes) -> str:
    """The text of bytes that should be UTF-8; each byte that is not becomes U+FFFD, as in the server's JSON."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return _LONE_BYTES.sub("\ufffd", raw.decode("utf-8", "surrogateescape"))


def parse_headers(raw: bytes) -> dict[str, str]:
    """The headers of a stored message or request, the server's and the bus's own (Nats-...) left out. Takes any bytes."""
    headers: dict[str, str] = {}
    for line in raw.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon and not name.startswith(b"Nats-") and name.isascii():
            headers[name.strip().decode()] = wire_text(value.strip())
    return headers


def parse_status(raw: bytes) -> tuple[str, str, dict[str, str]]:
    """The (code, description, headers) of an inline status such as `NATS/1.0 408 Request Timeout`; code "" without one.

    Unlike `parse_headers` this keeps the server's own headers: that is where a status carries its details.
    """
    first, _, rest = raw.partition(b"\r\n")
    code, _, description = first.removeprefix(_PREAMBLE).strip().partition(b" ")
    headers: dict[str, str] = {}
    for line in rest.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon:
            headers[wire_text(name.strip())] = wire_text(value.strip())
    return wire_text(code), wire_text(description), headers
