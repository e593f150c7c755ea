"""`overseer keys`: whose keys there are, whether they can be used, and new ones in their place while the node runs.

Rotation takes two steps, so that the key in the file is at every moment one that the server takes, whatever is killed: the next
key is written beside the present one and made known to the server; then it takes the file's place, and the old one is refused.
A process reads its key at every connect, so it comes back with the new one when the server ends its old connection.
"""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import anyio
import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from overseer.cli import common
from overseer.cli.common import ConfigFile, DataDir, Json, NatsUrl, NodeName, fail, load_settings, print_json, run_async, say
from overseer.nats.accounts import OVERSEER, PROVISIONER
from overseer.nats.keys import KeyFolder, Seed, UnusableKey
from overseer.node.bus import OPERATORS, READERS, RELOAD_SIGNAL, connect_as, dangers_at_the_door, node_accounts, node_users
from overseer.node.catalogue import build_sites, build_subsystems, kept_settings
from overseer.node.folder import NotRunning, NotTold, RunInfo
from overseer.ports.bus import BusDenied
from overseer.settings import Loaded
from overseer.subsystem import Declaration

__all__ = ["keys"]

# How long the server may take to put new accounts into force.
IN_FORCE_S = 10.0
_LOOK_S = 0.05
_CONNECT_MS = 5_000

keys = typer.Typer(
    name="keys",
    help="Keys of the bus: whose there are, whether they can be used, new ones in their place.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


class KeyReport(msgspec.Struct, frozen=True, kw_only=True):
    """One user's key. `problem` is "" when all is well; `taken` tells whether the server took it, None if it was not asked."""

    user: str
    account: str
    public: str
    file: str
    problem: str
    taken: bool | None = None


@keys.command(name="list", epilog=common.examples("overseer keys list", "overseer keys list --json"))
def list_keys(config: ConfigFile = None, data_dir: DataDir = None, node: NodeName = None, nats: NatsUrl = None, json: Json = False) -> None:
    """Everybody who has a key on this node: public key and file. Seeds are never shown."""
    loaded = load_settings(config, data_dir, node, nats)
    ran = kept_settings(loaded)
    _show([_report(loaded, user) for user in node_users(_declarations(ran), build_sites(ran))], json)


@keys.command(epilog=common.examples("overseer keys check", "overseer keys check --json"))
def check(config: ConfigFile = None, data_dir: DataDir = None, node: NodeName = None, nats: NatsUrl = None, json: Json = False) -> None:
    """Whether every key is there, private, and taken by the server; and whether strangers are not. Exit code 1 if not."""
    loaded = load_settings(config, data_dir, node, nats)
    ran = kept_settings(loaded)
    users = node_users(_declarations(ran), build_sites(ran))
    url = _server(loaded)

    async def main() -> tuple[list[KeyReport], list[str]]:
        reports = [await _tried(loaded, url, _report(loaded, user)) for user in users]
        return reports, [*_folder_problems(loaded, users), *(await dangers_at_the_door(loaded.config, url) if url else [])]

    reports, wrong = run_async(main)
    _show(reports, json, wrong)
    if wrong or any(report.problem for report in reports):
        raise typer.Exit(1)


@keys.command(
    epilog=common.examples(
        "overseer keys rotate votes_db",
        "overseer keys rotate --all                      (safe while the node runs)",
        "overseer keys rotate feed --nats tls://10.0.0.1:4222   (twice: before and after the server has the new accounts)",
    )
)
def rotate(
    names: Annotated[list[str] | None, typer.Argument(help="Users, as `overseer keys list` has them.", show_default=False)] = None,
    all_users: Annotated[bool, typer.Option("--all", help="Everybody's.")] = False,
    config: ConfigFile = None,
    data_dir: DataDir = None,
    node: NodeName = None,
    nats: NatsUrl = None,
    json: Json = False,
) -> None:
    """Give users new keys. Where the node runs with its own server, its processes come back with them and nothing is lost.

    A server of your own (--nats) must be given the new accounts in between: the command says when.
    """
    loaded = load_settings(config, data_dir, node, nats)
    ran = kept_settings(loaded)
    declarations, sites = _declarations(ran), build_sites(ran)
    users = _chosen(node_users(declarations, sites), names or [], all_users=all_users)
    # Missing ones are made: there is nothing to rotate then, but somebody wanted a key.
    node_accounts(loaded.config, declarations, sites)
    try:
        running = common.running_node(loaded)
    except NotTold:
        # It may be reading the keys right now.
        raise
    except NotRunning:
        running = None
    if loaded.config.nats.url or (running is not None and not running.monitor_url):
        done, next_step = run_async(lambda: _rotate_elsewhere(loaded, users))
    elif running is not None:
        run_async(lambda: _rotate_running(loaded, running, users))
        done, next_step = True, "in force: the old ones are refused"
    else:
        for user in users:
            KeyFolder(loaded.config.keys_dir).rotate(user)
        done, next_step = True, "no node is running: they come into force at the next start"
    if json:
        print_json({"users": users, "rotated": done, "next": next_step})
        return
    say(f"{'new keys for' if done else 'new keys are ready for'} {', '.join(users)}")
    say(escape(next_step))


def _chosen(known: Sequence[str], names: Sequence[str], *, all_users: bool) -> list[str]:
    if all_users == bool(names):
        fail("Whose keys?", "Name users, or give --all.")
    for name in names:
        if name not in known:
            fail(f"There is no user {name!r}.", common.near(name, known))
    return list(dict.fromkeys(names)) or list(known)


# ------------------------------------------------------------------------------------------------ rotating


async def _rotate_running(loaded: Loaded, running: RunInfo, users: Sequence[str]) -> None:
    """Prepare, reload, adopt, reload. What fails before the adoption leaves the present keys in force."""
    folder = KeyFolder(loaded.config.keys_dir)
    old = {user: folder.seed(user) for user in users}
    try:
        for user in users:
            folder.prepare(user)
        os.kill(running.pid, RELOAD_SIGNAL)
        await _until_taken(loaded, running.url, {user: folder.coming_seed(user) for user in users}, taken=True)
    except BaseException:
        for user in users:
            folder.discard(user)
        with suppress(ProcessLookupError):
            os.kill(running.pid, RELOAD_SIGNAL)
        raise
    for user in users:
        folder.adopt(user)
    os.kill(running.pid, RELOAD_SIGNAL)
    await _until_taken(loaded, running.url, old, taken=False)


async def _until_taken(loaded: Loaded, url: str, seeds: dict[str, Seed], *, taken: bool) -> None:
    """Wait until the server takes (or refuses) all these keys. Raises UserError."""
    waiting = dict(seeds)
    with anyio.move_on_after(IN_FORCE_S):
        while waiting:
            user, seed = next(iter(waiting.items()))
            if await _taken(loaded, url, user, seed) is taken:
                del waiting[user]
            else:
                await anyio.sleep(_LOOK_S)
        return
    state = "does not take the new keys" if taken else "still takes the old keys"
    fail(f"The server {state} after {IN_FORCE_S:g} s.", "See the log of `overseer run`; `overseer keys check` tells what is in force.")


async def _rotate_elsewhere(loaded: Loaded, users: Sequence[str]) -> tuple[bool, str]:
    """Of a server that is not ours: prepare; or adopt what it already takes. Tells what is to be done next."""
    folder = KeyFolder(loaded.config.keys_dir)
    url = _server(loaded)
    prepared = folder.coming(users)
    for user in users:
        folder.prepare(user)
    accounts = "put the output of `overseer provision --accounts` into the server's configuration and reload it"
    if url and all(user in prepared for user in users):
        refused = [user for user in users if not await _taken(loaded, url, user, folder.coming_seed(user))]
        if not refused:
            for user in users:
                folder.adopt(user)
            return True, f"now {accounts} once more: from then on the old ones are refused"
        return False, f"the server does not take those of {', '.join(refused)} yet: {accounts}, then give this command again"
    return False, f"now {accounts}, then give this command again"


async def _taken(loaded: Loaded, url: str, user: str, seed: Seed) -> bool:
    """Whether the server lets `user` in with this key. Raises BusUnavailable."""
    try:
        connection = await connect_as(loaded.config, url, user, wait_ms=_CONNECT_MS, seed=seed)
    except BusDenied:
        return False
    await connection.close()
    return True


# ------------------------------------------------------------------------------------------------ looking


def _declarations(loaded: Loaded) -> list[Declaration]:
    return [subsystem.declaration for subsystem in build_subsystems(loaded).values()]


def _server(loaded: Loaded) -> str:
    """Where the server is, "" when none runs that we know of."""
    try:
        return common.server_url(loaded)
    except NotRunning:
        return ""


def _kind(user: str) -> str:
    if user in (OVERSEER, PROVISIONER):
        return "the overseer itself"
    return "operator" if user in OPERATORS else "reader" if user in READERS else "subsystem"


def _report(loaded: Loaded, user: str) -> KeyReport:
    folder = KeyFolder(loaded.config.keys_dir)
    try:
        public, problem = folder.public(user), ""
        if folder.coming([user]):
            problem = f"a rotation was not finished; run: overseer keys rotate {user}"
    except UnusableKey as error:
        public, problem = "", f"{error.problem}; {error.remedy}"
    return KeyReport(user=user, account=_kind(user), public=public, file=str(folder.path(user)), problem=problem)


async def _tried(loaded: Loaded, url: str, report: KeyReport) -> KeyReport:
    if not url or not report.public:
        return report
    taken = await _taken(loaded, url, report.user, KeyFolder(loaded.config.keys_dir).seed(report.user))
    problem = report.problem or ("" if taken else "the server does not take it; see `overseer provision --accounts`")
    return msgspec.structs.replace(report, taken=taken, problem=problem)


def _folder_problems(loaded: Loaded, users: Sequence[str]) -> list[str]:
    folder = KeyFolder(loaded.config.keys_dir)
    if not folder.folder.is_dir():
        return [f"{folder.folder}: there is no such folder; start the node once, or run: overseer provision"]
    found = [f"{path}: nobody's key; remove it" for path in folder.strangers(users)]
    try:
        folder.check_folder()
    except UnusableKey as error:
        found.insert(0, str(error))
    return found


def _show(reports: Sequence[KeyReport], json: bool, wrong: Sequence[str] = ()) -> None:
    if json:
        print_json({"keys": [msgspec.to_builtins(report) for report in reports], "wrong": list(wrong)})
        return
    for text in wrong:
        say(f"[bold red]wrong:[/] {escape(text)}")
    table = Table("user", "of", "public key", "since", "state", box=None, pad_edge=False)
    for report in reports:
        state = report.problem or {None: "private", True: "private, taken by the server", False: ""}[report.taken]
        table.add_row(report.user, report.account, report.public, _since(Path(report.file)), escape(state))
    common.console.print(table)


def _since(path: Path) -> str:
    try:
        return time.strftime("%Y-%m-%d", time.localtime(path.stat().st_mtime))
    except OSError:
        return ""
