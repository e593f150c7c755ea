"""`overseer gateway ...`: queues of requests, the gateways that are elected to process them, and what an off-chain client does."""

from collections.abc import AsyncIterator
from pathlib import Path
from secrets import token_hex
from typing import Annotated, Any

import typer
from blake3 import blake3
from rich.table import Table

from messages.gateway_queries import (
    ActiveRequests,
    AssignedRequest,
    AssignedRequestPage,
    AssignedRequests,
    ExecutionPage,
    ExecutionResults,
    GatewayPage,
    GatewayReport,
    GetQueue,
    ListGateways,
    QueuedRequest,
    QueueReport,
    RequestPage,
    Results,
    ResultsPage,
)
from messages.gateways import Bond, DeclareGateway, OpenQueue, RedistributeStake, Standing, SubmitRequest, Unbond
from messages.polkadot import Scheme
from overseer.cli import common
from overseer.cli.common import ConfigFile, DataDir, Json, examples, load_settings, plain_message, print_json, run_async, say
from overseer.cli.elections_client import asked, checked, elections_client, request
from overseer.feeds.gateway import gateway_key, make_proof
from overseer.feeds.keyring import Key, KeyFileError, Keyring
from overseer.node.client import Client
from overseer.recommending import Recommendation, recommend
from overseer.sites.client import SitesClient

__all__ = ["gateway"]

gateway = typer.Typer(
    help="Gateway elections: queues, requests, stakes, votes, proofs.\n\nA gateway is its public key (0x-hex), or a name: that of a "
    "development key, which anybody can make.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Queue = Annotated[str, typer.Argument(help="The queue's name, as ingestion or ejection.")]
Gateway = Annotated[str, typer.Argument(help="The gateway: a public key (0x-hex), or the name of a development key.")]
Request = Annotated[str, typer.Argument(help="The request's id (0x-hex).")]
Amount = Annotated[int, typer.Argument(help="Stake, in the smallest unit.")]
Content = Annotated[Path, typer.Option("--content", help="The file with the request's content.")]
CommandId = Annotated[str, typer.Option("--id", help="Command id: a retry with the same id has one effect.")]
KeyFile = Annotated[
    Path | None, typer.Option("--key", help="A key file whose first key signs (overseer make validator).", show_default=False)
]


# ------------------------------------------------------------------------------------------------ keys and content


def _account(text: str) -> bytes:
    return _hash(text, "gateway") if text.startswith("0x") else gateway_key(text).public


def _signing_key(text: str, file: Path | None) -> Key:
    """The gateway's secret key. That of a file has to be the gateway named."""
    if file is None:
        if text.startswith("0x"):
            common.fail("A public key cannot sign.", "Name the file with the secret key: --key FILE.")
        return gateway_key(text)
    try:
        key = next(iter(Keyring.from_json(file.read_bytes())))
    except (OSError, KeyFileError, StopIteration) as error:
        common.fail(f"{file} is no key file: {error}", "Make one with `overseer make validator --count 1 > key.json`")
    if text.startswith("0x") and key.public != _account(text):
        common.fail(f"The first key of {file} is 0x{key.public.hex()}, not {text}.", "Name the file of that gateway's key.")
    return key


def _hash(text: str, what: str) -> bytes:
    try:
        data = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        data = b""
    if len(data) != 32:
        common.fail(f"The {what} {text!r} is not 32 bytes.", "Write 64 hexadecimal digits behind 0x.")
    return data


def _read(content: Path) -> tuple[bytes, int]:
    """The content id (BLAKE3), and the size."""
    data = content.read_bytes()
    return blake3(data).digest(), len(data)


# ------------------------------------------------------------------------------------------------ commands


@gateway.command(
    "open",
    epilog=examples("overseer gateway open ingestion", "overseer gateway open ejection --collect 20 --vote 10 --origin 1000"),
)
def open_queue(
    queue: Queue,
    collect: Annotated[int | None, typer.Option(help="Blocks of a round in which requests are collected (L).", show_default=False)] = None,
    vote: Annotated[int | None, typer.Option(help="Blocks between cut and close (M).", show_default=False)] = None,
    window: Annotated[int | None, typer.Option(help="Of them, blocks in which votes are taken (N).", show_default=False)] = None,
    origin: Annotated[int | None, typer.Option(help="The block at which counting starts.", show_default=False)] = None,
    winners: Annotated[int | None, typer.Option(help="Winners of one request.", show_default=False)] = None,
    id: CommandId = "",
    config: ConfigFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Begin the elections of a queue; what is left out is as the node is configured."""
    command = OpenQueue(election=queue, collect_blocks=collect, vote_blocks=vote, window_blocks=window, origin=origin, winners_max=winners)
    request(command, config, data_dir, id, json)


@gateway.command(epilog=examples("overseer gateway submit ingestion --content photo.jpg --balance 500"))
def submit(
    queue: Queue,
    content: Content,
    balance: Annotated[int, typer.Option(help="Reserved for its execution; given back when it expires.")] = 0,
    account: Annotated[str, typer.Option(help="Whose balance: a key (0x-hex), or a name.")] = "owner",
    as_request: Annotated[
        str | None, typer.Option("--request", help="The request's id (default: its content's).", show_default=False)
    ] = None,
    id: CommandId = "",
    config: ConfigFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Submit a request: the open queue takes it at any time."""
    digest, size = _read(content)
    identity = digest if as_request is None else _hash(as_request, "request")
    command = SubmitRequest(election=queue, request=identity, content=digest, size=size, account=_account(account), balance=balance)
    request(command, config, data_dir, id, json)
    if not json:
        say(f"request 0x{identity.hex()}, {size} bytes")


@gateway.command(epilog=examples("overseer gateway bond ingestion alice 1000"))
def bond(
    queue: Queue,
    name: Gateway,
    amount: Amount,
    id: CommandId = "",
    config: ConfigFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Add to a gateway's stake."""
    request(Bond(election=queue, gateway=_account(name), amount=amount), config, data_dir, id, json)


@gateway.command(epilog=examples("overseer gateway unbond ingestion alice 400"))
def unbond(
    queue: Queue,
    name: Gateway,
    amount: Amount,
    id: CommandId = "",
    config: ConfigFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Take from a gateway's stake: what a ballot or an assignment needs leaves later."""
    request(Unbond(election=queue, gateway=_account(name), amount=amount), config, data_dir, id, json)


@gateway.command(epilog=examples("overseer gateway declare ingestion alice", "overseer gateway declare ingestion alice --paused"))
def declare(
    queue: Queue,
    name: Gateway,
    paused: Annotated[bool, typer.Option("--paused", help="It takes no part until it is declared again.")] = False,
    key: KeyFile = None,
    id: CommandId = "",
    config: ConfigFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """A gateway offers its services, or pauses. A public key alone is taken to be sr25519."""
    known = None if name.startswith("0x") and key is None else _signing_key(name, key)
    scheme = Scheme.SR25519 if known is None else known.scheme
    account = _account(name) if known is None else known.public
    request(DeclareGateway(election=queue, gateway=account, scheme=scheme, paused=paused), config, data_dir, id, json)


@gateway.command(epilog=examples("overseer gateway vote ingestion alice 0x5d... 70", "overseer gateway vote ingestion alice 0x5d... 0"))
def vote(
    queue: Queue,
    name: Gateway,
    item: Request,
    amount: Amount,
    id: CommandId = "",
    config: ConfigFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Give a request of the ballot a weight; the last one counts, 0 withdraws it."""
    loaded = load_settings(config, data_dir)

    async def present() -> int:
        async with elections_client(loaded) as client:
            return (await asked(client, ActiveRequests(election=queue, limit=1), RequestPage)).round or 0

    command = RedistributeStake(
        election=queue, round=run_async(present), gateway=_account(name), item=_hash(item, "request"), amount=amount
    )
    request(command, config, data_dir, id, json)


@gateway.command(
    "recommend",
    epilog=examples(
        "overseer gateway recommend ingestion alice --capacity 1000000",
        "overseer gateway recommend ingestion alice --capacity 1000000 --vote",
    ),
)
def recommended(
    queue: Queue,
    name: Gateway,
    capacity: Annotated[int, typer.Option(help="The gateway's free capacity, in bytes.")],
    cast: Annotated[bool, typer.Option("--vote", help="Give these weights as well.")] = False,
    config: ConfigFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """The recommended stake redistribution: what fits, by reserved balance."""
    loaded = load_settings(config, data_dir)

    async def main() -> tuple[int | None, list[Recommendation]]:
        async with elections_client(loaded) as client:
            row = await _report(client, queue, name)
            ballot = [each async for each in _ballot(client, queue)]
            found = recommend(ballot, capacity_bytes=capacity, stake=row.snapshot if row is not None else 0)
            round = (await asked(client, ActiveRequests(election=queue, limit=1), RequestPage)).round
            for each in found if cast and round is not None else ():
                command = RedistributeStake(election=queue, round=round or 0, gateway=_account(name), item=each.request, amount=each.amount)
                await client.request(checked(command), command_id=token_hex(16))
            return round, found

    round, found = run_async(main)
    if json:
        votes = [{"request": f"0x{each.request.hex()}", "amount": each.amount} for each in found]
        print_json({"queue": queue, "round": round, "votes": votes, "cast": cast})
        return
    if not found:
        say("nothing to vote for: no ballot, no stake in it, or nothing fits")
    for each in found:
        say(f"0x{each.request.hex()}  {each.amount}")


@gateway.command(epilog=examples("overseer gateway prove ingestion alice 0x5d... --content photo.jpg"))
def prove(
    queue: Queue,
    name: Gateway,
    item: Request,
    content: Content,
    key: KeyFile = None,
    id: CommandId = "",
    config: ConfigFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Prove that the gateway processed a request that it holds: signed, with the content's digest and size."""
    loaded = load_settings(config, data_dir)
    signer, identity = _signing_key(name, key), _hash(item, "request")
    digest, size = _read(content)

    async def round_of() -> int:
        async with elections_client(loaded) as client:
            async for each in _assigned(client, queue):
                if each.request == identity:
                    return each.round
        return 0

    round = run_async(round_of)
    request(make_proof(signer, queue, round=round, request=identity, content=digest, size=size), config, data_dir, id, json)


# ------------------------------------------------------------------------------------------------ looking


@gateway.command(epilog=examples("overseer gateway results ingestion", "overseer gateway results ingestion 3 --json"))
def results(
    queue: Queue,
    round: Annotated[int | None, typer.Argument(help="The round (default: the last one that stands).", show_default=False)] = None,
    config: ConfigFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Winners and alternates of a round, and what was executed. The first 500 requests."""
    loaded = load_settings(config, data_dir)

    async def main() -> tuple[ResultsPage, ExecutionPage]:
        async with elections_client(loaded) as client:
            wanted = round if round is not None else (await asked(client, GetQueue(election=queue), QueueReport)).round or 0
            found = await asked(client, Results(election=queue, round=wanted), ResultsPage)
            return found, await asked(client, ExecutionResults(election=queue, round=wanted), ExecutionPage)

    found, done = run_async(main)
    if json:
        print_json({"results": plain_message(found), "executions": plain_message(done)})
        return
    close = f", closed at {found.close.number}" if found.close is not None else ""
    say(f"{queue}, round {found.round}: {found.phase.value}, cut at {found.cut.number}{close}")
    table = Table("request", "outcome", "winners", "alternates", "executed by", box=None, pad_edge=False)
    for row, execution in zip(found.results, done.executions, strict=False):
        by = "" if execution.executor is None else _short(execution.executor) + (" (revoked)" if execution.revoked else "")
        table.add_row(_short(row.request), row.outcome.value, _standings(row.winners), _standings(row.alternates), by)
    common.console.print(table)


def _short(data: bytes) -> str:
    return f"0x{data.hex()[:16]}"


def _standings(standings: list[Standing]) -> str:
    shown = ", ".join(f"{_short(each.gateway)} {each.weight}" for each in standings[:3])
    return shown + (f" and {len(standings) - 3} more" if len(standings) > 3 else "")


@gateway.command(epilog=examples("overseer gateway show ingestion", "overseer gateway show ingestion --json"))
def show(queue: Queue, config: ConfigFile = None, data_dir: DataDir = None, json: Json = False) -> None:
    """Where a queue is, and its gateways with their stakes."""
    loaded = load_settings(config, data_dir)

    async def main() -> tuple[QueueReport, list[GatewayReport]]:
        async with elections_client(loaded) as client:
            return await asked(client, GetQueue(election=queue), QueueReport), [row async for row in _reports(client, queue)]

    report, rows = run_async(main)
    if json:
        print_json({"queue": plain_message(report), "gateways": [_plain(row) for row in rows]})
        return
    phase = "no ballot yet" if report.phase is None else f"round {report.round} {report.phase.value}"
    taken = "votes are taken" if report.voting else "no votes now"
    say(
        f"{queue} at height {report.height}: {phase}, {taken}; {report.waiting} requests wait, new ones belong to round {report.collecting}"
    )
    table = Table("gateway", "bonded", "free", "redistributed", "held", "unbonding", "state", box=None, pad_edge=False)
    for row in rows:
        state = "paused" if row.paused else "declared" if row.declared else "not declared"
        table.add_row(_short(row.gateway), *map(str, (row.bonded, row.free, row.redistributed, row.held, row.unbonding)), state)
    common.console.print(table)


def _plain(row: GatewayReport) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in row.__struct_fields__}
    return {**values, "gateway": f"0x{row.gateway.hex()}", "scheme": row.scheme.value}


# ------------------------------------------------------------------------------------------------ pages


async def _report(client: Client | SitesClient, queue: str, name: str) -> GatewayReport | None:
    account = _account(name)
    return next((row for row in [row async for row in _reports(client, queue)] if row.gateway == account), None)


async def _reports(client: Client | SitesClient, queue: str) -> AsyncIterator[GatewayReport]:
    after, more = b"", True
    while more:
        page = await asked(client, ListGateways(election=queue, after=after), GatewayPage)
        for row in page.gateways:
            yield row
            after = row.gateway
        more = page.more


async def _ballot(client: Client | SitesClient, queue: str) -> AsyncIterator[QueuedRequest]:
    after: int | None = 0
    while after is not None:
        page = await asked(client, ActiveRequests(election=queue, after=after), RequestPage)
        for row in page.requests:
            yield row
        after = page.next


async def _assigned(client: Client | SitesClient, queue: str) -> AsyncIterator[AssignedRequest]:
    deadline, after, more = 0, 0, True
    while more:
        page = await asked(client, AssignedRequests(election=queue, after_deadline=deadline, after=after), AssignedRequestPage)
        for row in page.requests:
            yield row
            deadline, after = row.deadline, row.arrival
        more = page.more
