"""`overseer make` works without a node: where none answers in time, the first session is taken."""

import time

import pytest

from overseer.nats.keys import KeyFolder
from tests.cli.conftest import Command
from tests.node.nodes import Place

# Nobody listens there.
URL = "tls://127.0.0.1:1"
# Twice what it waits; other commands wait 10 s for a node.
SOON_S = 4.0


@pytest.fixture
def keyed(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a key of the operator's: without one, no node is asked."""
    monkeypatch.setenv("OVERSEER_NATS_URL", URL)
    KeyFolder(here.loaded().config.keys_dir).ensure(["operator"])


@pytest.mark.usefixtures("keyed")
def test_a_bundle_does_not_wait_long_for_a_node_that_cannot_be_reached(command: Command) -> None:
    began = time.monotonic()
    done = command("make", "bundle")
    assert time.monotonic() - began < SOON_S
    assert done.code == 0, done
    assert done.json["session_index"] == 1


@pytest.mark.usefixtures("keyed")
def test_a_bundle_needs_no_certificate(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERSEER_NATS_TLS_CA", "/nonexistent.pem")
    done = command("make", "bundle")
    assert done.code == 0, done
    assert done.json["session_index"] == 1
