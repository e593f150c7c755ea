"""What of a server's own settings is dangerous: read off its monitoring page, and tried as a stranger. Checked at every start."""

import json
import ssl
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import anyio
import msgspec
from anyio.abc import ByteStream
from anyio.streams.tls import TLSStream

from overseer.nats.tls import is_loopback

__all__ = ["Greeting", "greeting_dangers", "meet", "server_dangers"]

# What the contract needs to pass, and what one sender may make everybody hold in memory.
PAYLOAD_BYTES_MIN = 1024**2
PAYLOAD_BYTES_MAX = 8 * 1024**2
# A slow client may make the server hold this much.
PENDING_BYTES_MAX = 256 * 1024**2
_DEFAULT_CONNECTIONS = 64 * 1024
_MEET_S = 5
_LINE_BYTES_MAX = 64 * 1024


def server_dangers(varz: Mapping[str, Any]) -> list[str]:
    """What of a server's own settings could lose messages or let somebody in, from its monitoring page `varz`."""
    return [*_storage_dangers(varz), *_bound_dangers(varz), *_door_dangers(varz)]


def _storage_dangers(varz: Mapping[str, Any]) -> list[str]:
    config = _part(_part(varz, "jetstream"), "config")
    if not config:
        return ["the server has no JetStream: enable it"]
    dangers: list[str] = []
    if not config.get("sync_always"):
        dangers.append("the server acknowledges before it syncs: set jetstream.sync_interval to always")
    if not config.get("strict"):
        dangers.append("the server ignores fields of requests that it does not know: set jetstream.strict")
    return dangers


def _bound_dangers(varz: Mapping[str, Any]) -> list[str]:
    """Everything that one client can make the server hold has a bound."""
    dangers: list[str] = []
    payload = _number(varz, "max_payload")
    if not PAYLOAD_BYTES_MIN <= payload <= PAYLOAD_BYTES_MAX:
        dangers.append(f"max_payload is {payload}: must be from {PAYLOAD_BYTES_MIN} to {PAYLOAD_BYTES_MAX}")
    if not 0 < _number(varz, "max_pending") <= PENDING_BYTES_MAX:
        dangers.append(f"max_pending is {_number(varz, 'max_pending')}: a slow client may take more than {PENDING_BYTES_MAX} bytes")
    if not 0 < _number(varz, "max_connections") < _DEFAULT_CONNECTIONS:
        dangers.append("max_connections is not bounded")
    if _number(varz, "max_subscriptions") <= 0:
        dangers.append("max_subscriptions is not bounded")
    if _number(varz, "write_deadline") <= 0:
        dangers.append("write_deadline is not set: a client that does not read is kept for ever")
    limits = _part(_part(varz, "jetstream"), "limits")
    if _number(limits, "max_request_batch") <= 0:
        dangers.append("jetstream.limits.max_request_batch is not set: one pull may ask for any number of messages")
    return dangers


def _door_dangers(varz: Mapping[str, Any]) -> list[str]:
    dangers: list[str] = []
    if not varz.get("auth_required"):
        dangers.append("the server takes clients without a key: include the accounts file, and set no no_auth_user")
    if _number(varz, "http_port") and not is_loopback(str(varz.get("http_host") or "0.0.0.0")):
        dangers.append("the server's monitoring has no authentication and listens beyond loopback: set http to 127.0.0.1")
    # Nobody of ours comes in by these; each has its own idea of who may.
    others = [door for door in ("websocket", "mqtt", "leaf") if _number(_part(varz, door), "port")]
    return [*dangers, *(f"the server also listens for {door}: remove that block" for door in others)]


class Greeting(msgspec.Struct, frozen=True, kw_only=True):
    """What a stranger learns of a server. `open_door`: it was let in without a key."""

    tls_required: bool
    auth_required: bool
    payload_bytes_max: int
    open_door: bool


def greeting_dangers(greeting: Greeting, url: str, *, insecure: bool) -> list[str]:
    """The same, for a server whose monitoring cannot be read."""
    dangers: list[str] = []
    if greeting.open_door or not greeting.auth_required:
        dangers.append(f"{url} lets in a client without a key: include the accounts file, and set no no_auth_user")
    if not greeting.tls_required and not insecure and not is_loopback(urlsplit(url).hostname or ""):
        dangers.append(f"{url} speaks in clear beyond this machine: give it a tls block with verify, or set nats.insecure")
    if not PAYLOAD_BYTES_MIN <= greeting.payload_bytes_max <= PAYLOAD_BYTES_MAX:
        dangers.append(f"{url}: max_payload is {greeting.payload_bytes_max}: must be from {PAYLOAD_BYTES_MIN} to {PAYLOAD_BYTES_MAX}")
    return dangers


async def meet(url: str, *, tls: ssl.SSLContext | None = None) -> Greeting:
    """Come as a stranger: read the server's greeting, then try to get in without a key. Raises OSError, TimeoutError."""
    parts = urlsplit(url)
    with anyio.fail_after(_MEET_S):
        stream: ByteStream = await anyio.connect_tcp(parts.hostname or "", parts.port or 4222)
        try:
            info = await _info(stream)
            if info.get("tls_required") and tls is not None:
                stream = await TLSStream.wrap(stream, hostname=parts.hostname, ssl_context=tls, standard_compatible=False)
            await stream.send(b'CONNECT {"verbose":false,"pedantic":false,"lang":"python","version":"0","protocol":1}\r\nPING\r\n')
            open_door = await _answered_ping(stream)
        finally:
            await anyio.aclose_forcefully(stream)
    return Greeting(
        tls_required=bool(info.get("tls_required")),
        auth_required=bool(info.get("auth_required")),
        payload_bytes_max=_number(info, "max_payload"),
        open_door=open_door,
    )


async def _info(stream: ByteStream) -> dict[str, Any]:
    said = b""
    while b"\r\n" not in said and len(said) < _LINE_BYTES_MAX:
        said += await stream.receive()
    if not said.startswith(b"INFO "):
        raise ConnectionError(f"this is no NATS server: it says {said[:80]!r}")
    try:
        return cast(dict[str, Any], json.loads(said[5:].partition(b"\r\n")[0]))
    except ValueError as error:
        raise ConnectionError(f"its greeting cannot be read: {error}") from error


async def _answered_ping(stream: ByteStream) -> bool:
    """Whether the stranger's ping was answered, rather than the door shut."""
    said = b""
    try:
        while len(said) < _LINE_BYTES_MAX:
            if b"-ERR" in said:
                return False
            if b"PONG" in said:
                return True
            said += await stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        pass
    return b"PONG" in said and b"-ERR" not in said


def _part(table: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], table.get(name) or {})


def _number(table: Mapping[str, Any], name: str) -> int:
    return int(table.get(name) or 0)
