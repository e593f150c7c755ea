"""Commands that talk to the subsystems: `send`, `query`."""

from pathlib import Path
from secrets import token_hex
from typing import Annotated

import typer

from messages.message import Kind, Message
from messages.overseer import CommandOutcome
from overseer.cli import common
from overseer.cli.common import ConfigFile, DataDir, Json, NatsUrl, NodeName, find_message, load_settings, parse_body, print_json, run_async
from overseer.nats.connection import Unanswered
from overseer.node.catalogue import build_subsystems
from overseer.runner.endpoints import outcome_plain

__all__ = ["query", "send"]

Body = Annotated[str, typer.Argument(help="JSON, `@file`, or `-` for stdin (JSON or CBOR). Byte strings are 0x-hex.")]


def send(
    message: Annotated[str, typer.Argument(help="The command's name, e.g. register_vote.")],
    body: Body = "{}",
    config: ConfigFile = None,
    data_dir: DataDir = None,
    node: NodeName = None,
    nats: NatsUrl = None,
    id: Annotated[str, typer.Option("--id", help="Command id: a retry with the same id has one effect.")] = "",
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Only put it into the stream; do not wait for the outcome.")] = False,
    json: Json = False,
) -> None:
    """Inject a command and wait for its outcome (after the subsystem's synced commit)."""
    loaded = load_settings(config, data_dir, node, nats)
    spec = find_message(message, Kind.COMMAND)
    command = parse_body(spec, body)
    awaitable = any(type(command) in s.declaration.requests for s in build_subsystems(loaded).values())

    command_id = id or token_hex(16)

    async def main() -> CommandOutcome | int:
        async with common.running_client(loaded) as client:
            if no_wait or not awaitable:
                return await client.inject(command, command_id=id)
            try:
                return await client.request(command, command_id=command_id)
            except Unanswered as error:
                common.fail(
                    f"No outcome came: {error}.", f"It may have been taken all the same: to learn, send it again with --id {command_id}."
                )

    outcome = run_async(main)
    shown: object = {"status": "stored", "sequence": outcome} if isinstance(outcome, int) else outcome_plain(spec, outcome)
    _show(shown, json)


def query(
    message: Annotated[str, typer.Argument(help="The query's name, e.g. best or query_votes.")],
    body: Body = "{}",
    config: ConfigFile = None,
    data_dir: DataDir = None,
    node: NodeName = None,
    nats: NatsUrl = None,
    until: Annotated[
        str, typer.Option("--until", help="Ask the state of a past moment, rebuilt from the journal: 25, votes_db:120, 14:05, 5m ago.")
    ] = "",
    past: Annotated[
        Path | None, typer.Option("--past", help="Ask a past that was kept by `replay --into`, in this folder.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Ask a subsystem, e.g. `overseer query is_blacklisted '{"hash": "0x..."}'`; with --until or --past, as it was."""
    if until or past is not None:
        from overseer.cli.past import answer_of_the_past

        asked = parse_body(find_message(message, Kind.QUERY), body)
        _show(common.plain_message(answer_of_the_past(config, data_dir, asked, until=until, kept_in=past)), json)
        return
    loaded = load_settings(config, data_dir, node, nats)
    asked = parse_body(find_message(message, Kind.QUERY), body)

    async def main() -> Message:
        async with common.running_client(loaded) as client:
            return await client.query(asked)

    _show(common.plain_message(run_async(main)), json)


def _show(value: object, as_json: bool) -> None:
    if as_json:
        print_json(value)
    else:
        common.console.print_json(data=value)
