"""docker-compose.yml does what it says: its services run here as processes, take a vote, and survive a kill."""

import json
import re
import shlex
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import anyio
import pytest
import typer.main
from typer.core import TyperGroup

from overseer.cli.app import app
from overseer.config import SUBSYSTEMS
from overseer.nats.hardening import server_dangers
from overseer.nats.resources import BusLimits
from overseer.nats.server import ServerSettings, server_config
from overseer.node.catalogue import SECTIONS, build_sites
from overseer.observe.http import fetch
from overseer.settings import Loaded, load_config
from overseer.sites.layout import sites_of
from subsystems.elections.config import ElectionsConfig
from tests.deploy.composing import ROOT, Project, Service, compose, services
from tests.node.nodes import Place, eventually

ONE_SERVER = ROOT / "deploy" / "nats-server.conf"
A_SERVER_OF_THREE = ROOT / "deploy" / "nats-cluster.conf"


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
    assert any(finding["about"] == killed.name and "is it running?" in finding["what"] for finding in wrong), wrong
    # As its restart policy does.
    killed.start()
    await killed.healthy()
    await eventually(lambda: states(overseer)[killed.name] == "ready", "it is back", log=overseer.text)
    assert status(overseer)["wrong"] == []


FIVE = sites_of(ElectionsConfig(sites=5))
PROFILES = ("one", "cluster")


def settings(service: dict[str, Any]) -> Loaded:
    return load_config(environ={"OVERSEER_CONFIG": "", **service.get("environment", {})}, sections=SECTIONS)


def commands(service: dict[str, Any]) -> list[list[str]]:
    """What of `overseer` a service runs; of a shell's script its lines, without where their output goes."""
    if "entrypoint" not in service:
        return [service["command"]]
    (script,) = service["command"]
    words = [shlex.split(line.partition(">")[0]) for line in script.splitlines()]
    return [line[1:] for line in words if line[0] == "overseer"]


def test_every_service_is_of_one_profile_and_one_server_is_the_default() -> None:
    assert {tuple(service["profiles"]) for service in compose()["services"].values()} == {(name,) for name in (*PROFILES, "observe")}
    assert "COMPOSE_PROFILES=one" in (ROOT / ".env").read_text().splitlines()
    for name in PROFILES:
        mine = services(name)
        assert {other for service in mine.values() for other in service.get("depends_on", {})} <= set(mine)


def test_there_is_one_service_for_each_subsystem_with_a_store_of_its_own() -> None:
    one, cluster = services("one"), services("cluster")
    assert set(one) == {*SUBSYSTEMS, "provision", "nats", "overseer"}
    assert {name: one[name]["command"] for name in SUBSYSTEMS} == {name: ["subsystem", name] for name in SUBSYSTEMS}
    others = [name for name in SUBSYSTEMS if name != "elections"]
    processes = {**{f"cluster_{name}": name for name in others}, **{name: name for name in FIVE.users}}
    assert set(cluster) == {*processes, "cluster_provision", "nats1", "nats2", "nats3", "cluster_overseer"}
    assert {name: cluster[name]["command"] for name in processes} == {name: ["subsystem", wanted] for name, wanted in processes.items()}
    for name in (*SUBSYSTEMS, "overseer", *processes, "cluster_overseer"):
        assert f"{name}:/data" in (one | cluster)[name]["volumes"]
    used = [v.split(":") for s in compose()["services"].values() for v in s["volumes"] if not v.startswith(".")]
    assert {volume for volume, *_ in used} == set(compose()["volumes"])
    data = Counter(volume for volume, target, *_ in used if target == "/data")
    assert set(data.values()) == {1}, "no two share a store"


def test_every_variable_is_a_setting() -> None:
    for name, service in services("one").items():
        assert service["image"] != "overseer" or settings(service).config.nats.replicas == 1, name
    for name, service in services("cluster").items():
        if service["image"] != "overseer":
            assert service["environment"] == {"NATS_SERVER_NAME": name}
            continue
        loaded = settings(service)
        assert loaded.config.nats.url == "nats://nats1:4222,nats://nats2:4222,nats://nats3:4222"
        assert (loaded.config.nats.replicas, build_sites(loaded)) == (3, FIVE)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_command_is_one_of_the_command_line(profile: str) -> None:
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    for name, service in services(profile).items():
        if service["image"] != "overseer":
            continue
        given = commands(service)
        assert given, name
        for words in given:
            with root.make_context("overseer", list(words)) as context:
                called, command, rest = root.resolve_command(context, list(words))
                assert command is not None
                # Refuses what it does not know.
                parsed = command.make_context(called, rest, parent=context)
            if called == "subsystem":
                assert parsed.params["name"] in (*SUBSYSTEMS, *build_sites(settings(service)).users)


def test_only_loopback_of_the_host_is_published_and_only_what_is_documented() -> None:
    told = (ROOT / "docs" / "operating.md").read_text().partition("\n## In containers\n")[2].partition("\n## ")[0]
    for profile, wanted in (("one", {4222, 8080}), ("cluster", {4222, 4223, 4224, 8080})):
        ports = [port.split(":") for service in services(profile).values() for port in service.get("ports", [])]
        assert {int(outside) for _, outside, _ in ports} == wanted
        assert len(ports) == len(wanted)
        for address, outside, inside in ports:
            assert address == "127.0.0.1"
            # Never routes, never monitoring.
            assert inside in ("4222", "8080")
            assert f"127.0.0.1:{outside}" in told


def bounded(text: str, leaves: dict[str, Any]) -> None:
    for name, value in leaves.items():
        assert re.search(rf'(?m)(^|[ {{])"?{name}: "?{re.escape(str(value).replace("True", "true"))}"?( |$)', text), (name, value)


def embedded(store_bytes: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of the embedded server that a server in a container has as well: its own, and those of JetStream."""
    given = server_config(ServerSettings(store_bytes_max=store_bytes + store_bytes // 8), Path("/data"), (4222, 8222))
    wanted = dict(line.split(": ", 1) for line in given.splitlines() if ": " in line)
    jetstream = json.loads(wanted.pop("jetstream"))
    limits = jetstream.pop("limits")
    for other in ("host", "ports_file_dir", "log_file", "logfile_size_limit", "logfile_max_num"):
        # In a container it listens on all addresses and logs to stderr.
        del wanted[other]
    return {name: json.loads(value) for name, value in wanted.items()}, jetstream | limits


def test_the_server_is_bounded_as_the_embedded_one_is() -> None:
    own, jetstream = embedded(BusLimits().store_bytes)
    bounded(ONE_SERVER.read_text(), own | jetstream)


def test_a_server_of_the_cluster_is_bounded_alike_and_has_room_for_the_log_of_the_elections() -> None:
    text = A_SERVER_OF_THREE.read_text()
    limits = BusLimits()
    bounded(text, embedded(limits.store_bytes + limits.log_store_bytes)[1])
    # All else is the other file's.
    assert re.findall(r"(?m)^([a-z_]+)", text) == ["include", "server_name", "jetstream", "cluster"]
    assert "include nats-server.conf" in text.splitlines()
