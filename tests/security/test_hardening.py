"""Settings of a server that would lose messages or let somebody in are found at every start, whoever's server it is."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from overseer.config import Config, NatsConfig
from overseer.nats.accounts import accounts_config
from overseer.nats.hardening import Greeting, greeting_dangers, meet, server_dangers
from overseer.nats.provision import DangerousSettings, call
from overseer.nats.resources import BusLimits, node_streams
from overseer.nats.server import EmbeddedServer
from overseer.node.bus import connected_as, dangers_at_the_door, node_accounts, provisioned
from overseer.ports.bus import BusUnavailable
from tests.security.shared_bus import DECLARATIONS

pytestmark = pytest.mark.anyio

# As the embedded server's monitoring page has it.
SOUND: dict[str, Any] = {
    "auth_required": True,
    "max_payload": 1024**2,
    "max_pending": 64 * 1024**2,
    "max_connections": 256,
    "max_subscriptions": 512,
    "write_deadline": 10_000_000_000,
    "http_host": "127.0.0.1",
    "http_port": -1,
    "leaf": {},
    "mqtt": {},
    "websocket": {},
    "jetstream": {"config": {"sync_always": True, "strict": True}, "limits": {"max_request_batch": 2000}},
}


def changed(**fields: Any) -> dict[str, Any]:
    return {**copy.deepcopy(SOUND), **fields}


UNSOUND = [
    (changed(jetstream={}), "no JetStream"),
    (changed(jetstream={**SOUND["jetstream"], "config": {"strict": True, "sync_interval": 120}}), "sync_interval to always"),
    (changed(jetstream={**SOUND["jetstream"], "config": {"sync_always": True}}), "jetstream.strict"),
    (changed(jetstream={**SOUND["jetstream"], "limits": {}}), "max_request_batch"),
    (changed(auth_required=False), "without a key"),
    (changed(max_payload=64 * 1024), "max_payload is 65536"),
    (changed(max_payload=64 * 1024**2), "max_payload is 67108864"),
    (changed(max_pending=0), "max_pending"),
    (changed(max_pending=1024**3), "max_pending"),
    (changed(max_connections=65536), "max_connections"),
    (changed(max_subscriptions=0), "max_subscriptions"),
    (changed(write_deadline=0), "write_deadline"),
    (changed(http_host="0.0.0.0"), "monitoring has no authentication"),
    (changed(http_host=""), "monitoring has no authentication"),
    (changed(websocket={"port": 8443}), "also listens for websocket"),
    (changed(mqtt={"port": 1883}), "also listens for mqtt"),
    (changed(leaf={"port": 7422}), "also listens for leaf"),
]


def test_a_sound_server_has_no_dangers() -> None:
    assert server_dangers(SOUND) == []


@pytest.mark.parametrize(("varz", "says"), UNSOUND, ids=[says for _, says in UNSOUND])
def test_every_dangerous_setting_of_a_server_is_named(varz: dict[str, Any], says: str) -> None:
    dangers = server_dangers(varz)
    assert says in dangers[0]
    assert len(dangers) == 1 or not varz["jetstream"]


def test_a_stranger_who_gets_in_or_is_spoken_to_in_clear_is_a_danger() -> None:
    sound = Greeting(tls_required=False, auth_required=True, payload_bytes_max=1024**2, open_door=False)

    def found(url: str = "nats://127.0.0.1:4222", *, insecure: bool = False, **fields: Any) -> list[str]:
        return greeting_dangers(Greeting(**{**{f: getattr(sound, f) for f in sound.__struct_fields__}, **fields}), url, insecure=insecure)

    assert found() == []
    assert "without a key" in found(open_door=True)[0]
    assert "without a key" in found(auth_required=False)[0]
    assert "in clear" in found("nats://10.0.0.1:4222")[0]
    assert found("nats://10.0.0.1:4222", insecure=True) == found("tls://10.0.0.1:4222", tls_required=True) == []
    assert "max_payload" in found(payload_bytes_max=1000)[0]


def test_no_stream_keeps_less_or_lets_headers_change_it() -> None:
    """What reliability demands of every stream; the provisioner compares all of it at each start, and mends it."""
    for stream in node_streams("alpha", BusLimits()):
        wanted = {"storage": "file", "retention": "limits", "discard": "new", "deny_delete": True, "allow_direct": False, "no_ack": False}
        wanted |= {"allow_rollup_hdrs": False, "allow_msg_ttl": False, "allow_msg_schedules": False, "allow_msg_counter": False}
        wanted |= {"max_age": 0, "sealed": False, "persist_mode": None, "mirror": None, "sources": None, "subject_transform": None}
        assert {field: stream.config[field] for field in wanted} == wanted, stream.name
        assert wanted.keys() <= stream.dangerous, stream.name


# ------------------------------------------------------------------------------------------------ real servers


def config_of(folder: Path, url: str = "") -> Config:
    return Config(node="alpha", data_dir=folder, nats=NatsConfig(url=url))


async def provision_against(folder: Path, alter: Callable[[str], str]) -> None:
    """Our accounts, altered as a careless operator of the bus would, on a server that is not ours."""
    text = alter(node_accounts(config_of(folder), DECLARATIONS))
    async with EmbeddedServer(folder / "theirs", text) as server:
        config = config_of(folder, server.url)
        async with connected_as(config, server.url, "provisioner") as manage:
            await provisioned(config, manage, DECLARATIONS, None)


@pytest.mark.real
async def test_a_server_with_a_user_for_strangers_is_found_out_by_trying(tmp_path: Path) -> None:
    """`no_auth_user`: a stranger is simply let in, on a server whose monitoring page we cannot read."""

    def open_door(text: str) -> str:
        guest = "GUESTS { users: [ { user: guest, password: guest } ] }\n"
        return "no_auth_user: guest\n" + text.replace("accounts {\n", "accounts {\n" + guest, 1)

    await provision_against(tmp_path / "sound", lambda text: text)
    with pytest.raises(DangerousSettings, match="lets in a client without a key"):
        await provision_against(tmp_path / "open", open_door)


@pytest.mark.real
async def test_a_server_without_accounts_is_found_out(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path, "accounts {}\n") as server:
        greeting = await meet(server.url)
        assert greeting.open_door
        assert "without a key" in (await dangers_at_the_door(config_of(tmp_path), server.url))[0]


@pytest.mark.real
async def test_no_server_at_all_is_said_and_one_of_several_may_be_away(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    with pytest.raises(BusUnavailable):
        await dangers_at_the_door(config, "nats://127.0.0.1:1,nats://127.0.0.1:2")
    async with EmbeddedServer(tmp_path / "nats", accounts_config([])) as server:
        assert await dangers_at_the_door(config, f"nats://127.0.0.1:1,{server.url}") == await dangers_at_the_door(config, server.url)


@pytest.mark.real
async def test_a_bucket_of_an_older_release_is_mended(tmp_path: Path) -> None:
    """It took rollups, by which whoever may put one object could wipe all, and let messages be deleted."""
    config = config_of(tmp_path)
    (wanted,) = (stream for stream in node_streams("alpha", BusLimits()) if stream.name.startswith("OBJ_"))
    body = {field: value for field, value in wanted.config.items() if value is not None}
    older = {**body, "allow_rollup_hdrs": True, "deny_delete": False, "max_bytes": 2**20}
    server = EmbeddedServer(tmp_path / "nats", node_accounts(config, DECLARATIONS))
    async with server, connected_as(config, server.url, "provisioner") as manage:
        await call(manage, f"STREAM.CREATE.{wanted.name}", older)
        changes = await provisioned(config_of(tmp_path, server.url), manage, DECLARATIONS, server)
    mended = next(change for change in changes if change.name == wanted.name)
    assert set(mended.dangerous) == {"allow_rollup_hdrs", "deny_delete"}
