"""Provisioning: make the bus what the declarations need. Idempotent; shows beforehand what it would change.

It speaks the JetStream API in JSON itself: reading a configuration and writing it back keeps the fields that it does not know
(client libraries drop them). What is dangerous to have otherwise is checked at every start, also on a server that is not ours.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeVar, cast

import anyio
import msgspec

from overseer.nats.connection import NobodyListens
from overseer.nats.hardening import server_dangers
from overseer.nats.resources import STREAM_ID, STREAM_NODE, SUBSYSTEM, WantedConsumer, WantedStream
from overseer.ports.bus import BusUnavailable

__all__ = ["Api", "ApiError", "Change", "DangerousSettings", "Drift", "Provisioner", "call", "server_dangers"]

_TIMEOUT_MS = 10_000
_NOT_FOUND = 404
_UNAVAILABLE = 503
# Written by the server, renewed with every update.
_SERVERS_OWN = "_nats."
# Setting a consumer to a sequence (CONSUMER.RESET) came with nats-server 2.14; atomic batches are older.
API_LEVEL_MIN = 4
# A cluster that has no leader yet, or not enough servers for the copies that are wanted, gets this long.
SETTLE_S = 30.0
_SETTLE_LOOK_S = 0.1
# Beside those of code 503: there are not enough servers for the copies that are wanted.
_NO_PEERS = 10005
# 503 as well, and there to stay: too little memory or disk (10023), JetStream is off (10039, 10076).
_SETTLED = (10023, 10039, 10076)
# There is such a stream by now, with an id of its own: another node's provisioner was first.
_MADE_MEANWHILE = 10058

T = TypeVar("T")


class _Answer(Protocol):
    @property
    def body(self) -> bytes: ...


class Api(Protocol):
    """What is needed of a connection (`overseer.nats.connection.Connection`), made as the user `provisioner`."""

    async def request(self, subject: str, body: bytes, *, timeout_ms: int) -> _Answer: ...


class ApiError(Exception):
    """JetStream refused: what was asked, its error code and its words."""

    def __init__(self, what: str, code: int, error_code: int, description: str) -> None:
        super().__init__(f"{what}: {description} (JetStream error {error_code})")
        self.what = what
        self.code = code
        self.error_code = error_code
        self.description = description

    @property
    def unsettled(self) -> bool:
        """Whether it passes: a cluster is about to settle, or two nodes have made the network's stream at once. To be begun again."""
        return self.error_code in (_NO_PEERS, _MADE_MEANWHILE) or (self.code == _UNAVAILABLE and self.error_code not in _SETTLED)


class DangerousSettings(Exception):
    """The bus is set up so that it could lose or forge messages, and this could not be changed. Nothing may be started."""

    def __init__(self, dangers: Sequence[str]) -> None:
        super().__init__("\n".join(["the bus is not safe to run on:", *(f"  {danger}" for danger in dangers)]))
        self.dangers = tuple(dangers)


class Drift(msgspec.Struct, frozen=True):
    """One field that is not as wanted."""

    field: str
    found: Any
    wanted: Any

    def __str__(self) -> str:
        return f"{self.field}: {self.found!r} -> {self.wanted!r}"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a plan. `dangerous` names the drifted fields that may lose or forge messages.

    A `delete` is of a consumer whose subsystem is no longer declared: it holds back trimming, but may be wanted again.
    """

    action: Literal["create", "update", "delete"]
    kind: Literal["stream", "consumer"]
    name: str
    drifts: tuple[Drift, ...] = ()
    dangerous: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.action} {self.kind} {self.name}" + "".join(f"\n  {drift}" for drift in self.drifts)


async def call(api: Api, verb: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Ask `$JS.API.<verb>`. Raises ApiError, and what the connection raises."""
    answer = await api.request(f"$JS.API.{verb}", msgspec.json.encode(body) if body is not None else b"", timeout_ms=_TIMEOUT_MS)
    reply = msgspec.json.decode(answer.body, type=dict[str, Any])
    error = reply.get("error")
    if error is not None:
        raise ApiError(verb, int(error.get("code", 0)), int(error.get("err_code", 0)), str(error.get("description", "")))
    return reply


class Provisioner:
    """Makes streams and consumers what they should be. One node's provisioner at a time; two do no harm.

    A cluster is given SETTLE_S to elect who leads it; what it says then is raised.
    """

    def __init__(self, api: Api, streams: Sequence[WantedStream], consumers: Sequence[WantedConsumer]) -> None:
        self._api = api
        self._streams = streams
        self._consumers = consumers

    async def plan(self) -> list[Change]:
        """What `apply` would do, in order; empty when everything is as it should be. Raises ApiError, BusError."""
        return await _when_settled(self._plan)

    async def _plan(self) -> list[Change]:
        changes: list[Change] = []
        for stream in self._streams:
            changes += _stream_change(stream, await self._stream_config(stream.name))
        for consumer in self._consumers:
            changes += _consumer_change(consumer, await self._consumer_config(consumer))
        return changes + await self._strays()

    async def apply(self, *, delete: bool = False) -> list[Change]:
        """Do it, and return what was done. Consumers that nobody declares are deleted only on demand. Raises ApiError, BusError."""
        done: list[Change] = []
        await _when_settled(lambda: self._apply(done, delete))
        return done

    async def _apply(self, done: list[Change], delete: bool) -> None:
        """From what is there, so it may be begun again; `done` gets what was done."""
        for stream in self._streams:
            found = await self._stream_config(stream.name)
            for change in _stream_change(stream, found):
                verb = "UPDATE" if change.action == "update" else "CREATE"
                await call(self._api, f"STREAM.{verb}.{stream.name}", _stream_body(stream, found))
                done.append(change)
        for consumer in self._consumers:
            found = await self._consumer_config(consumer)
            for change in _consumer_change(consumer, found):
                body = {"stream_name": consumer.stream, "config": _merged(consumer.config, found), "action": change.action}
                await call(self._api, f"CONSUMER.CREATE.{consumer.stream}.{consumer.name}", body)
                done.append(change)
        if delete:
            for change in await self._strays():
                await call(self._api, f"CONSUMER.DELETE.{change.name.replace('/', '.')}")
                done.append(change)

    async def verify(self, varz: Mapping[str, Any] | None = None, *, also: Sequence[str] = ()) -> None:
        """Raise DangerousSettings when something dangerous is not as wanted.

        `varz`: the server's, where it can be read; `also`: dangers that the caller has found by other ways.
        """
        plan = await self.plan()
        dangers = [f"{c.kind} {c.name} does not exist" for c in plan if c.action == "create"]
        dangers += [f"{c.kind} {c.name}: {drift}" for c in plan for drift in c.drifts if drift.field in c.dangerous]
        level = int((await call(self._api, "INFO")).get("api", {}).get("level", 0))
        if level < API_LEVEL_MIN:
            dangers.append(f"the server's JetStream API level is {level}; at least {API_LEVEL_MIN} (nats-server 2.14) is needed")
        dangers += [*(server_dangers(varz) if varz is not None else []), *also]
        if dangers:
            raise DangerousSettings(dangers)

    async def _stream_config(self, name: str) -> dict[str, Any] | None:
        return await self._config(f"STREAM.INFO.{name}")

    async def _consumer_config(self, consumer: WantedConsumer) -> dict[str, Any] | None:
        return await self._config(f"CONSUMER.INFO.{consumer.stream}.{consumer.name}")

    async def _config(self, verb: str) -> dict[str, Any] | None:
        try:
            return cast(dict[str, Any], (await call(self._api, verb))["config"])
        except ApiError as error:
            if error.code == _NOT_FOUND:
                return None
            raise

    async def _strays(self) -> list[Change]:
        """Consumers that an overseer made for a subsystem of this node which is no longer declared."""
        declared = {(consumer.stream, consumer.name) for consumer in self._consumers}
        nodes = {consumer.config["metadata"][STREAM_NODE] for consumer in self._consumers}
        strays: list[Change] = []
        for stream in dict.fromkeys(consumer.stream for consumer in self._consumers):
            for name, config in (await consumer_configs(self._api, stream)).items():
                metadata = metadata_of(config)
                if SUBSYSTEM in metadata and metadata.get(STREAM_NODE) in nodes and (stream, name) not in declared:
                    strays.append(Change(action="delete", kind="consumer", name=f"{stream}/{name}"))
        return strays


async def _when_settled(work: Callable[[], Awaitable[T]]) -> T:
    """`work`, begun again while a cluster settles, or the server that we are with goes away."""
    until = anyio.current_time() + SETTLE_S
    while True:
        try:
            return await work()
        except (ApiError, BusUnavailable) as error:
            passing = error.unsettled if isinstance(error, ApiError) else not isinstance(error, NobodyListens)
            if not passing or anyio.current_time() >= until:
                raise
        await anyio.sleep(_SETTLE_LOOK_S)


def metadata_of(config: Mapping[str, Any]) -> dict[str, str]:
    return cast(dict[str, str], config.get("metadata") or {})


async def consumer_configs(api: Api, stream: str) -> dict[str, dict[str, Any]]:
    """The configurations of all consumers of a stream, by name."""
    return {info["name"]: info["config"] for info in await consumer_infos(api, stream)}


async def consumer_infos(api: Api, stream: str) -> list[dict[str, Any]]:
    """CONSUMER.LIST, all pages; empty when there is no such stream."""
    found: list[dict[str, Any]] = []
    while True:
        try:
            page = await call(api, f"CONSUMER.LIST.{stream}", {"offset": len(found)})
        except ApiError as error:
            if error.code == _NOT_FOUND:
                return []
            raise
        consumers: list[dict[str, Any]] = page.get("consumers") or []
        found += consumers
        if not consumers or len(found) >= int(page["total"]):
            return found


# ------------------------------------------------------------------------------------------------ comparing


def _same(found: Any, wanted: Any) -> bool:
    """A field that is not there is off, zero or empty; lists of subjects have no order."""
    if isinstance(wanted, list) and isinstance(found, list):
        return sorted(cast(list[str], wanted)) == sorted(cast(list[str], found))
    if isinstance(wanted, dict) and isinstance(found, dict):
        known = cast(dict[str, Any], found)
        return all(_same(known.get(key), value) for key, value in cast(dict[str, Any], wanted).items())
    return found == wanted or (not found and not wanted)


def _drifts(config: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[Drift, ...]:
    return tuple(Drift(field, found.get(field), wanted) for field, wanted in config.items() if not _same(found.get(field), wanted))


def _stream_change(stream: WantedStream, found: dict[str, Any] | None) -> list[Change]:
    if found is None:
        return [Change(action="create", kind="stream", name=stream.name)]
    drifts = _drifts(stream.named(metadata_of(found).get(STREAM_ID, "*")).config, found)
    if stream.identified and STREAM_ID not in metadata_of(found):
        drifts += (Drift(f"metadata.{STREAM_ID}", None, "a random one"),)
    return _change("stream", stream.name, drifts, stream.dangerous)


def _consumer_change(consumer: WantedConsumer, found: dict[str, Any] | None) -> list[Change]:
    name = f"{consumer.stream}/{consumer.name}"
    if found is None:
        return [Change(action="create", kind="consumer", name=name)]
    return _change("consumer", name, _drifts(consumer.config, found), consumer.dangerous)


def _change(kind: Literal["stream", "consumer"], name: str, drifts: tuple[Drift, ...], dangerous: frozenset[str]) -> list[Change]:
    if not drifts:
        return []
    fields = tuple(drift.field for drift in drifts if drift.field in dangerous)
    return [Change(action="update", kind=kind, name=name, drifts=drifts, dangerous=fields)]


def _merged(config: Mapping[str, Any], found: Mapping[str, Any] | None) -> dict[str, Any]:
    """What is there, fields unknown to us included, with our fields over it; what must be off is left out."""
    base = dict(found or {})
    metadata = {k: v for k, v in metadata_of(base).items() if not k.startswith(_SERVERS_OWN)}
    merged = {**base, **config, "metadata": {**metadata, **config.get("metadata", {})}}
    return {field: value for field, value in merged.items() if value is not None}


def _stream_body(stream: WantedStream, found: Mapping[str, Any] | None) -> dict[str, Any]:
    stream_id = metadata_of(found or {}).get(STREAM_ID) or secrets.token_hex(16)
    body = _merged(stream.named(stream_id).config, found)
    if stream.identified:
        body["metadata"][STREAM_ID] = stream_id
    return body
