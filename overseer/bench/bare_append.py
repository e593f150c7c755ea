"""The limit of committing ballots: compare-and-set publishes and nothing else, one under way for each subject, on many subjects.

    python -m overseer.bench.bare_append URL KEYS_FOLDER SUBJECTS BODY_BYTES SECONDS    prints publishes per second

nats-py, with as little as possible around it. The stream is the log of a node that nobody runs (`overseer.bench.polls`): on the same
server, with the same settings, and with no one who reads it.
"""

# nats-py leaves some of its types open.
# pyright: reportUnknownMemberType=false

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from secrets import token_bytes

import anyio
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from overseer.bench.polls import BARE, BARE_SITE, Polls
from overseer.nats.accounts import inbox_prefix
from overseer.nats.keys import KeyFolder
from overseer.nats.resources import STREAM_ID
from overseer.nats.sites import log_stream, log_subject, site_user

__all__ = ["bare_append", "main"]

_EXPECTED_LAST = "Nats-Expected-Last-Subject-Sequence"
_EXPECTED_STREAM = "Nats-Expected-Stream"


async def bare_append(polls: Polls, subjects: int, body_bytes: int, seconds: float) -> float:
    """Publishes per second, from a process of its own: the voters are in another one than the node, too."""
    command = [sys.executable, "-m", "overseer.bench.bare_append", polls.url, str(polls.bare.keys_dir)]
    done = await anyio.run_process([*command, str(subjects), str(body_bytes), str(seconds)], stderr=subprocess.PIPE)
    return float(done.stdout)


class _Appender:
    """As many chains of publishes as there are subjects; the next one of a chain follows in the callback of the one before."""

    def __init__(self, client: Client, stream: str, subjects: int, body_bytes: int) -> None:
        self.count = 0
        self._client = client
        prefix = token_bytes(4).hex()
        self._subjects = [log_subject("ballots", f"{prefix}-{number}", BARE, stream) for number in range(subjects)]
        self._body = token_bytes(body_bytes)

    async def chain(self, subject: str, until: float) -> None:
        last = 0
        while time.perf_counter() < until:
            headers = {_EXPECTED_STREAM: log_stream(BARE), _EXPECTED_LAST: str(last)}
            reply: Msg = await self._client.request(subject, self._body, timeout=30, headers=headers)
            last = int(json.loads(reply.data)["seq"])
            self.count += 1

    async def run(self, seconds: float) -> float:
        began = time.perf_counter()
        await asyncio.gather(*(self.chain(subject, began + seconds) for subject in self._subjects))
        return self.count / (time.perf_counter() - began)


async def _run(url: str, keys: Path, subjects: int, body_bytes: int, seconds: float) -> float:
    user = site_user(BARE_SITE)
    client = await nats.connect(
        url, nkeys_seed_str=KeyFolder(keys).seed(user).reveal(), inbox_prefix=inbox_prefix(user, BARE).encode(), allow_reconnect=False
    )
    try:
        info = await client.request(f"$JS.API.STREAM.INFO.{log_stream(BARE)}", b"", timeout=10)
        stream = json.loads(info.data)["config"]["metadata"][STREAM_ID]
        return await _Appender(client, stream, subjects, body_bytes).run(seconds)
    finally:
        await client.close()


def main() -> None:
    url, keys, subjects, body_bytes, seconds = sys.argv[1:]
    print(asyncio.run(_run(url, Path(keys), int(subjects), int(body_bytes), float(seconds))))


if __name__ == "__main__":
    main()
