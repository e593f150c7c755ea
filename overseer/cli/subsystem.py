"""`overseer subsystem NAME`: one subsystem as a process of its own; started by the overseer, a container, or by hand."""

import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from overseer.failures import lone
from overseer.node.catalogue import CATALOGUE, SECTIONS, build_elections, build_sites, build_subsystem
from overseer.node.hosting import UNMENDABLE, serve_subsystem
from overseer.observe.logs import configure_logs, logger
from overseer.runner.observer import Step
from overseer.settings import ConfigError, load_config
from overseer.sites.layout import UnknownLayout
from overseer.sites.watching import WrongTopology
from overseer.supervise.parent import die_with_parent
from overseer.supervise.policy import EXIT_FATAL
from overseer.supervise.pulse import NoPulse, own_pulse
from overseer.supervise.stopping import StopRequest, watch_signals

if TYPE_CHECKING:
    from overseer.sites.process import SiteKill

__all__ = ["KILL_AT", "subsystem_main"]

# For the crash tests: "<subsystem> <step> <count> <file> <kills>", several separated by ";". SIGKILL to ourselves when that step
# is passed for the count-th time in this process, until the file holds a byte for each of so many kills (1 when left out).
# A count such as "1-8" is another one in each process, in turn.
KILL_AT = "OVERSEER_TEST_KILL_AT"


def subsystem_main(name: str, file: Path | None = None, flags: Mapping[str, object] | None = None) -> int:
    """Run the subsystem to its end; returns the exit code. `flags` by key, as `load_config` takes them."""
    die_with_parent()
    pulse = own_pulse()
    try:
        loaded = load_config(file, environ=os.environ, flags=flags, sections=SECTIONS)
        sites = build_sites(loaded)
    except (ConfigError, UnknownLayout) as error:
        print(f"overseer subsystem: {error}", file=sys.stderr)
        return EXIT_FATAL
    site = sites.named(name)
    if site is None and name not in CATALOGUE:
        print(f"overseer subsystem: there is no subsystem {name!r}; there are: {', '.join((*CATALOGUE, *sites.users))}", file=sys.stderr)
        return 2
    if not loaded.config.nats.url:
        print(
            "overseer subsystem: needs a server: give --nats URL, or set OVERSEER_NATS_URL (`overseer run` starts everything)",
            file=sys.stderr,
        )
        return 2
    run_id = os.environ.get("OVERSEER_RUN_ID", "")
    configure_logs(loaded.config.log, run_id=run_id, node=loaded.config.node)

    async def main() -> None:
        stop = StopRequest()
        async with anyio.create_task_group() as tasks:
            await tasks.start(watch_signals, stop)
            url = loaded.config.nats.url
            # A supervised one is asked through its supervisor, which has the configured address itself.
            http = loaded.config.http if isinstance(pulse, NoPulse) else None
            if site is not None:
                from overseer.sites.process import serve_site

                elections, kill = build_elections(loaded), _kill_at_commit(name)
                await serve_site(site, sites, elections, loaded.config, url=url, pulse=pulse, stop=stop, http=http, kill=kill)
            else:
                subsystem = build_subsystem(name, loaded)
                await serve_subsystem(
                    subsystem,
                    loaded.config,
                    url=url,
                    run_id=run_id,
                    pulse=pulse,
                    stop=stop,
                    http=http,
                    kill_at=_kill_at(name),
                    chore=CATALOGUE[name].chore(subsystem),
                )
            tasks.cancel_scope.cancel()

    try:
        anyio.run(main)
    except BaseException as error:
        return _report(name, error)
    return 0


def _report(name: str, error: BaseException) -> int:
    """Name what ended us, as the last words on stderr; the traceback only when it is a defect of ours."""
    cause = lone(error)
    if isinstance(cause, KeyboardInterrupt):
        return 130
    fatal = isinstance(cause, (*UNMENDABLE, WrongTopology))
    logger(name).error("ended", error=f"{type(cause).__name__}: {cause}", fatal=fatal, exc_info=None if fatal else error)
    print(f"{name}: {type(cause).__name__}: {cause}", file=sys.stderr)
    return EXIT_FATAL if fatal else 1


def _kill_at(name: str) -> Callable[[Step], None] | None:
    for switch in os.environ.get(KILL_AT, "").split(";"):
        match switch.split():
            case [wanted, step, count, file, *kills] if wanted == name:
                done = Path(file).stat().st_size if Path(file).exists() else 0
                first, _, last = count.partition("-")
                turn = int(first) + done % (int(last or first) - int(first) + 1)
                return _killer(Step(step), turn, Path(file)) if done < int(kills[0] if kills else 1) else None
            case _:
                continue
    return None


def _kill_at_commit(name: str) -> "SiteKill | None":
    """Of a site: `<site's process> committed <count> <file>`, when the log has taken an entry of its and nobody knows yet."""
    kill = _kill_at(name)
    return None if kill is None else lambda: kill(Step.COMMITTED)


def _killer(wanted: Step, left: int, file: Path) -> Callable[[Step], None]:
    def kill(step: Step) -> None:
        nonlocal left
        if step is wanted:
            left -= 1
            if left == 0:
                with file.open("ab") as counter:
                    counter.write(b"x")
                os.kill(os.getpid(), signal.SIGKILL)

    return kill
