"""`overseer demo`: right, repeatable, and gone without a trace, whenever it is ended."""

import json
import signal
from collections.abc import Iterator

import anyio
import msgspec
import pytest
from typer import Exit

from overseer.cli import demo as demo_command
from overseer.feeds.devchain import DevChain
from overseer.feeds.story import Story
from tests.node.nodes import MARK, SUBSYSTEMS, Place, eventually

pytestmark = [pytest.mark.anyio, pytest.mark.real]


async def test_the_demo_comes_out_as_it_must_and_leaves_nothing(here: Place) -> None:
    done = here.run("demo", "--validators", "10", "--json")
    assert done.code == 0, done
    told = done.json
    assert told["ok"] is True
    assert told["differences"] == []
    assert told["dead_letters"] == 0
    assert told["blacklisted"] == told["blacklisted_expected"] > 0
    assert told["governance_entered"]
    assert told["governance_left"]
    assert done.error == ""


async def test_for_people_it_tells_scene_by_scene(here: Place) -> None:
    done = here.run("demo", "--validators", "4")
    assert done.code == 0, done
    assert "The story is told, as it had to be" in done.out
    assert "Try next" in done.out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("phase", ["temporary folder", "nats", "subsystems", "story"])
async def test_it_can_be_ended_in_every_phase(here: Place, number: signal.Signals, phase: str) -> None:
    reached = {
        "temporary folder": lambda: any(here.temporary.glob("overseer-demo-*")),
        "nats": lambda: any(here.temporary.glob("*/nats/*.ports")),
        "subsystems": lambda: len(here.processes()) >= 4,
        "story": lambda: any(here.temporary.glob("*/run.json")) and _stores(here),
    }
    process = here.start("demo", "--json")
    try:
        await eventually(reached[phase], phase)
        process.send_signal(number)
        with anyio.fail_after(20):
            await eventually(lambda: process.poll() is not None, "it ends")
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130


def _stores(here: Place) -> bool:
    """All subsystems have begun."""
    return len(list(here.temporary.glob("*/stores/*/CURRENT"))) == len(SUBSYSTEMS)


class _Twisted(DevChain):
    """Expects one vote too many."""

    def story(self) -> Story:
        story = super().story()
        expected = msgspec.structs.replace(story.expected, votes_stored=story.expected.votes_stored + 1)
        return msgspec.structs.replace(story, expected=expected)


@pytest.fixture
def own_signals() -> Iterator[None]:
    """The command line minds SIGTERM; this process goes on after it."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("own_signals")
@pytest.mark.slow
def test_a_difference_is_named_and_is_an_error(here: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(demo_command, "DevChain", _Twisted)
    monkeypatch.setattr("tempfile.tempdir", str(here.temporary))
    for name in ("PYTHONPATH", MARK):
        monkeypatch.setenv(name, here.environment[name])
    with pytest.raises(Exit) as ended:
        demo_command.demo(validators=4, seed="demo", stay=False, data_dir=None, json=True)
    assert ended.value.exit_code == 1
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    assert len(told["differences"]) == 1
    assert told["differences"][0].startswith("votes stored: ")
