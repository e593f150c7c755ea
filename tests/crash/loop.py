"""The crash loop: processes of a real node are killed at random under traffic, again and again; then everything is counted.

    python -m tests.crash.loop --kills 500 --seed 1 --json

One line per reckoning. Exit code 1 when anything was lost, doubled, wrong or stuck; the folder is then kept and named.
"""

import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from random import Random

import anyio

from tests.crash.living import KILLED_OFTEN, RECOVERY_S, Living
from tests.crash.report import Report, Struck, kill_command, leaves
from tests.crash.traffic import Scenery, Traffic, until
from tests.node.nodes import SUBSYSTEMS, Place, verified

__all__ = ["Killer", "crash_loop"]

# How often each kind of stroke is chosen, of 100.
STROKES = {"one subsystem": 34, "nats-server": 14, "two": 20, "all": 16, "the one coming back": 8, "overseer": 5, "stopped": 3}
# A stroke falls at most so long after the node was whole again.
PEACE_S = 0.4


class Killer:
    """Strikes at random, waits until the node is whole again, and strikes again.

    `names`: the processes under the overseer, beside the server's. `whole` returns when all is well again, or raises Stuck.
    """

    def __init__(self, living: Living, names: Sequence[str], whole: Callable[[], Awaitable[None]], rng: Random) -> None:
        self.kills: Counter[str] = Counter()
        self.strokes: Counter[str] = Counter()
        self.recovery_s: dict[str, list[float]] = defaultdict(list)
        self._living = living
        self._names = tuple(names)
        self._processes = (*names, "nats-server")
        self._whole = whole
        self._rng = rng

    async def run(self, kills: int, until_s: float) -> None:
        """Raises Stuck."""
        while self.kills.total() < kills and time.monotonic() < until_s:
            await anyio.sleep(self._rng.uniform(0, PEACE_S))
            (stroke,) = self._rng.choices(list(STROKES), list(STROKES.values()))
            began = time.monotonic()
            await self._strike(stroke)
            self.strokes[stroke] += 1
            await self._whole()
            self.recovery_s[stroke].append(time.monotonic() - began)

    def tell(self, report: Struck) -> None:
        report.strokes = dict(self.strokes)
        for stroke, times in self.recovery_s.items():
            report.recovery_ms_median[stroke] = int(1000 * sorted(times)[len(times) // 2])
            report.recovery_ms_worst[stroke] = int(1000 * max(times))

    async def _strike(self, stroke: str) -> None:
        match stroke:
            case "one subsystem":
                await self._kill(self._rng.choice(self._names))
            case "two":
                await self._kill(*self._rng.sample(self._processes, 2))
            case "all":
                await self._kill(*self._rng.sample(self._processes, len(self._processes)))
            case "the one coming back":
                victim = self._rng.choice(self._processes)
                for _ in range(self._rng.randint(2, 4)):
                    await self._kill(victim)
                    await anyio.sleep(self._rng.uniform(0, 0.3))
            case "overseer":
                await self._kill("overseer")
                await self._living.restarted_by_hand()
            case "stopped":
                await self._stop(self._rng.choice(self._names))
            case _:
                await self._kill(stroke)

    async def _kill(self, *victims: str) -> None:
        """All at once; one that is only just being restarted is waited for first."""
        living = self._living
        for victim in victims:
            await until(lambda victim=victim: living.pid(victim) is not None, f"there is a {victim}", RECOVERY_S)
        for victim in victims:
            self.kills[victim] += living.signal(victim)

    async def _stop(self, victim: str) -> None:
        """Stopped, not killed: noticed by its lack of progress, named, killed and restarted by the overseer."""
        living = self._living
        await until(lambda: living.signal(victim, signal.SIGSTOP), f"there is a {victim}", RECOVERY_S)
        before = living.log.events["child_stalled", victim]

        def noticed() -> bool:
            living.log.read()
            return living.log.events["child_stalled", victim] > before

        await until(noticed, f"the stopped {victim} is noticed and named", RECOVERY_S)


async def crash_loop(here: Place, *, kills: int, seed: int, seconds: float = 3_600) -> Report:
    """At least `kills` kills, or for so long; the traffic is completed and everything counted. Never raises for what went wrong."""
    rng = Random(seed)
    scenery = Scenery(f"crash {seed}")
    here.settings |= {**KILLED_OFTEN, "genesis": scenery.genesis.hex()}
    living, traffic = Living(here), Traffic(scenery, rng)
    report = Report(seed=seed)
    try:
        async with living.up() as client:
            killer = Killer(living, SUBSYSTEMS, lambda: living.whole(client, traffic), rng)
            began = time.monotonic()
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(traffic.run, client)
                    await killer.run(kills, began + seconds)
                    traffic.end()
            finally:
                report.struck(dict(killer.kills), time.monotonic() - began)
                report.sent(traffic)
                killer.tell(report)
            messages = await report.count(client, traffic)
        verified(here)
        report.course(here, traffic, messages)
    except Exception as error:
        report.problems += [f"{type(each).__name__}: {each}" for each in leaves(error)]
    report.problems += [trouble for log in living.logs for trouble in log.troubles]
    return report


if __name__ == "__main__":
    sys.exit(kill_command("loop", __doc__, crash_loop, kills=500))
