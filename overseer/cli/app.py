"""The commands, put together. Each lives in a module of its own kind; this one only lists them."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from overseer.cli import common
from overseer.cli.backup import backup, restore
from overseer.cli.bench import bench
from overseer.cli.bus_commands import nats_context, provision
from overseer.cli.common import examples
from overseer.cli.contract import contract
from overseer.cli.demo import demo
from overseer.cli.doctor import doctor
from overseer.cli.domain import dispute, governance
from overseer.cli.election import election
from overseer.cli.explain import explain
from overseer.cli.feed import feed
from overseer.cli.gateway import gateway
from overseer.cli.inspect import graph, verify
from overseer.cli.journal import journal
from overseer.cli.keys import keys
from overseer.cli.looking import status, top
from overseer.cli.making import make
from overseer.cli.migrate import migrate
from overseer.cli.node_commands import config, run
from overseer.cli.past import diff, replay
from overseer.cli.peers import peers
from overseer.cli.repair import repair
from overseer.cli.simulate import simulate
from overseer.cli.talk import query, send
from overseer.cli.testnet import run_testnet, verify_epochs

__all__ = ["app", "run_app"]

app = typer.Typer(
    name="overseer",
    help="Event-sourced subsystems under an overseer: typed CBOR on NATS, persisted to RocksDB, replayable.\n\n"
    "Start with [bold]overseer demo[/], or run a node with [bold]overseer run[/] and talk to it from another terminal.",
    rich_markup_mode="rich",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# As shells have it: 128 + SIGINT, 128 + SIGPIPE.
INTERRUPTED = 130
READER_GONE = 141

RUNNING = "Running a node"
TALKING = "Talking to it"
LOOKING = "Looking into it"
MAKING = "Making things"

app.command(
    rich_help_panel=RUNNING,
    epilog=examples(
        "overseer demo", "overseer demo --validators 20 --json", "overseer demo --stay     (and look at it from another terminal)"
    ),
)(demo)
app.command(
    rich_help_panel=RUNNING,
    epilog=examples(
        "overseer run                                    (a development chain, in ./overseer-data)",
        "overseer run --feed blocks.jsonl --data-dir /var/lib/overseer",
        "overseer run --feed substrate --config overseer.toml    (feed.url, genesis: see overseer feed check)",
        "overseer run --nats tls://10.0.0.1:4222 --node alpha",
        "OVERSEER_FEED_INTERVAL_MS=500 overseer run      (any setting of `overseer config`)",
    ),
)(run)
app.command(
    name="testnet",
    rich_help_panel=RUNNING,
    epilog=examples(
        "overseer testnet                                (four nodes in ./overseer-testnet)",
        "overseer testnet --nodes 7 --interval-ms 500 --epoch-blocks 12",
        "overseer query consensus_manager.epoch --data-dir overseer-testnet/n1",
    ),
)(run_testnet)
app.command(
    name="verify-epochs",
    rich_help_panel=LOOKING,
    epilog=examples("overseer verify-epochs --data-dir overseer-testnet/n1", "overseer verify-epochs --data-dir n2 --json"),
)(verify_epochs)
app.command(
    rich_help_panel=RUNNING,
    epilog=examples(
        "overseer provision --accounts > accounts.conf   (include it in the server's configuration)",
        "overseer provision --nats tls://10.0.0.1:4222 --dry-run",
        "overseer provision --node alpha --describe > nodes/alpha.json   (for every node of the network)",
        "overseer provision --routes nats1:6222,nats2:6222,nats3:6222 > routes.conf   (include it in their cluster blocks)",
    ),
)(provision)
app.command(
    rich_help_panel=RUNNING, epilog=examples("overseer config", "overseer config --example > overseer.toml", "overseer config --json")
)(config)
app.command(
    rich_help_panel=RUNNING,
    epilog=examples("overseer nats-context", "nats --context overseer-node sub 'overseer.>' --translate 'overseer decode'"),
)(nats_context)
app.command(
    rich_help_panel=RUNNING,
    epilog=examples(
        "overseer repair votes_db --from /backup/overseer-data",
        "overseer repair votes_db --from overseer-data/stores/votes_db/checkpoints/00000000000000200000",
        "overseer repair votes_db --replay --dry-run",
        "overseer repair nats                            (the embedded server's streams, from the stores)",
    ),
)(repair)
app.command(
    rich_help_panel=RUNNING,
    epilog=examples(
        "overseer backup /backup/2026-11-22              (of a running node too; a new folder)",
        "overseer backup --check /backup/2026-11-22",
        "overseer restore /backup/2026-11-22 --data-dir /var/lib/overseer",
    ),
)(backup)
app.command(
    rich_help_panel=RUNNING,
    epilog=examples(
        "overseer restore /backup/2026-11-22 --data-dir /var/lib/overseer",
        "overseer run --data-dir /var/lib/overseer --config /var/lib/overseer/settings.toml",
    ),
)(restore)
app.command(
    rich_help_panel=RUNNING,
    epilog=examples("overseer migrate --dry-run", "overseer migrate", "overseer migrate elections --dry-run --json"),
)(migrate)
app.command(
    rich_help_panel=LOOKING, epilog=examples("overseer status", "overseer status --json", "overseer status --data-dir /var/lib/overseer")
)(status)
app.command(rich_help_panel=LOOKING, epilog=examples("overseer top", "overseer top --interval 0.5", "overseer top --once"))(top)
app.command(
    rich_help_panel=LOOKING, epilog=examples("overseer doctor", "overseer doctor --data-dir /var/lib/overseer", "overseer doctor --json")
)(doctor)
app.command(
    rich_help_panel=LOOKING,
    epilog=examples(
        "overseer journal votes_db --limit 10",
        "overseer journal chain_api --event blacklist_recorded",
        "overseer journal votes_db --cause 25            (what the message at 25 of the stream led to)",
        "overseer journal --follow                       (all subsystems, as they record)",
        "overseer journal dispute_conclusion --follow --json",
    ),
)(journal)
app.command(rich_help_panel=LOOKING, epilog=examples("overseer verify", "overseer verify votes_db --json"))(verify)
app.add_typer(explain, name="explain", rich_help_panel=LOOKING)
app.command(
    rich_help_panel=LOOKING,
    epilog=examples(
        "overseer replay --until 25                      (all subsystems, as of message 25 of the stream)",
        'overseer replay --until "5m ago" --into then    (kept; ask it: overseer query best --past then)',
        "overseer replay --until votes_db:120 --json",
    ),
)(replay)
app.command(
    rich_help_panel=LOOKING,
    context_settings={"ignore_unknown_options": True},
    epilog=examples(
        "overseer diff 25 40                             (between two positions of the stream)",
        "overseer diff 5m chain_api                      (in the last five minutes)",
        "overseer diff votes_db:120 votes_db:121 --json",
    ),
)(diff)
app.command(
    rich_help_panel=LOOKING,
    epilog=examples("overseer graph > graph.mmd", "overseer graph --dot | dot -Tsvg > graph.svg", "overseer graph --check"),
)(graph)
app.command(
    rich_help_panel=LOOKING,
    epilog=examples(
        "overseer contract --asyncapi > asyncapi.json",
        "overseer contract --cddl > messages.cddl",
        "overseer contract --json-schema register_vote",
    ),
)(contract)
app.command(
    rich_help_panel=LOOKING,
    epilog=examples("overseer bench --quick", "overseer bench votes_bundled cascade --json"),
)(bench)
app.add_typer(election, name="election", rich_help_panel=TALKING)
app.add_typer(feed, name="feed", rich_help_panel=LOOKING)
app.add_typer(gateway, name="gateway", rich_help_panel=TALKING)
app.add_typer(peers, name="peers", rich_help_panel=LOOKING)
app.add_typer(keys, name="keys", rich_help_panel=RUNNING)
app.command(
    rich_help_panel=LOOKING,
    epilog=examples(
        "overseer simulate --seeds 200 --jobs 2",
        "overseer simulate --seeds 10000 --from 1 --json",
        "overseer simulate --seed 17                     (one alone, with the end of its trace)",
    ),
)(simulate)
app.add_typer(dispute, name="dispute", rich_help_panel=LOOKING)
app.add_typer(governance, name="governance", rich_help_panel=TALKING)
app.add_typer(make, name="make", rich_help_panel=MAKING)
app.command(
    rich_help_panel=TALKING,
    epilog=examples(
        "overseer make bundle --valid 0-6 --invalid 7 | overseer send register_vote -",
        "overseer send import_block @block.json",
        'overseer send finalize_block \'{"hash": "0x..."}\' --id once    (again with this id: the same outcome, no second effect)',
        "overseer send register_vote @vote.json --no-wait",
    ),
)(send)
app.command(
    rich_help_panel=TALKING,
    epilog=examples(
        "overseer query best",
        'overseer query query_votes \'{"session": 1, "candidate": "0x..."}\'',
        'overseer query is_blacklisted \'{"hash": "0x..."}\' --json',
        'overseer query best --until "5m ago"            (as it was; see `overseer replay`)',
    ),
)(query)


@app.command(
    rich_help_panel=RUNNING,
    epilog=examples(
        "overseer subsystem votes_db --nats tls://nats:4222 --data-dir /data",
        "OVERSEER_NATS_URL=tls://nats:4222 overseer subsystem votes_db",
    ),
)
def subsystem(
    name: Annotated[str, typer.Argument(help="votes_db, dispute_conclusion, chain_api, elections or consensus_manager.")],
    config: common.ConfigFile = None,
    data_dir: common.DataDir = None,
    node: common.NodeName = None,
    nats: Annotated[str | None, typer.Option("--nats", help="The provisioned NATS server.", show_default=False)] = None,
    insecure: common.Insecure = False,
) -> None:
    """Run one subsystem as this process (what `run` starts for each; containers start it directly).

    The server must be provisioned (`overseer provision`), and the keys be in the node's folder. SIGTERM ends it in order.
    """
    from overseer.cli.subsystem import subsystem_main

    raise typer.Exit(
        subsystem_main(name, config, {"data_dir": data_dir, "node": node, "nats.url": nats, "nats.insecure": insecure or None})
    )


@app.command(
    rich_help_panel=TALKING,
    epilog=examples(
        "nats --context overseer-node sub 'overseer.>' --translate 'overseer decode'", "overseer encode best | overseer decode"
    ),
)
def decode() -> None:
    """Filter: one CBOR body on stdin to JSON; made for `nats sub 'overseer.>' --translate 'overseer decode'`."""
    from overseer.cli.translate import decode_main

    raise typer.Exit(decode_main([]))


@app.command(
    rich_help_panel=TALKING,
    epilog=examples(
        'overseer encode finalize_block \'{"hash": "0x..."}\' | nats --context overseer-node pub --force-stdin --no-templates '
        "overseer.node.op_operator.cmd.chain_api.finalize_block"
    ),
)
def encode(message: str, body: str = "-") -> None:
    """Filter: JSON to the canonical CBOR body of MESSAGE on stdout, to be piped into `nats pub`."""
    from overseer.cli.translate import encode_main

    raise typer.Exit(encode_main([message, body]))


def run_app(arguments: Sequence[str]) -> int:
    """Run the command line; returns the exit code."""
    common.heed_sigterm()
    try:
        for argument in arguments:
            # Bytes of the command line that are no text: nothing could be made of them, nor said about them.
            if any("\udc80" <= character <= "\udcff" for character in argument):
                common.fail(
                    f"The argument {argument!a} is not text in UTF-8.", "Check the terminal's encoding; a path can be given by a setting."
                )
        code = app(args=list(arguments), prog_name="overseer", standalone_mode=False)
        # What a pipe's reader does not want any more shows here, not at the interpreter's end.
        if sys.stdout is not None:  # pyright: ignore[reportUnnecessaryComparison]
            sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except typer.Exit as end:
        return end.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
        return READER_GONE
    except SystemExit as end:
        # So typer answers a reader that is gone.
        if isinstance(end.__context__, BrokenPipeError):
            return READER_GONE
        raise
    except BaseException as error:
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):
            return _usage(error)
        return common.report(error)


def _forget_stdout() -> None:
    """So that the interpreter does not complain at its end that nobody reads."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage(error: BaseException) -> int:
    """A wrong command line: click's own words."""
    error.show()  # pyright: ignore
    return int(getattr(error, "exit_code", common.USER_ERROR))
