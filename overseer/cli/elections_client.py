"""What the commands about elections share: the client of the running node's elections, on one site or several."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import Any, TypeVar

from messages.codec import CodecError, decode, encode
from messages.elections import OfElection
from messages.message import Message
from overseer.cli import common
from overseer.cli.common import ConfigFile, DataDir, load_settings, print_json, run_async, say
from overseer.node.catalogue import build_sites
from overseer.node.client import Client
from overseer.node.folder import NotRunning
from overseer.runner.endpoints import outcome_plain
from overseer.settings import Loaded
from overseer.sites.client import SitesClient

__all__ = ["asked", "checked", "election_sites", "elections_client", "request"]

M = TypeVar("M", bound=Message)


def checked(message: OfElection) -> OfElection:
    """A message made of arguments is checked as one off the wire is."""
    try:
        decode(message.spec, encode(message))
    except CodecError as error:
        common.fail(f"This is no {message.spec.name}: {error.detail}", "See --help; keys are like mayor-2026.")
    return message


@asynccontextmanager
async def elections_client(loaded: Loaded) -> AsyncGenerator[Client | SitesClient, None]:
    """Of the elections of the running node, on one site or several."""
    async with common.running_client(loaded) as client:
        sites = election_sites(loaded)
        yield SitesClient(client.connection, client.node, sites) if sites else client


def election_sites(loaded: Loaded) -> tuple[str, ...]:
    """Those that the running node has; else those of the configuration."""
    try:
        return common.running_node(loaded).sites
    except NotRunning:
        return build_sites(loaded).names


async def asked(client: Client | SitesClient, query: OfElection, kind: type[M]) -> M:
    """The reply, which is of that type. Raises Refused, BusError."""
    answer = await client.query(checked(query))
    assert isinstance(answer, kind)
    return answer


def request(command: OfElection, config: ConfigFile, data_dir: DataDir, id: str, as_json: bool) -> None:
    """Send it, wait for the outcome, say it."""
    loaded = load_settings(config, data_dir)
    checked(command)

    async def main() -> dict[str, Any]:
        async with elections_client(loaded) as client:
            return outcome_plain(command.spec, await client.request(command, command_id=id or token_hex(16)))

    outcome = run_async(main)
    if as_json:
        print_json(outcome)
    else:
        say(f"{command.spec.name}: event {outcome['reply']['sequence']} of {command.election}")
