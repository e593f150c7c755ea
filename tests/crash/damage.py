"""A thousand spoiled files: each is found and named, or does no harm. Never a wrong answer, never a silent loss.

    python -m tests.crash.damage --injections 1000 --json

A node is run once, and killed. Each injection spoils one file of a copy: a bit flipped, the end cut off, a page zeroed, the file
gone or swapped with another. Damage to a store is judged in this process: refused by name, or every row is what it was. All
other damage, and a store that came to another state (an older one, say), is judged by a whole node with a real server started on
it: it refuses by name, or all that was acknowledged is there, answers are what they were, `verify` is equal, and it goes on.
"""

import argparse
import io
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import anyio
import msgspec

from messages.codec import encode_value
from messages.votes_db import RegisterVote
from overseer.cli import common
from overseer.cli.common import load_settings, report
from overseer.config import LogConfig
from overseer.node.catalogue import build_subsystem
from overseer.node.client import Client
from overseer.node.folder import NodeFolder, RunInfo
from overseer.node.hosting import open_store, table_names
from overseer.node.overseer import Node as InnerNode
from overseer.observe.logs import configure_logs
from overseer.ports.store import StoreCorrupted, StoreError
from overseer.settings import Loaded
from overseer.supervise.status import GaveUp
from overseer.supervise.stopping import StopRequest
from tests.crash.damage_checks import paid, rows_hash, verdicts
from tests.crash.damage_faults import NODE_KINDS, STORE_KINDS, Damage, damage
from tests.crash.report import leaves, show
from tests.node.nodes import DISPUTE_PATH, Ballots, Node, Place, ballots, history, said_once, told, votes_of

__all__ = ["Figures", "Sample", "inject", "prepared", "settings_of"]

BUNDLES = 30
VALIDATORS = 6
SETTINGS: dict[str, object] = {
    "feed.source": "none",
    "verification.workers": 0,
    "limits.checkpoint_records": 15,
    "supervise.backoff_first_ms": 10,
    "supervise.backoff_max_ms": 10,
    "supervise.restarts_max": 1,
}
# Of all injections, those into stores; the others cost a whole node each.
STORE_SHARE = 0.9
UP_S = 60.0
# What a node may end with: these name what is wrong.
NAMED = ("StoreCorrupted", "WrongStore", "StoreMissing", "JournalBroken", "UnusableKey", "BusDenied", "StreamChanged")


class Sample(msgspec.Struct, kw_only=True):
    """A node that has run, and what is known of it."""

    folder: Path
    made: Ballots
    # By bundle: the answer to the question for its votes.
    answers: list[bytes]
    # By subsystem: all rows of its store, and of each checkpoint.
    rows: dict[str, bytes]
    checkpoints: dict[str, dict[str, bytes]]


class Judged(msgspec.Struct, frozen=True):
    outcome: str
    why: str


class Figures(msgspec.Struct, kw_only=True):
    injections: int = 0
    # refused, repaired (and said so), harmless, WRONG; by kind of file.
    outcomes: dict[str, int] = {}
    by_kind: dict[str, dict[str, int]] = {}
    # The errors by which it was refused.
    named: dict[str, int] = {}
    nodes_started: int = 0
    wrong: list[str] = []
    seconds: float = 0.0

    def add(self, done: Damage, judged: Judged, which: str) -> None:
        """One injection more. `which`: how to make it again."""
        self.injections += 1
        self.outcomes[judged.outcome] = self.outcomes.get(judged.outcome, 0) + 1
        of_kind = self.by_kind.setdefault(done.kind, {})
        of_kind[judged.outcome] = of_kind.get(judged.outcome, 0) + 1
        if judged.outcome == "refused":
            self.named[judged.why] = self.named.get(judged.why, 0) + 1
        if judged.outcome == "WRONG":
            self.wrong.append(f"{which} {done.text()}: {judged.why}")


def settings_of(data: Path) -> Loaded:
    return load_settings(data_dir=data, in_process=True, **SETTINGS)


async def prepared(folder: Path) -> Sample:
    """Run a node, stop it, run it again, and kill it: tables, logs, checkpoints, and a log that was not closed."""
    place = Place(folder, **SETTINGS)
    made = ballots(BUNDLES, VALIDATORS)
    half = BUNDLES // 2
    async with Node.up(place, "--in-process") as node, node.client() as client:
        await told(client, made.opening, "opening")
        for number in range(half):
            await told(client, made.bundles[number], f"bundle {number}")
        await paid(client, half * VALIDATORS)
    async with Node.up(place, "--in-process") as node, node.client() as client:
        for number in range(half, BUNDLES):
            await told(client, made.bundles[number], f"bundle {number}")
        assert await paid(client, made.votes) == made.votes
        answers = [await _answer(client, bundle) for bundle in made.bundles]
        place.kill_everything()
    rows: dict[str, bytes] = {}
    checkpoints: dict[str, dict[str, bytes]] = {}
    copy = folder / "looked at"
    shutil.copytree(place.data, copy)
    for name in DISPUTE_PATH:
        rows[name], checkpoints[name] = _looked_at(copy, name)
        assert checkpoints[name], f"{name} has no checkpoint"
    shutil.rmtree(copy)
    return Sample(folder=place.data, made=made, answers=answers, rows=rows, checkpoints=checkpoints)


async def _answer(client: Client, bundle: RegisterVote) -> bytes:
    """What is asked for after the damage; without times, which are others for what had to be decided once more."""
    found = await votes_of(client, bundle)
    return encode_value((str(found.status), found.pro, found.cons, found.votes))


def _looked_at(data: Path, name: str) -> tuple[bytes, dict[str, bytes]]:
    """All rows of the store and of each of its checkpoints. Raises StoreError."""
    declaration = build_subsystem(name, settings_of(data)).declaration
    tables = table_names(declaration)
    store = open_store(NodeFolder(data), "node", declaration)
    try:
        kept: dict[str, bytes] = {}
        for checkpoint in store.checkpoints():
            reader = store.open_checkpoint(checkpoint)
            try:
                kept[checkpoint] = rows_hash(reader, tables)
            finally:
                reader.close()
        return rows_hash(store, tables), kept
    finally:
        store.close()


# ------------------------------------------------------------------------------------------------ judging


def judged_store(sample: Sample, data: Path, name: str) -> Judged | None:
    """What became of damage to one store; None when only a node can tell."""
    try:
        rows, checkpoints = _looked_at(data, name)
    except StoreCorrupted as error:
        if "overseer repair" not in str(error):
            return Judged("WRONG", f"says not what to do: {error}")
        return Judged("refused", "StoreCorrupted")
    except StoreError as error:
        return Judged("refused", type(error).__name__)
    except Exception as error:
        return Judged("WRONG", f"not named: {error!r}")
    if rows == sample.rows[name] and checkpoints == sample.checkpoints[name]:
        return Judged("harmless", "")
    return None


async def judged_node(sample: Sample, data: Path) -> Judged:
    """Start a node on it."""
    log = io.StringIO()
    loaded = settings_of(data)
    configure_logs(LogConfig(format="json"), run_id="", node="node", stream=log)
    stop, up = StopRequest(), anyio.Event()
    infos: list[RunInfo] = []

    def started(info: RunInfo) -> None:
        infos.append(info)
        up.set()

    ended: list[BaseException] = []
    judged: Judged | None = None

    async def run() -> None:
        try:
            await InnerNode(loaded, started=started).run(stop)
        except Exception as error:
            ended.append(error)
        up.set()

    with anyio.move_on_after(UP_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await up.wait()
            if infos:
                try:
                    judged = await _answers(sample, loaded, infos[0], log)
                except Exception as error:
                    judged = Judged("WRONG", f"up, and then {error!r}")
                stop.request("judged")
    if ended and (judged is None or judged.outcome == "WRONG"):
        return _refusal(ended[0], log)
    return judged or Judged("WRONG", f"neither up nor ended within {UP_S} s\n{log.getvalue()[-2000:]}")


def _refusal(error: BaseException, log: io.StringIO) -> Judged:
    """Whether what it ended with names what is wrong, as the command line would."""
    try:
        with _quiet():
            report(error)
    except BaseException:
        return Judged("WRONG", f"ended with a defect: {error!r}\n{log.getvalue()[-2000:]}")
    first = leaves(error)[0]
    if isinstance(first, GaveUp):
        name = first.first.cause.partition(":")[0]
        return Judged("refused" if name in NAMED else "WRONG", name if name in NAMED else str(first))
    return Judged("refused", type(first).__name__)


class _quiet:
    """The command line's words for an error go to stderr: not here."""

    def __enter__(self) -> None:
        self._was = common._errors.quiet
        common._errors.quiet = True

    def __exit__(self, *_: object) -> None:
        common._errors.quiet = self._was


async def _answers(sample: Sample, loaded: Loaded, info: RunInfo, log: io.StringIO) -> Judged:
    """Whether the node that is up has everything, answers as before, and goes on."""
    async with Client.connected(loaded.config, info.url, "operator") as client:
        deadline = time.monotonic() + 10
        wrong = list(range(len(sample.answers)))
        while wrong and time.monotonic() < deadline:
            # A store that starts anew takes a moment to be where it was.
            wrong = [i for i in wrong if await _answer(client, sample.made.bundles[i]) != sample.answers[i]]
        if wrong:
            return Judged("WRONG", f"{len(wrong)} of {len(sample.answers)} answers differ")
        if (found := await paid(client, sample.made.votes)) != sample.made.votes:
            return Judged("WRONG", f"{found} votes are paid for, not {sample.made.votes}")
        # Again, under the first one's id: the same outcome, no second effect.
        await told(client, sample.made.bundles[0], "bundle 0")
        said_once(await history(client))
        faults = [f"{name}: {text}" for name, texts in (await verdicts(loaded)).items() for text in texts]
        if faults:
            return Judged("WRONG", f"verify: {faults[:3]}")
    text = log.getvalue()
    repaired = "this store was restored" in text or "the stream" in text
    return Judged("repaired", "") if repaired else Judged("harmless", "")


async def inject(sample: Sample, folder: Path, number: int, seed: int, figures: Figures) -> None:
    """One injection, told by its number and the seed."""
    name = f"{seed}/{number}"
    if random.Random(name).random() < STORE_SHARE:
        subsystem = random.Random(f"{name} store").choice(DISPUTE_PATH)
        inside, kinds = Path("stores") / subsystem, STORE_KINDS
    else:
        subsystem, inside, kinds = "", Path(), NODE_KINDS

    def spoiled(what: Path) -> tuple[Path, Damage]:
        """A copy of `what` of the folder, with the damage done; the same each time."""
        data = folder / "data"
        shutil.rmtree(data, ignore_errors=True)
        shutil.copytree(sample.folder / what, data / what)
        return data, damage(data / inside, kinds, random.Random(f"{name} fault"))

    judged = None
    if subsystem:
        data, done = spoiled(inside)
        judged = judged_store(sample, data, subsystem)
    if judged is None:
        data, done = spoiled(Path())
        figures.nodes_started += 1
        judged = await judged_node(sample, data)
    figures.add(done, judged, f"--seed {seed} --only {number}: {subsystem}")


async def injections(folder: Path, numbers: list[int], seed: int) -> Figures:
    figures = Figures()
    began = time.monotonic()
    sample = await prepared(folder / "sample")
    for number in numbers:
        await inject(sample, folder, number, seed, figures)
        if figures.injections % 50 == 0:
            print(f"{figures.injections} of {len(numbers)}: {dict(Counter(figures.outcomes))}", file=sys.stderr, flush=True)
    figures.seconds = round(time.monotonic() - began, 1)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description="Spoil files of a node's folder, one at a time, and judge what it makes of each.")
    parser.add_argument("--injections", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="the injection of this number alone")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    numbers = list(range(given.injections)) if given.only is None else [given.only]
    with tempfile.TemporaryDirectory(prefix="overseer-damage-", ignore_cleanup_errors=True) as folder:
        figures = anyio.run(injections, Path(folder), numbers, given.seed)
    show(figures, as_json=given.json)
    return 1 if figures.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
