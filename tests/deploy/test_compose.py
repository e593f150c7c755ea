"""docker-compose.yml does what it says: its services run here as processes, take a vote, and survive a kill."""

import json
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import anyio
import pytest

from overseer.config import SUBSYSTEMS
from overseer.nats.provision import server_dangers
from overseer.nats.resources import BusLimits
from overseer.nats.server import ServerSettings, server_config
from overseer.node.catalogue import SECTIONS
from overseer.observe.http import fetch
from overseer.settings import load_config
from tests.deploy.composing import ROOT, Project, Service, compose
from tests.node.nodes import Place, eventually

CONFIGURATION = ROOT / "deploy" / "nats-server.conf"


@pytest.fixture
async def project(here: Place) -> AsyncIterator[Project]:
    """Everything up; stopped in order afterwards."""
    made = Project(here)
    try:
        await made.up()
        yield made
    finally:
        await made.down()


def status(service: Service) -> dict[str, Any]:
    return json.loads(service.run(["overseer", "status", "--json"]).stdout)


def states(service: Service) -> dict[str, str]:
    return {row["name"]: row["state"] for row in status(service)["subsystems"]}


def monitored(nats: Service) -> dict[str, Any]:
    with urlopen(f"http://127.0.0.1:{nats.ports['8222']}/varz", timeout=5) as page:
        return json.load(page)


@pytest.mark.anyio
@pytest.mark.real
@pytest.mark.slow
async def test_the_services_start_in_order_take_a_vote_and_answer(project: Project) -> None:
    overseer = project.services["overseer"]
    await eventually(lambda: set(states(overseer).values()) == {"ready"}, "all are ready", log=overseer.text)

    bundle = overseer.run(["overseer", "make", "bundle", "--valid", "0-6", "--invalid", "7"]).stdout
    with anyio.fail_after(30):
        # Until the feed's first block has started the session, it is unknown.
        while (sent := overseer.run(["overseer", "send", "register_vote", "-", "--json"], bundle)).returncode != 0:
            assert b"session_out_of_window" in sent.stderr, sent
            await anyio.sleep(0.2)
    reply = json.loads(sent.stdout)["reply"]
    assert [row[2] for row in reply["outcomes"]] == ["stored"] * 8

    asked = json.dumps({"session": reply["session"], "candidate": reply["candidate"]})
    answer = json.loads(overseer.run(["overseer", "query", "query_votes", asked, "--json"]).stdout)
    assert (answer["pro"], answer["cons"]) == ([0, 1, 2, 3, 4, 5, 6], [7])
    assert status(overseer)["wrong"] == []

    votes_db = project.services["votes_db"]
    recorded = votes_db.run(["overseer", "journal", "votes_db", "--event", "votes_imported", "--json"]).stdout
    assert len(recorded.splitlines()) == 1
    assert (await fetch(int(votes_db.ports["8080"]), "/metrics", timeout_ms=5_000)).status == 200

    await a_killed_subsystem_is_named_and_comes_back(overseer, votes_db)
    assert server_dangers(monitored(project.services["nats"])) == []

    codes = await project.down()
    assert codes == dict.fromkeys(codes, 0) | {"nats": codes["nats"]}
    assert codes["nats"] in (0, 1)


async def a_killed_subsystem_is_named_and_comes_back(overseer: Service, killed: Service) -> None:
    killed.signal(signal.SIGKILL)
    await killed.ended()
    await eventually(lambda: states(overseer)[killed.name] == "starting", "it is missed", log=overseer.text)
    wrong = status(overseer)["wrong"]
    assert any(killed.name in text and "is it running?" in text for text in wrong), wrong
    # As its restart policy does.
    killed.start()
    await killed.healthy()
    await eventually(lambda: states(overseer)[killed.name] == "ready", "it is back", log=overseer.text)
    assert status(overseer)["wrong"] == []


def test_there_is_one_service_for_each_subsystem_with_a_store_of_its_own() -> None:
    defined = compose()
    commands = {name: service["command"] for name, service in defined["services"].items()}
    assert {name: commands[name] for name in SUBSYSTEMS} == {name: ["subsystem", name] for name in SUBSYSTEMS}
    assert set(commands) == {*SUBSYSTEMS, "provision", "nats", "overseer"}
    for name in SUBSYSTEMS:
        assert f"{name}:/data" in defined["services"][name]["volumes"]
    used = {v.split(":")[0] for s in defined["services"].values() for v in s["volumes"] if not v.startswith(".")}
    assert used == set(defined["volumes"])


def test_every_variable_is_a_setting() -> None:
    for service in compose()["services"].values():
        load_config(environ={"OVERSEER_CONFIG": "", **service.get("environment", {})}, sections=SECTIONS)


def test_only_loopback_of_the_host_is_published() -> None:
    ports = [port for service in compose()["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_server_is_bounded_as_the_embedded_one_is() -> None:
    text = CONFIGURATION.read_text()
    store_bytes = BusLimits().store_bytes
    settings = ServerSettings(store_bytes_max=store_bytes + store_bytes // 8)
    given = server_config(settings, Path("/data"), (4222, 8222))
    wanted = dict(line.split(": ", 1) for line in given.splitlines() if ": " in line)
    jetstream = json.loads(wanted.pop("jetstream"))
    limits = jetstream.pop("limits")
    for other in ("host", "ports_file_dir", "log_file", "logfile_size_limit", "logfile_max_num"):
        # In a container it listens on all addresses and logs to stderr.
        del wanted[other]
    leaves = {name: json.loads(value) for name, value in wanted.items()} | jetstream | limits
    for name, value in leaves.items():
        assert re.search(rf'(?m)(^|[ {{])"?{name}: "?{re.escape(str(value).replace("True", "true"))}"?( |$)', text), (name, value)
