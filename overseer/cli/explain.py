"""`overseer explain ...`: why a block is blacklisted, a group was revoked, an item is back in its queue; down to the signed votes."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from overseer.cli import common
from overseer.cli.common import ConfigFile, Json, examples, load_settings, print_json

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

    from overseer.history.explaining.trail import Teller
    from overseer.history.reasons import Explanation, Reason

__all__ = ["explain"]

explain = typer.Typer(
    help="Why: the causes of a block, dispute, validator, group, election, item or message, through the journals of all subsystems.\n\n"
    "Works on a running node's folder and on a stopped one's. Of hashes the beginning is enough.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

DataDirs = Annotated[
    list[Path] | None,
    typer.Option(
        "--data-dir",
        help="The node's folder (default: overseer-data), or a testnet's. Given again: other nodes', into which causes lead.",
        show_default=False,
    ),
]
Depth = Annotated[int | None, typer.Option("--depth", min=1, help="So many levels of reasons (default: all).", show_default=False)]
Node = Annotated[str, typer.Option("--at", help="Of several nodes the one that is asked about (default: the first).", show_default=False)]

# Of one message's votes so many are listed for people; JSON has them all.
_VOTES_LISTED = 12


@explain.command(
    "block",
    epilog=examples("overseer explain block 17", "overseer explain block 0x5e3a --depth 3", "overseer explain block 0x5e3a --json"),
)
def block(
    id: Annotated[str, typer.Argument(help="The block's hash, the beginning of it, or its number.")],
    config: ConfigFile = None, data_dir: DataDirs = None, at: Node = "", depth: Depth = None, json: Json = False,
) -> None:  # fmt: skip
    """Why a block is blacklisted, reverted, final, or off the best chain."""
    from overseer.history.explaining.blocks import explain_blocks

    _explain(lambda teller: explain_blocks(teller, id), config, data_dir, at, depth, json)


@explain.command("dispute", epilog=examples("overseer explain dispute 0x67b5", "overseer explain dispute 0x67b5 --session 3 --json"))
def dispute(
    id: Annotated[str, typer.Argument(help="The candidate's hash, or the beginning of it (`overseer dispute list`).")],
    session: Annotated[int | None, typer.Option(help="Of several sessions the one that is meant.", show_default=False)] = None,
    config: ConfigFile = None, data_dir: DataDirs = None, at: Node = "", depth: Depth = None, json: Json = False,
) -> None:  # fmt: skip
    """How a dispute was decided: every signed vote with its message, each checked again, and what followed."""
    from overseer.history.explaining.disputes import explain_dispute

    _explain(lambda teller: [explain_dispute(teller, id, session)], config, data_dir, at, depth, json)


@explain.command("validator", epilog=examples("overseer explain validator 3/7", "overseer explain validator 0x9eec"))
def validator(
    id: Annotated[str, typer.Argument(help="SESSION/INDEX, or the validator's key or the beginning of it.")],
    config: ConfigFile = None, data_dir: DataDirs = None, at: Node = "", depth: Depth = None, json: Json = False,
) -> None:  # fmt: skip
    """What a validator voted, what it was rewarded and slashed for, and its groups."""
    from overseer.history.explaining.validators import explain_validator

    _explain(lambda teller: [explain_validator(teller, id)], config, data_dir, at, depth, json)


@explain.command(
    "group",
    epilog=examples("overseer explain group 2 --data-dir overseer-testnet/n1", "overseer explain group 2 --data-dir overseer-testnet"),
)
def group(
    id: Annotated[str, typer.Argument(help="The group's epoch.")],
    config: ConfigFile = None, data_dir: DataDirs = None, at: Node = "", depth: Depth = None, json: Json = False,
) -> None:  # fmt: skip
    """How a consensus group was elected, from when it served, and why it was revoked."""
    from overseer.history.explaining.groups import explain_group

    _explain(lambda teller: [explain_group(teller, id)], config, data_dir, at, depth, json)


@explain.command("election", epilog=examples("overseer explain election mayor-2026", "overseer explain election ingestion --json"))
def election(
    id: Annotated[str, typer.Argument(help="The election's key; of a queue its name.")],
    config: ConfigFile = None, data_dir: DataDirs = None, at: Node = "", depth: Depth = None, json: Json = False,
) -> None:  # fmt: skip
    """What happened in an election, and who asked for it; ballots are counted."""
    from overseer.history.explaining.elections import explain_election

    _explain(lambda teller: [explain_election(teller, id)], config, data_dir, at, depth, json)


@explain.command("item", epilog=examples("overseer explain item ingestion/0x5d1f", "overseer explain item ingestion/0x5d1f --json"))
def item(
    id: Annotated[str, typer.Argument(help="QUEUE/REQUEST; of the request's id the beginning is enough.")],
    config: ConfigFile = None, data_dir: DataDirs = None, at: Node = "", depth: Depth = None, json: Json = False,
) -> None:  # fmt: skip
    """Why a gateway's request is waiting, assigned, back in its queue, or done."""
    from overseer.history.explaining.items import explain_item

    _explain(lambda teller: [explain_item(teller, id)], config, data_dir, at, depth, json)


@explain.command("message", epilog=examples("overseer explain message 25", "overseer explain message 73 --net"))
def message(
    id: Annotated[str, typer.Argument(help="The message's sequence in the node's stream.")],
    net: Annotated[bool, typer.Option("--net", help="In the network's stream instead.")] = False,
    config: ConfigFile = None, data_dir: DataDirs = None, at: Node = "", depth: Depth = None, json: Json = False,
) -> None:  # fmt: skip
    """What a message of the stream was, why it was said, and what it led to in all subsystems."""
    from overseer.history.explaining.positions import explain_message

    _explain(lambda teller: [explain_message(teller, id, "net" if net else "node")], config, data_dir, at, depth, json)


def _explain(
    asked: Callable[["Teller"], list["Explanation"]],
    config: Path | None,
    data_dirs: list[Path] | None,
    at: str,
    depth: int | None,
    as_json: bool,
) -> None:
    from messages.contract import load
    from overseer.history.causes import NoHistory, opened
    from overseer.history.explaining.ids import Unknown
    from overseer.history.explaining.trail import Teller

    load()
    folders = data_dirs or [load_settings(config).config.data_dir]
    for folder in folders:
        if not folder.is_dir():
            common.fail(
                f"{folder} is no folder.", "--data-dir names a node's folder; it is made when the node first runs (`overseer run`)."
            )
    try:
        with opened(folders) as history:
            if at and at not in history.nodes:
                common.fail(f"There is no node {at!r} in these folders.", common.near(at, history.nodes))
            found = asked(Teller(history, history.nodes[at] if at else None))
            several = len(history.nodes) > 1
    except Unknown as unknown:
        common.fail(f"{unknown}.", unknown.remedy)
    except NoHistory as nothing:
        common.fail(f"{nothing}.", "Name the node's folder with --data-dir; stores are made when the node first runs (`overseer run`).")
    if as_json:
        print_json([msgspec.to_builtins(_cut(each, depth)) for each in found])
        return
    for each in found:
        common.console.print(_tree(_cut(each, depth), several))


# ------------------------------------------------------------------------------------------------ showing


def _cut(explanation: "Explanation", depth: int | None) -> "Explanation":
    if depth is None:
        return explanation
    return msgspec.structs.replace(explanation, reasons=[_shallow(reason, depth) for reason in explanation.reasons])


def _shallow(reason: "Reason", depth: int) -> "Reason":
    if depth <= 1:
        return msgspec.structs.replace(reason, because=[], led_to=[])
    below = {name: [_shallow(each, depth - 1) for each in getattr(reason, name)] for name in ("because", "led_to")}
    return msgspec.structs.replace(reason, **below)


def _tree(explanation: "Explanation", several: bool) -> "Tree":
    from rich.text import Text
    from rich.tree import Tree

    tree = Tree(Text(f"{explanation.kind} {explanation.id}, at node {explanation.node}", style="bold"), highlight=False)
    told: set[tuple[str, str]] = set()
    for reason in explanation.reasons:
        _branch(tree, reason, several, told)
    for text in explanation.missing:
        tree.add(Text(f"not told: {text}", style="yellow"))
    return tree


def _branch(tree: "Tree", reason: "Reason", several: bool, told: set[tuple[str, str]]) -> None:
    """A reason with its own below it; what was told before is not told again."""
    from rich.text import Text

    below = [*reason.because, *reason.led_to]
    known = bool(reason.record and below) and (reason.what, reason.record) in told
    label = _label(reason, several)
    if known:
        label.append(" (told above)", style="dim")
    branch = tree.add(label)
    if known:
        return
    if reason.record and below:
        told.add((reason.what, reason.record))
    votes = [each for each in below if each.vote is not None]
    left_out = votes[_VOTES_LISTED:]
    for each in below:
        if each not in left_out:
            _branch(branch, each, several, told)
    if left_out:
        bad = sum(each.vote is not None and each.vote.verifies is not True for each in left_out)
        checked = f"{bad} of them do not verify" if bad else "all of which verify"
        branch.add(Text(f"and {len(left_out)} more votes, {checked} (--json has them)", style="dim"))


def _label(reason: "Reason", several: bool) -> "Text":
    from rich.text import Text

    label = Text(reason.what)
    if reason.vote is not None:
        label.stylize("green" if reason.vote.verifies else "red")
        return label
    details = [reason.record if several else reason.record.partition("/")[2]] if reason.record else []
    if reason.at_ms:
        details.append(common.clock(reason.at_ms))
    if reason.position:
        where = "" if reason.stream == "node" else " of the network"
        details.append(f"message {reason.position}{where} from {reason.sender}")
    if reason.command_id:
        details.append(f"command {reason.command_id}")
    if reason.ends:
        details.append(reason.ends)
    if details:
        label.append("\n" + ", ".join(details), style="dim")
    return label
