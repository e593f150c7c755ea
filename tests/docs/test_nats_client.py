"""The official `nats` client against a running node: what docs/operating.md says it shows, it shows."""

import json
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest

from messages.cddl import one_line
from messages.message import CATALOG, Kind, Spec
from messages.overseer import CommandOutcome
from messages.text import from_json
from tests.docs.endpoints import Asked, asked, declarations
from tests.docs.generated import ROOT
from tests.docs.terminal import environment, terminal, typed
from tests.docs.transcripts import Session, replay, transcripts
from tests.node.nodes import Node, Place

PAGE = ROOT / "docs" / "operating.md"

with_client = pytest.mark.skipif(shutil.which("nats") is None, reason="no official nats client here: .ci/run builds one where there is Go")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with terminal(tmp_path_factory.mktemp("nats_client")) as made:
        yield made


@pytest.fixture(scope="module")
async def node(here: Place, anyio_backend: str) -> AsyncIterator[Node]:
    """With a chain whose first blocks are final."""
    async with Node.up(here) as running:
        with anyio.fail_after(60):
            while json.loads(await typed("overseer query finalized --json", here))["number"] < 3:
                await anyio.sleep(0.1)
        await typed("overseer nats-context", here)
        yield running


# ------------------------------------------------------------------------------------------------ the page


@with_client
@pytest.mark.anyio
@pytest.mark.real
@pytest.mark.slow
async def test_every_transcript_of_the_operating_guide_is_so(node: Node) -> None:
    with Session(node.place.folder, environment(node.place)) as session:
        await anyio.to_thread.run_sync(replay, transcripts(PAGE), session)


def test_what_looks_like_a_transcript_is_one() -> None:
    blocks = re.findall(r"^```([^\n]*)\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert [body for language, body in blocks if re.search(r"(?m)^\$ ", body) and language.split()[:1] != ["console"]] == []
    assert len(transcripts(PAGE)) == sum(language.split()[:1] == ["console"] for language, _ in blocks) > 10


def test_every_command_of_the_client_that_an_operator_needs_is_on_the_page() -> None:
    typed_there = "\n".join(step.command for block in transcripts(PAGE) for step in block.steps)
    wanted = ("micro ls", "micro info", "micro stats", "req", "pub", "sub", "stream view", "stream get", "stream info")
    wanted += ("consumer report", "consumer info", "server check", "server report", "context select", "account info")
    assert [command for command in wanted if not re.search(rf"\bnats {command} ?", typed_there)] == []
    assert len(re.findall("--translate 'overseer decode'", typed_there)) > 5


# ------------------------------------------------------------------------------------------------ every endpoint


async def answered(one: Asked, here: Place) -> tuple[dict[str, str], dict[str, Any]]:
    """The headers and the body of the answer to what is typed."""
    done = await anyio.run_process(
        ["sh", "-c", f"{one.line} --context overseer-node --timeout 20s"], env=environment(here), cwd=here.folder
    )
    headers = dict(re.findall(r"(?m)^[\d:]{8} ([A-Za-z-]+): (.*)$", done.stderr.decode()))
    assert done.stdout.strip(), f"{one.line}: {done.stderr.decode()}"
    return headers, json.loads(done.stdout)


def of_contract(one: Asked, headers: dict[str, str], body: dict[str, Any]) -> str:
    """What is amiss with an answer: it must be what is declared, or a refusal of the subsystem's own; "" when nothing is."""
    if headers.get("Content-Type") != "application/json":
        return f"content type {headers.get('Content-Type')}"
    code = headers.get("Nats-Service-Error")
    refusal = CATALOG.find(Kind.REJECTION, one.spec.owner, code) if code else None
    if code and refusal is None:
        return f"refused as {code}, which is none of {one.spec.owner}'s reasons: {body}"
    shape: tuple[Spec, object] | None
    if one.spec.kind is Kind.QUERY:
        assert one.spec.reply is not None
        shape = (refusal or one.spec.reply.spec, body)
    elif body["status"] != ("rejected" if code else "accepted"):
        return f"{body} with error {code}"
    elif refusal is not None:
        shape = (refusal, body["detail"])
    else:
        shape = (one.spec.reply.spec, body["reply"]) if one.spec.reply is not None else None
    if shape is not None:
        from_json(shape[0], json.dumps(shape[1]).encode())
    return ""


@with_client
@pytest.mark.anyio
@pytest.mark.real
@pytest.mark.slow
async def test_every_query_and_every_awaited_command_is_answered_by_type(node: Node) -> None:
    best = json.loads(await typed("overseer query best --json", node.place))["hash"]
    amiss: dict[str, str] = {}
    told: list[str] = []
    for declaration in declarations():
        for one in asked(declaration, lambda low, high: best if low == high == 32 else "0x" + "01" * max(low, 1)):
            headers, body = await answered(one, node.place)
            if wrong := of_contract(one, headers, body):
                amiss[one.line] = wrong
            told.append(headers.get("Nats-Service-Error", "answered"))
    assert amiss == {}
    # Not by refusing all of them.
    assert told.count("answered") > len(told) // 3, told


@with_client
@pytest.mark.anyio
@pytest.mark.real
async def test_discovery_shows_every_endpoint_with_its_messages_and_schemas_and_counts_what_it_is_asked(node: Node) -> None:
    listed = json.loads(await typed("nats --context overseer-node micro ls --json", node.place))
    assert {service["name"] for service in listed} == {declaration.name for declaration in declarations()}
    for declaration in declarations():
        info = json.loads(await typed(f"nats --context overseer-node micro info {declaration.name} --json", node.place))["info"]
        shown = {endpoint["subject"]: endpoint for endpoint in info["endpoints"]}
        expected = {one.subject: one.spec for one in asked(declaration, lambda *_: "")}
        assert shown.keys() == expected.keys()
        for subject, spec in expected.items():
            assert shown[subject]["queue_group"] == "q"
            assert shown[subject]["metadata"] == metadata(spec)
    for body in ("{}", "{}", "nonsense"):
        await typed(f"nats --context overseer-node req overseer.node.chain_api.qry.leaves '{body}'", node.place)
    (stats,) = json.loads(await typed("nats --context overseer-node micro stats chain_api --json", node.place))
    (leaves,) = (endpoint for endpoint in stats["endpoints"] if endpoint["name"] == "qry_leaves")
    assert leaves["num_requests"] >= 3
    assert leaves["num_errors"] >= 1
    assert leaves["last_error"] == "400: invalid_request"
    assert 0 < leaves["average_processing_time"] <= leaves["processing_time"] < 60e9


def metadata(spec: Spec) -> dict[str, str]:
    """What discovery says of the endpoint of this message."""
    said = {"request": spec}
    if spec.kind is Kind.COMMAND:
        said["response"] = CommandOutcome.spec
    if spec.reply is not None:
        said["reply" if spec.kind is Kind.COMMAND else "response"] = spec.reply.spec
    of_names = {word: each.key for word, each in said.items()}
    of_versions = {f"{word}_version": str(each.version) for word, each in said.items()}
    return {**of_names, **of_versions, **{f"{word}_schema": one_line(each) for word, each in said.items()}}
