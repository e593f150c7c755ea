"""docker-compose.yml as processes of this machine: the same commands, environment, files, order and health checks.

Container paths become folders of a temporary one, service names become loopback, container ports free ports. Nothing else is
changed, so what does not work here does not work in containers either.
"""

import json
import re
import shlex
import signal
import socket
import subprocess
import sys
from typing import Any

import anyio
import anyio.to_thread
import yaml

from overseer.nats.server import find_server
from tests.node.nodes import DEADLINE_S, MARK, ROOT, Place, die_with_the_tests, eventually

COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "Dockerfile"
PORTS = ("4222", "6222", "8222", "8080")
_PORTS = re.compile(rf"\b({'|'.join(PORTS)})\b")


def compose() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text())


def services(profile: str) -> dict[str, Any]:
    """What `docker compose --profile ... up` starts."""
    return {name: defined for name, defined in compose()["services"].items() if defined["profiles"] == [profile]}


def entrypoint() -> list[str]:
    """What the image runs before the command."""
    (line,) = (line for line in DOCKERFILE.read_text().splitlines() if line.startswith("ENTRYPOINT "))
    return json.loads(line.removeprefix("ENTRYPOINT "))


def held_port() -> socket.socket:
    """A socket that has a port and never listens: a service may listen there beside it, and nobody else is given the port (Linux)."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held


class Service:
    """One service: its definition brought to this machine, and its process."""

    def __init__(self, name: str, defined: dict[str, Any], project: "Project") -> None:
        self.name = name
        self.project = project
        self.defined = defined
        self.root = project.place.folder / "roots" / name
        # Until the end: a service that was killed finds its port again.
        self.held = {port: held_port() for port in PORTS}
        self.ports = {port: str(held.getsockname()[1]) for port, held in self.held.items()}
        if sys.platform != "linux":
            self.let_ports_go()
        self.log = project.place.folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.targets: list[str] = []

    def mount(self) -> None:
        for volume in self.defined["volumes"]:
            source, target, *_ = volume.split(":")
            self.targets.append(target)
            here = self.root / target.lstrip("/")
            here.parent.mkdir(parents=True, exist_ok=True)
            if not source.startswith("."):
                folder = self.project.place.folder / "volumes" / source
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                here.symlink_to(folder)
        for volume in self.defined["volumes"]:
            source, target, *_ = volume.split(":")
            if source.startswith("."):
                (self.root / target.lstrip("/")).write_text(self.here((ROOT / source).read_text()))

    def here(self, text: str) -> str:
        """`text` of a container, as it must read here."""
        for other in self.project.services.values():
            text = re.sub(rf"\b{other.name}:(\d+)", lambda match, other=other: f"127.0.0.1:{other.ports[match[1]]}", text)
        text = _PORTS.sub(lambda match: self.ports[match[0]], text).replace("0.0.0.0", "127.0.0.1")
        paths = "|".join(map(re.escape, sorted(self.targets, key=len, reverse=True)))
        return re.sub(rf"(?<![\w./])({paths})(?![\w-])", lambda match: f"{self.root}{match[0]}", text)

    @property
    def environment(self) -> dict[str, str]:
        place = self.project.place
        own = {name: self.here(value) for name, value in self.defined.get("environment", {}).items()}
        return {
            "PATH": f"{place.folder}/bin:/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "HOME": str(place.folder),
            "TMPDIR": str(place.temporary),
            MARK: place.mark,
            **own,
        }

    def argv(self) -> list[str]:
        ours = self.defined["image"] == "overseer"
        before = self.defined.get("entrypoint", entrypoint() if ours else [])
        return [self.here(word) for word in [*before, *self.defined["command"]]]

    def run(self, argv: list[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """A command in the container, as `docker compose exec` does it."""
        return subprocess.run(
            argv, env=self.environment, cwd=self.project.place.folder, input=stdin, capture_output=True, timeout=DEADLINE_S, check=False
        )

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.argv(),
                env=self.environment,
                cwd=self.project.place.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_the_tests,
            )

    async def healthy(self) -> None:
        """Wait until its health check passes. Raises AssertionError with its log."""
        kind, *argv = self.defined["healthcheck"]["test"]
        assert kind == "CMD"
        words = [self.here(word) for word in argv]
        assert self.process is not None
        said = b""
        with anyio.move_on_after(DEADLINE_S):
            # Beside what goes on in this process meanwhile.
            while (check := await anyio.to_thread.run_sync(self.run, words)).returncode != 0:
                said = check.stdout + check.stderr
                assert self.process.poll() is None, self.text()
                await anyio.sleep(0.1)
            return
        raise AssertionError(f"not healthy in time: {said.decode(errors='replace')[-1000:]}\n{self.text()}")

    async def completed(self) -> None:
        code = await self.ended()
        assert code == 0, self.text()

    async def ended(self) -> int:
        process = self.process
        assert process is not None
        await eventually(lambda: process.poll() is not None, f"{self.name} ends", log=self.text)
        return process.returncode

    def let_ports_go(self) -> None:
        for held in self.held.values():
            held.close()

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def text(self) -> str:
        return f"{self.name}:\n{self.log.read_text(errors='replace')[-4000:]}"


class Project:
    """All services of a profile, mounted and ready to be started."""

    def __init__(self, place: Place, profile: str = "one") -> None:
        self.place = place
        self.services: dict[str, Service] = {}
        for name, defined in services(profile).items():
            self.services[name] = Service(name, defined, self)
        for service in self.services.values():
            service.mount()
        python = shlex.quote(sys.executable)
        self._program("python", f'exec {python} "$@"')
        self._program("overseer", f'exec {python} -m overseer.cli.entry "$@"')
        self._program("nats-server", f'exec {shlex.quote(str(find_server()))} "$@"')
        # Stands for busybox's: the last argument is the address.
        fetch = "import sys, urllib.request as r, urllib.error as e\n"
        fetch += "try: r.urlopen(sys.argv[-1], timeout=3)\nexcept e.HTTPError as f: sys.exit(f.read())"
        self._program("wget", f'exec {python} -c "{fetch}" "$@"')

    def _program(self, name: str, script: str) -> None:
        path = self.place.folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    async def up(self) -> None:
        """Start everything in the order of its conditions, and wait until everything is healthy."""
        for name in self.order():
            service = self.services[name]
            for other, wanted in service.defined.get("depends_on", {}).items():
                match wanted["condition"]:
                    case "service_healthy":
                        await self.services[other].healthy()
                    case "service_completed_successfully":
                        await self.services[other].completed()
                    case unknown:
                        raise AssertionError(f"{name} depends on {other} being {unknown}")
            service.start()
        for service in self.services.values():
            if "healthcheck" in service.defined:
                await service.healthy()

    def order(self) -> list[str]:
        """Services, each behind what it depends on."""
        done: list[str] = []

        def visit(name: str) -> None:
            for other in self.services[name].defined.get("depends_on", {}):
                visit(other)
            if name not in done:
                done.append(name)

        for name in self.services:
            visit(name)
        return done

    async def down(self) -> dict[str, int]:
        """Stop everything, what depends on others first; exit codes."""
        codes: dict[str, int] = {}
        for name in reversed(self.order()):
            service = self.services[name]
            if service.process is None:
                continue
            if service.process.poll() is None:
                service.signal(signal.SIGTERM)
            codes[name] = await service.ended()
        for service in self.services.values():
            service.let_ports_go()
        return codes
