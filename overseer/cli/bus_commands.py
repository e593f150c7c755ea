"""Commands around the bus: `provision`, `nats-context`."""

from pathlib import Path
from secrets import token_hex
from typing import Annotated

import typer

from overseer.cli import common
from overseer.cli.common import ConfigFile, DataDir, Insecure, Json, NatsUrl, NodeName, load_settings, print_json, run_async, say
from overseer.nats.accounts import PROVISIONER
from overseer.nats.context import context_name, write_context
from overseer.nats.keys import KeyFolder
from overseer.nats.provision import Change
from overseer.nats.routes import BadRoute, routes_config
from overseer.nats.server import EmbeddedServer
from overseer.node.bus import connected_as, describe, embedded_server, node_accounts, provisioned, provisioner, tls_files
from overseer.node.catalogue import build_sites, build_subsystems

__all__ = ["nats_context", "provision"]


def provision(
    config: ConfigFile = None,
    data_dir: DataDir = None,
    node: NodeName = None,
    nats: NatsUrl = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    accounts: Annotated[bool, typer.Option("--accounts", help="Print the accounts part of a server's configuration, and stop.")] = False,
    described: Annotated[
        bool, typer.Option("--describe", help="Print what the other nodes of a network need of this one (network.nodes), and stop.")
    ] = False,
    routes: Annotated[
        str,
        typer.Option(
            help="host:port of the cluster port of each server, separated by commas: print the routes part of their configuration, with a "
            "new password that servers know each other by, and stop.",
            show_default=False,
        ),
    ] = "",
    delete: Annotated[bool, typer.Option("--delete", help="Also delete consumers that nobody declares any more.")] = False,
    insecure: Insecure = False,
    json: Json = False,
) -> None:
    """Make keys, streams and consumers what the subsystems declare. Idempotent; shows what it changes. `run` does it by itself.

    For a server of your own (--nats): write the output of --accounts into a file that its configuration includes, reload it,
    then provision. Nodes that share a server have a folder with the output of each one's --describe
    (network.nodes): the accounts of all follow from it. A cluster is waited for until it has elected who leads it.
    """
    if routes:
        typer.echo(_routes(routes), nl=False)
        return
    loaded = load_settings(config, data_dir, node, nats, nats__insecure=insecure or None)
    declarations = [s.declaration for s in build_subsystems(loaded).values()]
    sites = build_sites(loaded)
    if described:
        typer.echo(describe(loaded.config, declarations, sites).to_json(), nl=False)
        return
    text = node_accounts(loaded.config, declarations, sites)
    if accounts:
        typer.echo(text)
        return

    async def work(url: str, server: EmbeddedServer | None = None) -> list[Change]:
        async with connected_as(loaded.config, url, PROVISIONER) as connection:
            if dry_run:
                return await provisioner(loaded.config, connection, declarations, sites).plan()
            return await provisioned(loaded.config, connection, declarations, server, sites, delete=delete)

    async def main() -> list[Change]:
        if loaded.config.nats.url:
            return await work(loaded.config.nats.url)
        async with embedded_server(loaded.config, declarations, sites) as server:
            return await work(server.url, server)

    changes = run_async(main)
    if json:
        print_json({"dry_run": dry_run, "changes": [str(change) for change in changes]})
        return
    for change in changes:
        say(str(change).replace("[", "\\["))
    say("nothing to change" if not changes else f"{len(changes)} changes {'to make' if dry_run else 'made'}")


def _routes(addresses: str) -> str:
    """With a password that nobody has yet: given again, it is another one. Raises UserError."""
    try:
        return routes_config([each.strip() for each in addresses.split(",") if each.strip()], token_hex(32))
    except BadRoute as error:
        common.fail(f"These are no routes: {error}.", "Name the cluster port of each server, as --routes nats1:6222,nats2:6222,nats3:6222.")


def nats_context(
    config: ConfigFile = None,
    data_dir: DataDir = None,
    node: NodeName = None,
    nats: NatsUrl = None,
    user: Annotated[str, typer.Option(help="operator or reader.")] = "operator",
    folder: Annotated[Path | None, typer.Option(help="Where to write it (default: where `nats` looks).", show_default=False)] = None,
    json: Json = False,
) -> None:
    """Write a context for the stock `nats` client with the right credentials: `nats --context overseer-node ...`."""
    loaded = load_settings(config, data_dir, node, nats)
    if user not in ("operator", "reader"):
        common.fail(f"There is no user {user!r}.", "Use operator or reader.")
    keys = KeyFolder(loaded.config.keys_dir)
    keys.public(user)
    path = write_context(
        loaded.config.node,
        url=common.server_url(loaded),
        seed_file=keys.path(user),
        user=user,
        tls=tls_files(loaded.config),
        folder=folder,
    )
    name = context_name(loaded.config.node, user)
    if json:
        print_json({"context": name, "file": str(path)})
        return
    say(f"wrote {path}")
    say(f"try:  nats --context {name} sub 'overseer.>' --translate 'overseer decode'")
    say(f"      nats --context {name} micro ls")
    say(f"      nats --context {name} req overseer.{loaded.config.node}.chain_api.qry.best ''")
