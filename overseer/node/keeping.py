"""The server that a node, or a testnet, has for itself, kept running: started again when it ends, given up when that is too often."""

import time
from collections.abc import Callable

import anyio
from structlog.typing import FilteringBoundLogger

from overseer.nats.server import EmbeddedServer, ServerError, ServerNotFound
from overseer.nats.tls import UnusableCertificate
from overseer.node.bus import NO_ACCOUNTS
from overseer.supervise.policy import Failures, SupervisePolicy
from overseer.supervise.status import Failure
from overseer.supervise.stopping import StopRequest

__all__ = ["keep_server"]


async def keep_server(
    server: EmbeddedServer,
    bounds: SupervisePolicy,
    log: FilteringBoundLogger,
    stop: StopRequest,
    *,
    restarted: Callable[[], None] = lambda: None,
) -> None:
    """Start the server again when it ends by itself, until `stop`. `restarted` is called each time.

    Raises ServerError when it cannot be kept (`bounds`), ServerNotFound.
    """
    failures = Failures(bounds)
    began = time.monotonic()
    cause = f"ended with code {await server.exited()}"
    while not stop.requested:
        await _failed(failures, cause, began, log)
        began = time.monotonic()
        try:
            await server.restart()
            log.info("nats_started", url=server.url, server_pid=server.pid)
            restarted()
            cause = f"ended with code {await server.exited()}"
        except ServerNotFound:
            raise
        except (ServerError, UnusableCertificate, *NO_ACCOUNTS) as error:
            # It may have been killed at its start, its disk be full, a neighbour's file half written: one more failure, not the end.
            cause = str(error)


async def _failed(failures: Failures, cause: str, began: float, log: FilteringBoundLogger) -> None:
    """Note it, and wait before the next start. Raises ServerError when it was one too many."""
    now = time.monotonic()
    failure = Failure(at_ms=int(time.time() * 1000), cause=cause, after_ms=int((now - began) * 1000))
    failures.add(int(now * 1000), failure)
    log.error("nats_ended", cause=cause, failures=failures.count, restart_in_ms=failures.backoff_ms())
    if failures.too_many:
        first = failures.first or failure
        raise ServerError(f"nats-server failed {failures.count} times and was given up. First it {first.cause}; last it {cause}")
    await anyio.sleep(failures.backoff_ms() / 1000)
