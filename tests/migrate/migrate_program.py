"""Migrates a store and is killed at one of its steps: `python migrate_program.py DATA_DIR STEP`. Prints each step that it passes.

A step is before and after everything that changes the disk: copying, opening, the commit, putting in place and its renames.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio

import overseer.node.migrate as migrating
import overseer.rocks.repair as placing
from overseer.cli.common import load_settings
from overseer.rocks.store import RocksStore

passed = 0


def step(name: str) -> None:
    global passed
    passed += 1
    print(passed, name, flush=True)
    if passed == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)


def watched(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    def each(*arguments: Any, **options: Any) -> Any:
        step(f"before {name}")
        result = call(*arguments, **options)
        step(f"after {name}")
        return result

    return each


async def committed(self: RocksStore, writes: Any) -> None:
    step("before commit")
    await commit(self, writes)
    step("after commit")


commit = RocksStore.commit
RocksStore.commit = committed  # type: ignore[method-assign]
migrating.copied_store = watched("copy", migrating.copied_store)
migrating.put_in_place = watched("placing", migrating.put_in_place)
placing.sync_tree = watched("sync", placing.sync_tree)
placing._exchanged = watched("exchange", placing._exchanged)  # pyright: ignore[reportPrivateUsage]
Path.rename = watched("rename", Path.rename)  # type: ignore[method-assign]

loaded = load_settings(data_dir=Path(sys.argv[1]), node="node")
anyio.run(lambda: migrating.migrate(loaded, ["elections"], dry_run=False))
