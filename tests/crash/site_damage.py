"""Spoiled files of a node with five sites: each is found and named, or does no harm. Never a wrong count, never a silent loss.

    python -m tests.crash.site_damage --injections 200 --json

As `tests.crash.damage`, with elections on five sites. Damage to a site's store is judged in this process: refused by name, or every row is
what it was. All other damage is judged by a whole node started on it: it refuses by name, and goes on after the repair that it names; or
every site shows every event that was acknowledged, and elections go on.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import anyio
import msgspec

from overseer.nats.sites import site_user
from overseer.ports.store import StoreCorrupted, StoreError, StoreIdentity
from overseer.rocks.store import RocksStore
from overseer.sites.tables import SITE_SCHEMA, table_names
from subsystems.elections.subsystem import Elections
from tests.crash.damage import NAMED, Figures, Judged
from tests.crash.damage_checks import rows_hash
from tests.crash.damage_faults import NODE_KINDS, STORE_KINDS, Damage, damage
from tests.crash.polls import Election, Polls
from tests.crash.report import Report, leaves, show
from tests.crash.site_stores import store_problems
from tests.crash.sites import FIVE_SITES, level, reckoned, sites_client
from tests.node.asking import outcome_of
from tests.node.nodes import Node, Place, eventually, place

__all__ = ["SiteSample", "inject", "prepared", "repaired"]

ELECTIONS = 9
SETTINGS: dict[str, object] = {
    **FIVE_SITES,
    "supervise.backoff_first_ms": 10,
    "supervise.backoff_max_ms": 10,
    "supervise.restarts_max": 1,
}
# Of all injections, those into stores of sites; the others cost a whole node each.
STORE_SHARE = 0.8
AFTERWARDS = "afterwards"


class SiteSample(msgspec.Struct, kw_only=True):
    """A node with five sites that has run and was killed, and what was acknowledged there."""

    folder: Path
    users: list[str]
    elections: list[Election]
    # By site: all rows of its store.
    rows: dict[str, bytes]


async def prepared(folder: Path) -> SiteSample:
    """Run a node twice, with elections all the time, and kill it."""
    here, polls = Place(folder, **SETTINGS), list[Polls]()
    for life in ("first", "second"):
        polls.append(Polls(life, random.Random(life), lanes=3, pause_s=0.01))
        async with Node.up(here) as node, node.client() as client:
            asking = sites_client(client, node.info.sites)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(polls[-1].run, [partial(outcome_of, asking)])
                await eventually(lambda: len(polls[-1].elections) >= ELECTIONS, "elections are held", log=node.text)
                polls[-1].end()
            elections = [election for each in polls for election in each.elections]
            assert await level(asking, elections) == []
            users = [site_user(site) for site in node.info.sites]
            if life == "second":
                here.kill_everything()
    rows = {user: _rows(here.data, user) for user in users}
    return SiteSample(folder=here.data, users=users, elections=elections, rows=rows)


def _rows(data: Path, user: str) -> bytes:
    """All rows of a site's store, opened as the site does, on a copy. Raises StoreError."""
    with tempfile.TemporaryDirectory(prefix="overseer-look-") as scratch:
        copy = Path(scratch) / user
        shutil.copytree(data / "stores" / user, copy)
        tables = table_names(Elections())
        store = RocksStore.open(copy, tables=tables, identity=StoreIdentity("node", user, SITE_SCHEMA))
        try:
            return rows_hash(store, tables)
        finally:
            store.close()


def judged_store(sample: SiteSample, data: Path, user: str) -> Judged | None:
    """What became of damage to one store; None when only a node can tell."""
    try:
        rows = _rows(data, user)
    except StoreCorrupted as error:
        named = "overseer repair" in str(error)
        return Judged("refused", "StoreCorrupted") if named else Judged("WRONG", f"says not what to do: {error}")
    except StoreError as error:
        return Judged("refused", type(error).__name__)
    except Exception as error:
        return Judged("WRONG", f"not named: {error!r}")
    return Judged("harmless", "") if rows == sample.rows[user] else None


async def judged_node(sample: SiteSample, here: Place) -> Judged:
    """Start a node on it. Where an election is stopped by name because of its log, the streams are made anew, as the documentation says."""
    node = Node.start(here)
    try:
        await eventually(lambda: bool(node.events("ready")) or node.process.poll() is not None, "up or ended", log=node.text)
        if node.process.poll() is not None:
            last = next((line for line in node.text().splitlines() if line.startswith("error: ")), "")
            name = next((name for name in NAMED if name in node.text()), last.partition(" /")[0][:60])
            return Judged("refused" if last and "Traceback" not in node.text() else "WRONG", name or node.text()[-2000:])
        await node.ready()
        wrong = await _goes_on(sample, node)
        stopped = bool(node.events("election_stopped"))
    finally:
        await node.stop()
    if not wrong:
        problems = await store_problems(here.data, sample.users)
        replaced = bool(node.events("log_replaced"))
        return Judged("WRONG", str(problems[:3])) if problems else Judged("repaired" if replaced else "harmless", "")
    if not stopped:
        return Judged("WRONG", str(wrong[:3]))
    if wrong := await repaired(sample, here):
        return Judged("WRONG", f"after the repair: {wrong[:3]}")
    return Judged("refused", "key_stopped")


async def repaired(sample: SiteSample, here: Place, *targets: str) -> list[str]:
    """Repair these (the streams, where none is named), and start: what is wrong then."""
    for command in [("repair", user, "--replay") for user in targets] or [("repair", "nats")]:
        done = await anyio.to_thread.run_sync(lambda command=command: here.run(*command))
        if done.code:
            return [f"{command}: {done.error}"]
    async with Node.up(here) as node:
        wrong = await _goes_on(sample, node)
    return wrong or await store_problems(here.data, sample.users)


async def _goes_on(sample: SiteSample, node: Node) -> list[str]:
    """What lacks of what was acknowledged, at whichever site; and whether an election can be held."""
    report = Report(seed=0)
    more = Polls(AFTERWARDS, random.Random(0), lanes=1, pause_s=0)
    try:
        async with node.client() as client:
            asking = sites_client(client, node.info.sites)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(more.run, [partial(outcome_of, asking, seconds=20)])
                await eventually(lambda: bool(more.elections), "one begins")
                more.end()
            # What the node's stream has lost of what the world was told is not told again.
            await reckoned(client, node.info.sites, [*sample.elections, *more.elections], report, told=False, settle_s=15)
    except Exception as error:
        return [f"{type(each).__name__}: {each}" for each in leaves(error)]
    return report.problems


async def inject(sample: SiteSample, folder: Path, number: int, seed: int, figures: Figures) -> None:
    """One injection, told by its number and the seed."""
    name = f"{seed}/{number}"
    user = random.Random(f"{name} site").choice(sample.users) if random.Random(name).random() < STORE_SHARE else ""
    inside, kinds = (Path("stores") / user, STORE_KINDS) if user else (Path(), NODE_KINDS)
    home = folder / f"injection-{number}"
    with place(home, **{key.replace(".", "__"): value for key, value in SETTINGS.items()}) as here:

        def spoiled(what: Path) -> Damage:
            """A copy of `what` of the folder, with the damage done; the same each time."""
            shutil.rmtree(here.data, ignore_errors=True)
            shutil.copytree(sample.folder / what, here.data / what)
            return damage(here.data / inside, kinds, random.Random(f"{name} fault"))

        judged = None
        if user:
            done = spoiled(inside)
            judged = judged_store(sample, here.data, user)
        if judged is None:
            done = spoiled(Path())
            figures.nodes_started += 1
            judged = await judged_node(sample, here)
    shutil.rmtree(home)
    figures.add(done, judged, f"--seed {seed} --only {number}: {user}")


async def injections(folder: Path, numbers: list[int], seed: int, seconds: float) -> Figures:
    figures, began = Figures(), time.monotonic()
    sample = await prepared(folder / "sample")
    for number in numbers:
        if time.monotonic() - began > seconds:
            break
        await inject(sample, folder, number, seed, figures)
    figures.seconds = round(time.monotonic() - began, 1)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description="Spoil files of a node with five sites, one at a time, and judge what it makes of each.")
    parser.add_argument("--injections", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=3_600, help="at most so long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="the injection of this number alone")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    numbers = list(range(given.injections)) if given.only is None else [given.only]
    with tempfile.TemporaryDirectory(prefix="overseer-site-damage-", ignore_cleanup_errors=True) as folder:
        figures = anyio.run(injections, Path(folder), numbers, given.seed, given.seconds)
    show(figures, as_json=given.json)
    return 1 if figures.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
