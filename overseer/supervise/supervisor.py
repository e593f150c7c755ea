"""Keep children running: start, watch, restart, give up with the first cause, and end all of them within a bound."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import anyio
import msgspec

from overseer.observe.logs import logger
from overseer.supervise.policy import Failures, SupervisePolicy
from overseer.supervise.process import KILL_MS_MAX
from overseer.supervise.progress import ProgressJudge
from overseer.supervise.run import Child, Ending, Run
from overseer.supervise.status import TRANSITIONS, Beat, ChildState, ChildStatus, Failure, GaveUp
from overseer.supervise.stopping import StopRequest

__all__ = ["Conclude", "Supervisor"]

# Announces the end to the children before they are told to stop; gets the reason.
Conclude = Callable[[str], Awaitable[None]]

_log = logger("overseer")


class _Watched:
    """One child with everything known about it."""

    def __init__(self, child: Child, policy: SupervisePolicy) -> None:
        self.child = child
        self.failures = Failures(policy)
        self.status = ChildStatus(name=child.name, state=ChildState.WAITING, since_ms=_wall_ms())
        self.run: Run | None = None
        self.stalled = ""
        self.done = anyio.Event()


class Supervisor:
    """Runs `children` under `policy` until `stop` is requested or one of them is given up.

    `conclude` is called once, at most `policy.conclude_ms` long, before the children are told to end.
    """

    def __init__(self, children: Sequence[Child], policy: SupervisePolicy, *, stop: StopRequest, conclude: Conclude | None = None) -> None:
        self._policy = policy
        self._stop = stop
        self._conclude = conclude
        self._watched = [_Watched(child, policy) for child in children]
        self._gave_up: GaveUp | None = None
        # What a child that is only just being started has to be told as well.
        self._told: Callable[[Run], None] | None = None
        self._version = 0
        self._changed = anyio.Event()
        self._finished = False

    def statuses(self) -> list[ChildStatus]:
        """A snapshot of all children, in the order given."""
        return [watched.status for watched in self._watched]

    async def changes(self) -> AsyncIterator[list[ChildStatus]]:
        """A snapshot now and after every change, until the end. A slow reader misses steps, never the latest state."""
        seen = -1
        while seen != self._version or not self._finished:
            if seen == self._version:
                await self._changed.wait()
                continue
            seen = self._version
            yield self.statuses()

    async def run(self) -> None:
        """Supervise. Returns when all children are gone; cancelled: kills them.

        Always ends within conclude_ms + terminate_ms + KILL_MS_MAX of the request. Raises GaveUp.
        """
        try:
            async with anyio.create_task_group() as tasks:
                for watched in self._watched:
                    tasks.start_soon(self._keep, watched)
                await self._stop.wait()
                await self._end_all()
                tasks.cancel_scope.cancel()
        finally:
            self._finished = True
            self._notify()
        if self._gave_up is not None:
            raise self._gave_up

    async def _keep(self, watched: _Watched) -> None:
        """Run one child again and again."""
        try:
            while not self._stop.requested:
                failure = await self._run_once(watched)
                if self._stop.requested:
                    break
                if not self._another_try(watched, failure):
                    return
                with anyio.move_on_after(watched.failures.backoff_ms() / 1000):
                    await self._stop.wait()
        finally:
            if watched.status.state is not ChildState.GAVE_UP:
                self._become(watched, ChildState.ENDED, pid=None)
            watched.done.set()

    async def _run_once(self, watched: _Watched) -> Failure:
        """Start the child and stay with it to its end."""
        restarts = watched.status.restarts + (watched.status.last_failure is not None)
        self._become(watched, ChildState.STARTING, restarts=restarts, beat=None)
        started_ms = _now_ms()
        try:
            run = await watched.child.start(self._policy.heartbeat_ms)
        except OSError as error:
            return Failure(at_ms=_wall_ms(), cause=f"could not be started: {error}")
        _log.info("child_started", child=watched.child.name, child_pid=run.pid, restarts=restarts)
        watched.run, watched.stalled = run, ""
        self._update(watched, pid=run.pid)
        if self._told is not None:
            self._told(run)
        try:
            ending = await self._attend(watched, run)
        finally:
            watched.run = None
        return self._failure(watched, ending, pid=run.pid, after_ms=_now_ms() - started_ms)

    async def _attend(self, watched: _Watched, run: Run) -> Ending:
        judge = ProgressJudge(self._policy, _now_ms())

        def hear(beat: Beat) -> None:
            judge.heard(_now_ms(), beat)
            self._heard(watched, beat)

        ending = Ending(cause="cancelled")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch_progress, watched, judge, run)
            ending = await run.serve(hear)
            tasks.cancel_scope.cancel()
        return ending

    async def _watch_progress(self, watched: _Watched, judge: ProgressJudge, run: Run) -> None:
        while not self._stop.requested:
            await anyio.sleep(judge.tick_ms / 1000)
            wrong = judge.look(_now_ms())
            if wrong and not self._stop.requested:
                watched.stalled = wrong
                self._become(watched, ChildState.STALLED, stalls=watched.status.stalls + 1)
                _log.error("child_stalled", child=watched.child.name, child_pid=run.pid, cause=wrong)
                run.kill()
                return

    def _heard(self, watched: _Watched, beat: Beat) -> None:
        self._update(watched, beat=beat)
        now = watched.status.state
        state = ChildState.READY if beat.ready else ChildState.STARTING
        if now in (ChildState.STARTING, ChildState.READY) and now is not state:
            self._become(watched, state)

    def _failure(self, watched: _Watched, ending: Ending, *, pid: int | None, after_ms: int) -> Failure:
        return Failure(
            at_ms=_wall_ms(),
            cause=watched.stalled or ending.cause,
            pid=pid,
            exit_code=ending.exit_code,
            signal=ending.signal,
            stalled=bool(watched.stalled),
            final=ending.final,
            after_ms=after_ms,
            last_lines=ending.last_lines,
        )

    def _another_try(self, watched: _Watched, failure: Failure) -> bool:
        """Note the failure; decide between a restart and the end of everything."""
        watched.failures.add(_now_ms(), failure)
        first = watched.failures.first or failure
        known: dict[str, Any] = {"last_failure": failure, "pid": None}
        name, count = watched.child.name, watched.failures.count
        if watched.failures.too_many:
            self._gave_up = GaveUp(child=name, failures=count, first=first, last=failure)
            self._become(watched, ChildState.GAVE_UP, **known)
            _log.error("child_given_up", child=name, failures=count, first_cause=first.text(), last_cause=failure.cause)
            self._stop.request(f"{name} was given up")
            return False
        self._become(watched, ChildState.WAITING, **known)
        _log.warning("child_failed", child=name, cause=failure.text(), failures=count, restart_in_ms=watched.failures.backoff_ms())
        return True

    async def _end_all(self) -> None:
        """Announce, ask, wait, kill, wait: each step bounded; the orderly ones cut short by a second request."""
        _log.info("stopping", reason=self._stop.reason)
        if self._conclude is not None and await self._out_of_time(self._policy.conclude_ms, self._announce):
            _log.warning("conclude_failed", cause=f"not said within {self._policy.conclude_ms} ms")
        self._tell(lambda run: run.ask_to_stop())
        for watched in self._watched:
            if watched.run is not None:
                self._become(watched, ChildState.STOPPING)
        await self._out_of_time(self._policy.terminate_ms, self._all_done)
        late = [w.child.name for w in self._watched if not w.done.is_set()]
        if late:
            _log.warning("killing", children=late, asked_ms=self._policy.terminate_ms)
            self._tell(lambda run: run.kill())
            with anyio.move_on_after(KILL_MS_MAX / 1000):
                await self._all_done()

    async def _announce(self) -> None:
        assert self._conclude is not None
        try:
            await self._conclude(self._stop.reason)
        except Exception as error:
            # The end must not depend on it: without a bus there is nobody to tell.
            _log.warning("conclude_failed", cause=repr(error))

    def _tell(self, what: Callable[[Run], None]) -> None:
        self._told = what
        for watched in self._watched:
            if watched.run is not None:
                what(watched.run)

    async def _all_done(self) -> None:
        for watched in self._watched:
            await watched.done.wait()

    async def _out_of_time(self, most_ms: int, work: Callable[[], Awaitable[None]]) -> bool:
        """Whether `most_ms` was too little for it. A second request to stop cuts it short."""
        bound = anyio.CancelScope(deadline=anyio.current_time() + most_ms / 1000)
        async with anyio.create_task_group() as tasks:

            async def hurry() -> None:
                await self._stop.wait_urgent()
                tasks.cancel_scope.cancel()

            tasks.start_soon(hurry)
            with bound:
                await work()
            tasks.cancel_scope.cancel()
        return bound.cancelled_caught

    def _become(self, watched: _Watched, state: ChildState, **also: Any) -> None:
        before = watched.status.state
        if state is not before:
            assert state in TRANSITIONS[before], f"{watched.child.name}: {before} -> {state}"
            also["since_ms"] = _wall_ms()
        self._update(watched, state=state, **also)

    def _update(self, watched: _Watched, **fields: Any) -> None:
        watched.status = msgspec.structs.replace(watched.status, **fields)
        self._notify()

    def _notify(self) -> None:
        self._version += 1
        self._changed.set()
        self._changed = anyio.Event()


def _now_ms() -> int:
    """The supervisor's own clock: never goes back, stands still while the machine sleeps."""
    return time.monotonic_ns() // 1_000_000


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
