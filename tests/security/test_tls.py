"""Beyond this machine the bus speaks TLS 1.3 with certificates on both sides, or not at all."""

import asyncio
import json
import ssl
from pathlib import Path

import anyio
import msgspec
import pytest

from overseer.nats.accounts import NodeUsers, accounts_config, inbox_prefix, user_names
from overseer.nats.connection import Connection, connect
from overseer.nats.hardening import greeting_dangers, meet
from overseer.nats.keys import KeyFolder
from overseer.nats.server import EmbeddedServer, ServerError, ServerSettings
from overseer.nats.tls import TlsFiles, UnusableCertificate, client_context, context_for, is_loopback
from overseer.ports.bus import BusUnavailable
from overseer.settings import ConfigError, load_config
from tests.node.nodes import Node, Place
from tests.security.certificates import Authority
from tests.security.shared_bus import DECLARATIONS, NODE

pytestmark = pytest.mark.anyio

LOCAL = ("DNS:localhost", "IP:127.0.0.1")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority") / "ours")


@pytest.fixture(scope="module")
def files(authority: Authority) -> TlsFiles:
    return authority.signed("node", *LOCAL)


def server(folder: Path, tls: TlsFiles | None, host: str = "0.0.0.0") -> tuple[EmbeddedServer, KeyFolder]:
    keys = KeyFolder(folder / "keys")
    users = NodeUsers(node=NODE, declarations=DECLARATIONS, keys=keys.ensure(user_names(DECLARATIONS)))
    return EmbeddedServer(folder / "nats", accounts_config([users]), settings=ServerSettings(host=host, tls=tls)), keys


async def as_reader(url: str, keys: KeyFolder, tls: ssl.SSLContext | None) -> Connection:
    seed = keys.seed("reader").reveal()
    return await connect(
        url, name="test", inbox_prefix=inbox_prefix("reader", NODE), nkey_seed=seed, tls=tls, connect_wait_ms=1_500, reconnect_ms=20
    )


# ------------------------------------------------------------------------------------------------ refusing to speak in clear


CLEAR = [
    ({"nats.host": "0.0.0.0"}, "`nats.host`: refusing to listen on 0.0.0.0 without TLS"),
    ({"nats.host": "192.0.2.1"}, "refusing to listen on 192.0.2.1 without TLS"),
    ({"nats.host": "::"}, "refusing to listen on :: without TLS"),
    ({"nats.host": "example.org"}, "refusing to listen on example.org without TLS"),
    ({"nats.url": "nats://10.0.0.1:4222"}, "`nats.url`: refusing to speak to nats://10.0.0.1:4222 in clear"),
    ({"nats.url": "nats://127.0.0.1:4222,nats://example.org:4222"}, "refusing to speak to nats://example.org:4222 in clear"),
    ({"nats.url": "nats://[2001:db8::1]:4222"}, "in clear"),
    ({"nats.url": "nats://127.0.0.1.example.org:4222"}, "in clear"),
]
FINE = [
    {"nats.host": "::1"},
    {"nats.host": "localhost"},
    {"nats.url": "nats://127.0.0.1:4222"},
    {"nats.url": "nats://localhost:4222,nats://[::1]:4222"},
    {"nats.url": "tls://10.0.0.1:4222"},
    {"nats.url": "nats://10.0.0.1:4222", "nats.insecure": True},
    {"nats.host": "0.0.0.0", "nats.insecure": True},
    {"nats.url": "nats://10.0.0.1:4222", "nats.tls.ca": "/ca.pem"},
    {"nats.host": "0.0.0.0", "nats.tls.ca": "/ca.pem", "nats.tls.cert": "/c.pem", "nats.tls.key": "/c.key"},
]


@pytest.mark.parametrize(("flags", "says"), CLEAR)
def test_nothing_is_configured_to_speak_in_clear_beyond_this_machine(flags: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(environ={"OVERSEER_CONFIG": ""}, flags=flags)
    assert says in str(caught.value)
    assert "nats.insecure" in str(caught.value)
    assert "nats.tls" in str(caught.value)


@pytest.mark.parametrize("flags", FINE)
def test_within_the_machine_with_tls_or_when_somebody_insists_it_is_taken(flags: dict[str, object]) -> None:
    load_config(environ={"OVERSEER_CONFIG": ""}, flags=flags)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"nats.tls.cert": "/c.pem"}, "belong together"),
        ({"nats.tls.ca": "/ca.pem", "nats.tls.key": "/c.key"}, "belong together"),
        ({"nats.tls.cert": "/c.pem", "nats.tls.key": "/c.key"}, "`nats.tls.ca`: must be set as well"),
        ({"nats.tls.ca": "/ca.pem"}, "the embedded server needs a certificate"),
    ],
)
def test_half_a_set_of_certificates_is_named(flags: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(environ={"OVERSEER_CONFIG": ""}, flags=flags)
    assert says in str(caught.value)


@pytest.mark.parametrize("argv", [["run"], ["provision"], ["status"], ["subsystem", "votes_db"]])
def test_every_command_refuses_to_speak_in_clear(here: Place, argv: list[str]) -> None:
    done = here.run(*argv, env={"OVERSEER_NATS_URL": "nats://192.0.2.1:4222"})
    assert done.code != 0
    assert "refusing to speak to nats://192.0.2.1:4222 in clear" in done.error
    assert "Traceback" not in done.error


def test_the_flag_takes_the_risk_by_name(here: Place) -> None:
    assert "refusing to listen" in here.run("provision", "--accounts", env={"OVERSEER_NATS_HOST": "0.0.0.0"}).error
    assert here.run("provision", "--accounts", "--insecure", env={"OVERSEER_NATS_HOST": "0.0.0.0"}).code == 0


# ------------------------------------------------------------------------------------------------ mutual TLS


@pytest.mark.real
async def test_both_sides_show_certificates_and_speak_tls_1_3(tmp_path: Path, authority: Authority, files: TlsFiles) -> None:
    embedded, keys = server(tmp_path, files)
    async with embedded:
        assert embedded.url.startswith("tls://127.0.0.1:")
        async with await as_reader(embedded.url, keys, client_context(files)) as connection:
            assert (await connection.request("$JS.API.INFO", b"", timeout_ms=5_000)).body
            session = connection._session
            assert session is not None
            assert session._transport is not None
            tls = session._transport._io_writer.get_extra_info("ssl_object")  # type: ignore[attr-defined]
            assert tls.version() == "TLSv1.3"
        greeting = await meet(embedded.url, tls=client_context(files))
        assert greeting.tls_required
        assert not greeting.open_door
        assert greeting_dangers(greeting, "tls://example.org:4222", insecure=False) == []
        strangers = Authority(tmp_path / "strangers").signed("stranger", *LOCAL)
        without = msgspec.structs.replace(files, certificate=None, key=None)
        forged = TlsFiles(authority=authority.file, certificate=strangers.certificate, key=strangers.key)
        for wrong in (without, forged, strangers):
            with pytest.raises(BusUnavailable):
                await as_reader(embedded.url, keys, client_context(wrong))
        with pytest.raises(BusUnavailable):
            await as_reader(embedded.url.replace("tls://", "nats://"), keys, None)


@pytest.mark.real
async def test_a_server_under_another_name_is_not_believed(tmp_path: Path, authority: Authority, files: TlsFiles) -> None:
    embedded, keys = server(tmp_path, authority.signed("elsewhere", "DNS:elsewhere.example"))
    async with embedded:
        with pytest.raises(BusUnavailable, match=r"certificate|mismatch"):
            await as_reader(embedded.url, keys, client_context(files))


@pytest.mark.parametrize("ours", [True, False], ids=["our authority", "the system's authorities"])
async def test_a_server_that_hides_that_it_speaks_tls_is_told_nothing(files: TlsFiles, tmp_path: Path, ours: bool) -> None:
    """Somebody between us takes `tls_required` out of the greeting: nats-py would go on in clear."""
    heard: list[bytes] = []
    keys = KeyFolder(tmp_path / "keys")
    keys.ensure(["reader"])

    async def stripped(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info = {"server_id": "x", "version": "2.15.1", "headers": True, "auth_required": True, "nonce": "abc", "max_payload": 1024**2}
        writer.write(f"INFO {json.dumps(info)}\r\n".encode())
        heard.append(await reader.read(65536))
        writer.close()

    listening = await asyncio.start_server(stripped, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with listening:
        url = f"tls://127.0.0.1:{port}"
        with pytest.raises(BusUnavailable, match="does not offer TLS"):
            await as_reader(url, keys, context_for([url], files if ours else None))
        with anyio.fail_after(5):
            while not heard:
                await anyio.sleep(0.01)
    assert set(heard) == {b""}


def test_certificates_that_cannot_be_used_are_named(tmp_path: Path, files: TlsFiles) -> None:
    with pytest.raises(UnusableCertificate, match="no such file"):
        client_context(msgspec.structs.replace(files, authority=tmp_path / "missing.pem"))
    assert files.key is not None
    copy = tmp_path / "open.key"
    copy.write_bytes(files.key.read_bytes())
    copy.chmod(0o644)
    with pytest.raises(UnusableCertificate, match="others can read this private key"):
        client_context(msgspec.structs.replace(files, key=copy))
    copy.write_text("nonsense")
    copy.chmod(0o600)
    with pytest.raises(UnusableCertificate, match="cannot be used"):
        client_context(msgspec.structs.replace(files, key=copy))


async def test_a_server_does_not_start_with_a_key_that_others_can_read(tmp_path: Path, files: TlsFiles) -> None:
    assert files.key is not None
    copy = tmp_path / "open.key"
    copy.write_bytes(files.key.read_bytes())
    copy.chmod(0o640)
    embedded, _ = server(tmp_path, msgspec.structs.replace(files, key=copy))
    with pytest.raises(UnusableCertificate, match="chmod 600"):
        await embedded.start()
    no_pair, _ = server(tmp_path, TlsFiles(authority=files.authority))
    with pytest.raises(ServerError, match="certificate and its key"):
        await no_pair.start()


def test_names_are_not_taken_for_this_machine() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "localhost.example.org", "127.0.0.1.example.org", "")))


# ------------------------------------------------------------------------------------------------ the whole node


@pytest.mark.real
@pytest.mark.slow
async def test_a_node_runs_over_tls_with_all_its_processes_and_commands(here: Place, files: TlsFiles) -> None:
    here.settings |= {"nats.host": "0.0.0.0", "nats.tls.ca": files.authority, "nats.tls.cert": files.certificate, "nats.tls.key": files.key}
    async with Node.up(here) as node:
        assert node.info.url.startswith("tls://127.0.0.1:")
        assert here.run("status", "--json").json["wrong"] == []
        assert json.loads(here.run("query", "best", "--json").out)
        assert here.run("keys", "check").code == 0
        assert here.run("keys", "rotate", "votes_db").code == 0
        made = here.run("nats-context", "--folder", str(here.folder / "contexts"), "--json")
        context = json.loads(Path(made.json["file"]).read_text())
        assert (context["ca"], context["cert"], context["key"]) == (str(files.authority), str(files.certificate), str(files.key))
        assert await node.stop() == 0
