"""A pool of check workers: processes fed packed signatures over sockets, without a task or thread of its own.

Everything runs in callbacks of the event loop: what a worker answers goes to its memo, and the next chunk to the worker.
A worker that dies, answers nonsense or does not answer in time is killed; its chunks are given up (the memo computes
them inline) and it is replaced, after a pause that doubles while replacements fail as well.
"""

import asyncio
import os
import socket
import subprocess
import sys
from array import array
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec
from anyio import CancelScope, to_thread

from overseer.check_worker import HEADER, LENGTHS
from overseer.subsystem import Check
from overseer.verification import KEY_BYTES, SCHEMES, SIGNATURE_BYTES

__all__ = ["CheckPool", "PoolLimits", "pack", "worker_command"]


class PoolLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The pool's bounds."""

    # Fewer checks than this are computed inline: waking a worker would take about as long.
    checks_min: int = 4
    # Checks of one request at most: 10 ms of work, 40 KB on the socket.
    chunk_checks_max: int = 256
    # Requests a worker has at most: one being computed, one waiting, so that it never idles for a turn of our loop.
    chunks_per_worker: int = 2
    # Checks waiting for a worker beyond which new ones are left to be computed inline: bounds memory.
    queued_checks_max: int = 65_536
    # Longer messages are checked inline: few, and they would make a chunk's size unbounded.
    message_bytes_max: int = 16 * 1024
    # A worker that leaves a chunk (10 ms of work) unanswered for so long is killed; generous for a loaded machine.
    answer_timeout_ms: int = 10_000
    # The pause before a dead worker is replaced: first, and at most.
    restart_ms: int = 100
    restart_ms_max: int = 30_000
    # How long a worker may take to end once its socket is closed.
    close_timeout_ms: int = 2_000


class Sink(Protocol):
    """Where answers go: a Memo."""

    def expect(self, chunks: int) -> None: ...

    def answered(self, checks: Sequence[Check], answer: bytes | None) -> None: ...


class _Chunk(NamedTuple):
    checks: Sequence[Check]
    request: bytes
    sink: Sink


_CODES = {scheme: code for code, scheme in enumerate(SCHEMES)}
_KEY = {KEY_BYTES}
_SIGNATURE = {SIGNATURE_BYTES}


def pack(checks: Sequence[Check], message_bytes_max: int) -> bytes | None:
    """A request for a worker (overseer/check_worker.py), column by column; None if one of them does not fit the form."""
    schemes, keys, messages, signatures = zip(*checks, strict=True)
    lengths = array(LENGTHS, map(len, messages))
    if set(map(len, keys)) != _KEY or set(map(len, signatures)) != _SIGNATURE or max(lengths) > message_bytes_max:
        return None
    try:
        codes = bytes(map(_CODES.__getitem__, schemes))
    except KeyError:
        return None
    body = b"".join(messages)
    return b"".join((HEADER.pack(len(checks), len(body)), codes, *keys, *signatures, lengths.tobytes(), body))


class _Worker(asyncio.Protocol):
    """One worker process and its socket; answers come in the order of requests."""

    def __init__(self, pool: "CheckPool", process: subprocess.Popen[bytes]) -> None:
        self.pool = pool
        self.process = process
        self.chunks: deque[_Chunk] = deque()
        self._link: asyncio.Transport | None = None
        self._answer = bytearray()
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._link = transport
        for chunk in self.chunks:
            transport.write(chunk.request)

    def send(self, chunk: _Chunk) -> None:
        self.chunks.append(chunk)
        if self._link is not None:
            self._link.write(chunk.request)
        if self._deadline is None:
            self._watch()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        while self.chunks and len(self._answer) >= len(self.chunks[0].checks):
            chunk = self.chunks.popleft()
            size = len(chunk.checks)
            answer = bytes(self._answer[:size])
            del self._answer[:size]
            if max(answer) > 1:
                self.chunks.appendleft(chunk)
                self.pool.lost(self)
                return
            self._watch()
            self.pool.done(self, chunk, answer)
        if self._answer and not self.chunks:
            self.pool.lost(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.pool.lost(self)

    def stop(self) -> None:
        """Close the socket, upon which an unhurt worker ends."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if self._link is not None:
            self._link.abort()

    def _watch(self) -> None:
        """Start the time to the next answer anew, if one is due."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if self.chunks:
            self._deadline = asyncio.get_running_loop().call_later(self.pool.limits.answer_timeout_ms / 1000, self.pool.lost, self)


class CheckPool:
    """The workers and the queue before them. For one event loop."""

    def __init__(self, workers: int | None, limits: PoolLimits) -> None:
        self.limits = limits
        # Starts a worker: a program that serves its standard input, a socket.
        self.command = worker_command()
        self.size = workers or len(os.sched_getaffinity(0))
        # Workers that were lost so far.
        self.losses = 0
        self._workers: list[_Worker] = []
        self._queue: deque[_Chunk] = deque()
        self._queued_checks = 0
        self._closed = False
        self._pause_ms = 0
        self._start_at = 0.0
        # Started but not yet connected, and killed but not yet reaped: kept so that neither is forgotten.
        self._pending: set[asyncio.Task[None]] = set()

    @property
    def process_ids(self) -> list[int]:
        """Of the living workers."""
        return [worker.process.pid for worker in self._workers]

    def submit(self, checks: Sequence[Check], sink: Sink) -> None:
        """Take on what there is room for; the sink hears of each chunk once. The rest it never hears of."""
        room = self.limits.queued_checks_max - self._queued_checks
        if self._closed or len(checks) < self.limits.checks_min or room <= 0:
            return
        self._start_workers()
        if not self._workers:
            return
        for part in self._split(checks[:room]):
            request = pack(part, self.limits.message_bytes_max)
            if request is None:
                # One by one, so that a single malformed check does not keep its neighbours out.
                part = [check for check in part if pack([check], self.limits.message_bytes_max) is not None]
                request = pack(part, self.limits.message_bytes_max) if part else None
            if request is not None:
                sink.expect(1)
                self._queue.append(_Chunk(part, request, sink))
                self._queued_checks += len(part)
        self._feed()

    def done(self, worker: _Worker, chunk: _Chunk, answer: bytes) -> None:
        """A worker answered."""
        self._pause_ms = 0
        chunk.sink.answered(chunk.checks, answer)
        self._feed()

    def lost(self, worker: _Worker) -> None:
        """A worker is of no use any more: kill it, give up its chunks, and everything queued if it was the last."""
        if worker not in self._workers:
            return
        self._workers.remove(worker)
        if not self._closed:
            self.losses += 1
            self._pause_ms = min(max(self.limits.restart_ms, self._pause_ms * 2), self.limits.restart_ms_max)
            self._start_at = asyncio.get_running_loop().time() + self._pause_ms / 1000
        worker.process.kill()
        self._retire(worker)
        if not self._workers:
            worker.chunks.extend(self._queue)
            self._queue.clear()
            self._queued_checks = 0
        while worker.chunks:
            chunk = worker.chunks.popleft()
            chunk.sink.answered(chunk.checks, None)
        self._feed()

    async def close(self) -> None:
        """End the workers; none is left when this returns. What they had is given up. Idempotent."""
        self._closed = True
        with CancelScope(shield=True):
            for worker in list(self._workers):
                self._workers.remove(worker)
                self._retire(worker)
                while worker.chunks:
                    chunk = worker.chunks.popleft()
                    chunk.sink.answered(chunk.checks, None)
            while self._queue:
                chunk = self._queue.popleft()
                chunk.sink.answered(chunk.checks, None)
            self._queued_checks = 0
            while self._pending:
                await asyncio.wait(set(self._pending))

    def _split(self, checks: Sequence[Check]) -> list[Sequence[Check]]:
        """Equal chunks, as many for each worker, none needlessly small."""
        rounds = -(-len(checks) // (self.limits.chunk_checks_max * self.size))
        count = max(1, min(rounds * self.size, len(checks) // self.limits.checks_min))
        bounds = [len(checks) * index // count for index in range(count + 1)]
        return [checks[low:high] for low, high in pairwise(bounds)]

    def _feed(self) -> None:
        """Give queued chunks to the workers that have least to do."""
        while self._queue and self._workers:
            worker = min(self._workers, key=lambda w: len(w.chunks))
            if len(worker.chunks) >= self.limits.chunks_per_worker:
                return
            chunk = self._queue.popleft()
            self._queued_checks -= len(chunk.checks)
            worker.send(chunk)

    def _start_workers(self) -> None:
        if len(self._workers) >= self.size:
            return
        loop = asyncio.get_running_loop()
        if loop.time() < self._start_at:
            return
        while len(self._workers) < self.size:
            ours, theirs = socket.socketpair()
            try:
                process = subprocess.Popen(self.command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL)
            except OSError:
                ours.close()
                self._pause_ms = min(max(self.limits.restart_ms, self._pause_ms * 2), self.limits.restart_ms_max)
                self._start_at = loop.time() + self._pause_ms / 1000
                return
            finally:
                theirs.close()
            ours.setblocking(False)
            worker = _Worker(self, process)
            self._workers.append(worker)
            self._keep(loop.create_task(self._connect(worker, ours)))

    async def _connect(self, worker: _Worker, ours: socket.socket) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(lambda: worker, ours)
        if worker not in self._workers:
            # Lost or closed meanwhile.
            worker.stop()

    def _retire(self, worker: _Worker) -> None:
        worker.stop()
        self._keep(asyncio.get_running_loop().create_task(_reap(worker.process, self.limits.close_timeout_ms)))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)


def worker_command() -> list[str]:
    """A Python that loads the worker's module and nothing of its surroundings; it finds modules where we do."""
    path = [str(Path(__file__).resolve().parent.parent), *(entry for entry in sys.path if entry)]
    code = f"import sys; sys.path[:] = {path!r}; from overseer.check_worker import main; main()"
    return [sys.executable, "-I", "-S", "-c", code]


async def _reap(process: subprocess.Popen[bytes], timeout_ms: int) -> None:
    """Wait for the end of a worker, and bring it about if need be."""

    def wait() -> None:
        try:
            process.wait(timeout_ms / 1000)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    await to_thread.run_sync(wait)
