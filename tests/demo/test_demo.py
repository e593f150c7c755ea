"""`overseer demo`: right, repeatable, and gone without a trace, whenever it is ended."""

import json
import re
import signal
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import msgspec
import pytest
from typer import Exit

from messages.ballots import CastBallot, CloseElection, ValidateBallot
from messages.elections import OfElection
from messages.gateways import Bond, SubmitExecutionProof
from messages.overseer import CommandOutcome
from overseer.cli import demo as demo_command
from overseer.consensus.epochs import EpochsReport
from overseer.demo.network import Network
from overseer.demo.polls import KEY
from overseer.feeds.author import Author
from overseer.feeds.devchain import DevChain
from overseer.feeds.story import Story
from overseer.sites.client import SitesClient
from tests.node.nodes import MARK, SUBSYSTEMS, Place, eventually

pytestmark = [pytest.mark.anyio, pytest.mark.real]

# The whole story, on a machine that does much else.
DEMO_S = 150.0


async def test_the_demo_comes_out_as_it_must_and_leaves_nothing(here: Place) -> None:
    done = here.run("demo", "--validators", "10", "--json", timeout=DEMO_S)
    assert done.code == 0, done
    told = done.json
    assert told["ok"] is True
    assert told["differences"] == []
    assert told["dead_letters"] == 0
    assert told["blacklisted"] == told["blacklisted_expected"] > 0
    assert told["governance_entered"]
    assert told["governance_left"]
    queued = told["gateways"]
    first, second = queued["winners"]
    assert sorted(first) == sorted(queued["returned"]) == ["photo", "song"]
    assert queued["close_blacklisted"]
    assert queued["executed"] == second != first
    revoked = queued["course"].index("requests_returned")
    assert queued["course"][:revoked] == ["round_cut", "round_closed", "round_results", "round_revoked"]
    assert queued["course"][revoked + 1 :] == ["round_cut", "round_closed", "round_results", "request_executed", "request_executed"]
    assert set(queued["free"].values()) == {100}
    polled = told["elections"]
    assert polled["sites"] == polled["copies_equal"] == 5
    assert polled["ballots"] == polled["acknowledged"] == polled["cast"] == polled["once"] == sum(polled["tally"].values())
    assert polled["valid"] + polled["invalid"] == polled["ballots"]
    assert 0 < polled["killed_after"] < polled["ballots"]
    assert polled["killed"].startswith("dc")
    assert polled["pause_ms"] > 0
    assert polled["phase"] == "valid"
    grouped = told["groups"]
    assert grouped["nodes"] == grouped["chains"] == 4
    assert grouped["killed"].startswith("n")
    assert grouped["phase"] in ("complain", "justify")
    assert grouped["share"]
    assert grouped["back_ms"] > 0
    assert grouped["dealt_twice"] == 0
    assert grouped["deals"] >= 3 * grouped["epoch"]
    assert grouped["epochs"] >= grouped["epoch"] >= 3
    assert 0 < grouped["signed"] < grouped["blocks"]
    revoked = told["revoked"]
    assert revoked["serves"] == revoked["group"] - 1 > 0
    assert revoked["blacklisted"] == revoked["went_on"] == 4
    assert len(revoked["against"]) == 3
    asked = told["explained"]["questions"]
    assert [question["kind"] for question in asked] == ["block", "item", "group"]
    assert all(question["votes"] == question["verified"] >= 3 for question in asked)
    peered = told["peers"]
    assert peered["asked"] == peered["elected"] == 4
    assert peered["liar_elected"] == 0
    assert peered["killed"] in peered["connected"]
    assert {*peered["connected"]} == {"n1", "n2", "n3", "n4"} - {peered["liar"]}
    assert all(peered["connected"].values())
    assert done.error == ""


@pytest.mark.slow
async def test_for_people_it_tells_scene_by_scene(here: Place) -> None:
    done = here.run("demo", "--validators", "4", timeout=DEMO_S)
    assert done.code == 0, done
    assert "The round is revoked, and both requests are in the open queue again" in done.out
    assert "2 requests open again by a blacklisted block, 2 proven later" in done.out
    assert "is killed, with" in done.out
    assert "The story is told, as it had to be" in done.out
    assert "240 ballots acknowledged, 240 counted (each once), 5 equal copies" in done.out
    assert "\u2588" in done.out
    assert "makes its key: all have dealt, none has a share" in done.out
    assert "4 chains accepted by a light client" in done.out
    assert re.search(r"group (\d+) revoked, as 3 votes blacklisted the block that had accepted it; group \d+ served again", done.out)
    assert re.search(r"so many signed votes, each checked again: block 3, item 3, group 3\b", done.out)
    assert "4 of 4 elections of peers elected one, never the one that made its tokens up" in done.out
    assert max(map(len, done.out.splitlines())) < 140
    assert done.error == ""
    assert "Try next" in done.out


EARLY = ("temporary folder", "nats", "subsystems", "story")
# One phase of each part: of the node, of the sites, of the network. Both signals are taken alike.
OFTEN_ENDED = (("revoked", signal.SIGINT), ("killed", signal.SIGTERM), ("dealing", signal.SIGTERM))


def ended(phase: str, number: signal.Signals) -> Any:
    """In that phase, by that signal; those that take a while only now and then."""
    marks = pytest.mark.slow if (phase, number) in OFTEN_ENDED else pytest.mark.full
    return pytest.param(phase, number, marks=[] if phase in EARLY else marks)


@pytest.mark.parametrize(
    ("phase", "number"),
    [
        ended(phase, number)
        for phase in (*EARLY, "revoked", "killed", "dealing", "assigned", "opens", "judged", "network", "peers")
        for number in (signal.SIGINT, signal.SIGTERM)
    ],
)
async def test_it_can_be_ended_in_every_phase(here: Place, number: signal.Signals, phase: str) -> None:
    told = here.folder / "told"
    scenes = {
        "assigned": "the requests are assigned",
        "revoked": "The round is revoked",
        "opens": "An election opens",
        "killed": "is killed",
        "judged": "is judged",
        "dealing": "makes its key",
        "peers": "asks again, and is killed",
    }
    reached = {
        "temporary folder": lambda: any(here.temporary.glob("overseer-demo-*")),
        "nats": lambda: any(here.temporary.glob("*/nats/*.ports")),
        "subsystems": lambda: len(here.processes()) >= 4,
        "network": lambda: any(here.temporary.glob("*/network/testnet.json")),
        "story": lambda: any(here.temporary.glob("*/run.json")) and _stores(here),
    }
    with told.open("wb") as file:
        process = here.start("demo", "--validators", "4", stdout=file)
    try:
        await eventually(reached.get(phase, lambda: scenes[phase] in told.read_text()), phase, seconds=120)
        process.send_signal(number)
        with anyio.fail_after(20):
            await eventually(lambda: process.poll() is not None, "it ends")
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130


def _stores(here: Place) -> bool:
    """All subsystems have begun, that of the elections at every site."""
    return len(list(here.temporary.glob("*/stores/*/CURRENT"))) == len(SUBSYSTEMS) - 1 + demo_command.SITES


class _Twisted(DevChain):
    """Expects one vote too many."""

    def story(self, *more: Callable[[Author], None]) -> Story:
        story = super().story(*more)
        expected = msgspec.structs.replace(story.expected, votes_stored=story.expected.votes_stored + 1)
        return msgspec.structs.replace(story, expected=expected)


class _Intruding(SitesClient):
    """Whoever closes the polls first casts a ballot of its own, and has it judged; whoever proves first bonds a bit more."""

    async def request(self, command: OfElection, *, command_id: str = "") -> CommandOutcome:
        if isinstance(command, SubmitExecutionProof):
            await super().request(Bond(election=command.election, gateway=command.executor, amount=1))
        if not isinstance(command, CloseElection):
            return await super().request(command, command_id=command_id)
        await super().request(CastBallot(election=KEY, voter=b"intruder", choice="Ada"))
        outcome = await super().request(command, command_id=command_id)
        await super().request(ValidateBallot(election=KEY, voter=b"intruder"))
        return outcome


class _Tampered(Network):
    """The last node's files say that somebody else is a validator."""

    async def verified(self, node: str) -> EpochsReport:
        if node == self.nodes[-1]:
            told = self.folder / "nodes" / f"{node}.json"
            told.write_text(re.sub(r'("signing": ?)"[0-9a-f]{64}"', rf'\1"{"00" * 32}"', told.read_text()))
        return await super().verified(node)


@pytest.fixture
def own_signals() -> Iterator[None]:
    """The command line minds SIGTERM; this process goes on after it."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("own_signals")
@pytest.mark.full
def test_a_difference_is_named_and_is_an_error(here: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(demo_command, "DevChain", _Twisted)
    monkeypatch.setattr(demo_command, "SitesClient", _Intruding)
    monkeypatch.setattr(demo_command, "Network", _Tampered)
    monkeypatch.setattr("tempfile.tempdir", str(here.temporary))
    for name in ("PYTHONPATH", MARK):
        monkeypatch.setenv(name, here.environment[name])
    with pytest.raises(Exit) as ended:
        demo_command.demo(validators=4, seed="demo", stay=False, data_dir=None, json=True)
    assert ended.value.exit_code == 1
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    votes, gateways, *ballots, groups, chains = (difference.split(": ") for difference in told["differences"])
    assert votes[0] == "votes stored"
    assert gateways == ["gateways", "free", "{'alice'", "101, 'bob'", "101}, expected {'alice'", "100, 'bob'", "100}"]
    assert [found[:2] for found in ballots] == [["election", "ballots counted"], ["election", "tally"], ["election", "valid ballots"]]
    assert groups == ["groups", "the chain of n4", "block 1", "validators"]
    assert chains == ["groups", "chains that a light client accepts", "3, expected 4"]
