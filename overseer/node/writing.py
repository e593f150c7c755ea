"""A server whose disk was full: it goes on refusing to write, whatever room there is, until it is started again."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress

import anyio

from overseer.nats.accounts import OVERSEER
from overseer.nats.server import EmbeddedServer
from overseer.observe.logs import logger

__all__ = ["SERVER", "keep_writing"]

# Its entry beside the subsystems' on the page of readiness.
SERVER = "nats-server"
# How often the server is asked.
LOOK_MS = 1_000
# Free space with which it is worth another start.
ROOM_BYTES = 4 * 1024 * 1024
_WRITE_ERROR = "write error"


async def keep_writing(server: EmbeddedServer, tell: Callable[[str], None]) -> None:
    """For ever: `tell` what keeps the server from writing, "" when nothing does; end it when there is room, to be started again."""
    log, said = logger(OVERSEER), False
    while True:
        await anyio.sleep(LOOK_MS / 1000)
        complaint = await server.complaint()
        if _WRITE_ERROR not in complaint:
            if said and await server.healthy():
                said = False
                tell("")
            continue
        tell(complaint)
        if not said:
            log.error("nats_cannot_write", error=complaint, advice="Free space on the disk of the NATS data; it goes on by itself then.")
            said = True
        pid = server.pid
        if pid is not None and _room(server) >= ROOM_BYTES:
            log.info("nats_has_room_again", server_pid=pid)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


def _room(server: EmbeddedServer) -> int:
    """Bytes free where its streams are."""
    try:
        disk = os.statvfs(server.folder / "jetstream")
    except OSError:
        return 0
    return disk.f_bavail * disk.f_frsize
