"""Keeping a stream untrimmed while somebody reads it from outside: as a subsystem does that has taken nothing yet.

Trimming looks at consumers that belong to a subsystem (`overseer.nats.trimming`), whoever trims, on whichever machine. So a
consumer of that kind holds it, and the server forgets one that nobody renews: a killed reader holds nothing for long.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from secrets import token_hex

import anyio

from overseer.nats.provision import Api, ApiError, call
from overseer.nats.resources import STREAM_NODE, SUBSYSTEM
from overseer.ports.bus import BusError

__all__ = ["HeldNoLonger", "untrimmed"]

_NS_PER_S = 1_000_000_000
# How long the server keeps one that is not renewed, and how often it is.
_KEPT_S = 600
_RENEWED_S = 120


class HeldNoLonger(Exception):
    """Somebody deleted what held the stream: it may have been trimmed meanwhile."""

    def __init__(self, stream: str) -> None:
        super().__init__(f"the stream {stream} may have been trimmed meanwhile: somebody deleted the consumer that held it; begin again")


@asynccontextmanager
async def untrimmed(api: Api, stream: str, node: str, holder: str) -> AsyncGenerator[None, None]:
    """Within it nothing is trimmed that was not already about to be. `api`: the provisioner's.

    Raises ApiError, BusError; HeldNoLonger at its end.
    """
    held = [await _hold(api, stream, node, holder)]

    async def renew() -> None:
        while True:
            await anyio.sleep(_RENEWED_S)
            # Without a bus, what there is lasts for some time.
            with suppress(BusError):
                held.append(await _hold(api, stream, node, holder))
                await _release(api, stream, held.pop(0))

    failed: BaseException | None = None
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(renew)
            try:
                yield
            except Exception as error:
                # Raised behind the group, which would put it into another.
                failed = error
            tasks.cancel_scope.cancel()
    except BaseException as error:
        failed = error
    lost = await _released(api, stream, held)
    failed = failed or lost
    if failed is not None:
        raise failed


async def _released(api: Api, stream: str, held: list[str]) -> Exception | None:
    """Hold no longer; what went wrong, if it did: a consumer that was deleted meanwhile held nothing."""
    with anyio.CancelScope(shield=True):
        try:
            for name in held:
                await _release(api, stream, name)
        except ApiError:
            return HeldNoLonger(stream)
        except BusError as error:
            return error
    return None


async def _hold(api: Api, stream: str, node: str, holder: str) -> str:
    name = f"{holder}_{token_hex(4)}"
    config = {
        "name": name,
        "durable_name": name,
        "description": "Nothing is trimmed while this is there",
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "inactive_threshold": _KEPT_S * _NS_PER_S,
        "metadata": {SUBSYSTEM: holder, STREAM_NODE: node},
    }
    await call(api, f"CONSUMER.CREATE.{stream}.{name}", {"stream_name": stream, "config": config, "action": "create"})
    return name


async def _release(api: Api, stream: str, name: str) -> None:
    await call(api, f"CONSUMER.DELETE.{stream}.{name}")
