"""The AsyncAPI document: the published one is the one the code gives, the whole contract is in it, and the official tools take it."""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asyncapi_tools import AsyncApiTools, installed
from jsonschema import Draft7Validator

from messages.contract import own
from messages.message import Kind
from overseer.cli.contract import asyncapi_text
from overseer.graph import Graph
from overseer.node.catalogue import SECTIONS, build_subsystems
from overseer.settings import load_config

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "docs" / "asyncapi.json"

# What decisions name and no message carries by itself: the verdicts on a group's transaction are told as codes in `group_judged`.
CODES_ALONE = {
    f"consensus_manager.rejection.{name}"
    for name in ("duplicate_group", "election_too_early", "group_mismatch", "group_verification_failed", "txn_too_old")
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return json.loads(PUBLISHED.read_text())


@pytest.fixture(scope="module")
def graph() -> Graph:
    loaded = load_config(environ={"OVERSEER_CONFIG": ""}, sections=SECTIONS)
    return Graph.of(subsystem.declaration for subsystem in build_subsystems(loaded).values())


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def found(document: dict[str, Any], reference: str) -> Any:
    here: Any = document
    for part in reference.removeprefix("#/").split("/"):
        here = here[part]
    return here


def test_the_published_document_is_that_of_the_code() -> None:
    if asyncapi_text() != PUBLISHED.read_text():
        pytest.fail("the messages or the graph changed: overseer contract --asyncapi > docs/asyncapi.json")


def test_every_message_that_travels_is_in_it(document: dict[str, Any]) -> None:
    travels = [spec for spec in own() if spec.kind not in (Kind.EVENT, Kind.TIMER)]
    told = {message["x-cddl"] for message in document["components"]["messages"].values()}
    # The reply of an awaited command is in its outcome.
    told |= {m["x-outcome-reply"]["$ref"].rpartition("/")[2] for m in document["components"]["messages"].values() if "x-outcome-reply" in m}
    assert {spec.key for spec in travels} - told == CODES_ALONE
    assert told <= {spec.key for spec in travels}


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for reference in set(references(document)):
        found(document, reference)


def test_operations_are_those_of_the_declarations(document: dict[str, Any], graph: Graph) -> None:
    operations = document["operations"]
    for edge in graph.edges:
        key = edge.message.spec.key
        assert operations[f"{edge.sender}.send.{key}"]["action"] == "send"
        assert operations[f"{edge.receiver}.receive.{key}"]["channel"] == operations[f"{edge.sender}.send.{key}"]["channel"]
    for node in graph.declarations:
        for message in node.answers:
            answer = operations[f"{node.name}.answer.{message.spec.key}"]
            assert message.spec.reply is not None
            assert message.spec.reply.spec.key in found(document, answer["reply"]["channel"]["$ref"])["messages"]
        for message in node.requests:
            answer = operations[f"{node.name}.answer.{node.name}.req.{message.spec.name}"]
            assert "overseer.reply.command_outcome" in found(document, answer["reply"]["channel"]["$ref"])["messages"]
        known = {m.spec.key for m in (*node.sends, *node.consumes, *node.answers)}
        own = {name for name, each in operations.items() if each["tags"] == [{"name": node.name}]}
        named = {name.split(".", 2)[2] for name in own}
        assert known <= named


def test_addresses_are_subjects_and_their_parameters_are_described(document: dict[str, Any]) -> None:
    for name, channel in document["channels"].items():
        if channel["address"] is None:
            assert name.endswith(".reply"), name
            continue
        assert channel["address"].startswith("overseer."), name
        assert set(re.findall(r"{(\w+)}", channel["address"])) == set(channel.get("parameters", {})), name
    sender = document["channels"]["chain_api.cmd.blacklist"]["parameters"]["sender"]
    assert sender["enum"] == ["dispute_conclusion"]
    assert document["channels"]["chain_api.evt.block_imported"]["address"] == "overseer.{node}.chain_api.evt.block_imported"


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> AsyncApiTools:
    return installed(tmp_path_factory.mktemp("asyncapi"))


@pytest.mark.slow
def test_the_official_schema_of_asyncapi_takes_it(official: AsyncApiTools, document: dict[str, Any]) -> None:
    validator = Draft7Validator(official.specification())
    assert [error.message[:300] for error in validator.iter_errors(document)] == []
    broken = copy.deepcopy(document)
    broken["channels"]["chain_api.qry.best"]["adress"] = "a misspelt key"
    assert not validator.is_valid(broken)


@pytest.mark.slow
def test_the_official_parser_takes_it(official: AsyncApiTools, document: dict[str, Any], tmp_path: Path) -> None:
    said = official.parsed(PUBLISHED)
    # 0: an error; 1: a warning.
    assert [each for each in said["found"] if each["severity"] <= 1] == []
    assert said["channels"] == len(document["channels"])
    assert said["operations"] == len(document["operations"])
    broken = copy.deepcopy(document)
    broken["operations"]["chain_api.answer.chain_api.qry.best"]["channel"]["$ref"] = "#/channels/nowhere"
    (tmp_path / "broken.json").write_text(json.dumps(broken))
    assert [each for each in official.parsed(tmp_path / "broken.json")["found"] if each["severity"] == 0]
