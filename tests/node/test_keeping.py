"""What the overseer keeps going of the server's: it, and its accounts."""

import os
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from structlog.testing import capture_logs

from overseer.consensus.roster import BadNetwork
from overseer.nats.server import EmbeddedServer, ServerError
from overseer.node.bus import RELOAD_SIGNAL, heed_new_keys
from overseer.node.keeping import keep_server
from overseer.observe.logs import logger
from overseer.settings import load_config
from overseer.supervise.policy import SupervisePolicy
from overseer.supervise.stopping import StopRequest
from tests.node.nodes import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.real]

OPEN = "accounts {}\n"
QUICK = SupervisePolicy(backoff_first_ms=1, backoff_max_ms=10, restarts_max=3, restarts_window_ms=600_000)
PASSING = [OSError(28, "No space left on device"), BadNetwork(Path("nodes"), "beta.json is half there")]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Accounts:
    """The text of a server's accounts; what `failures` holds is raised first."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []

    def __call__(self) -> str:
        if self.failures:
            raise self.failures.pop()
        return OPEN


async def kept(server: EmbeddedServer, while_kept: Callable[[anyio.Event], object]) -> None:
    """Let the server be kept, and call `while_kept` with what is set when it was started again."""
    again, stop = anyio.Event(), StopRequest()
    async with server, anyio.create_task_group() as tasks:

        async def keep() -> None:
            await keep_server(server, QUICK, logger("overseer"), stop, restarted=again.set)

        tasks.start_soon(keep)
        while_kept(again)
        with anyio.fail_after(60):
            await again.wait()
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("passing", PASSING, ids=lambda error: type(error).__name__)
async def test_a_server_that_cannot_be_started_for_a_moment_is_started_when_it_can(tmp_path: Path, passing: Exception) -> None:
    accounts = Accounts()
    server = EmbeddedServer(tmp_path, accounts)

    def kill(_: anyio.Event) -> None:
        accounts.failures.append(passing)
        assert server.pid is not None
        os.kill(server.pid, 9)

    await kept(server, kill)
    assert accounts.failures == []


async def test_one_that_cannot_be_started_again_and_again_is_given_up_with_the_reason(tmp_path: Path) -> None:
    accounts = Accounts()
    server = EmbeddedServer(tmp_path, accounts)

    def kill(_: anyio.Event) -> None:
        accounts.failures.extend(OSError(28, "No space left on device") for _ in range(10))
        assert server.pid is not None
        os.kill(server.pid, 9)

    with pytest.raises(ExceptionGroup) as failed:
        await kept(server, kill)
    (error,) = failed.value.exceptions
    assert isinstance(error, ServerError)
    assert "No space left on device" in str(error)


async def test_a_neighbours_file_that_is_half_there_leaves_the_accounts_in_force(tmp_path: Path) -> None:
    (tmp_path / "nodes").mkdir()
    (tmp_path / "nodes" / "beta.json").write_text('{"node": "be')
    config = load_config(None, environ={}, flags={"data_dir": tmp_path / "node", "network.nodes": tmp_path / "nodes"}).config
    with capture_logs() as said:
        async with EmbeddedServer(tmp_path / "nats", OPEN) as server, anyio.create_task_group() as tasks:
            await tasks.start(heed_new_keys, server, config, ())
            os.kill(os.getpid(), RELOAD_SIGNAL)
            await eventually(lambda: len(said) > 0, "it is said")
            assert server.pid is not None
            tasks.cancel_scope.cancel()
    assert [line["event"] for line in said] == ["accounts_not_reloaded"]
    assert "beta.json" in said[0]["error"]
