"""Injects votes and ballots into a running node, over and over, and writes down what was acknowledged: a process of its own.

`python -m tests.backup.backup_load DATA_DIR FILE PREFIX`: a line of FILE for each acknowledged command, written after its outcome came.
"""

import json
import sys
from pathlib import Path

import anyio

from messages.ballots import CastBallot, OpenElection
from messages.message import Message
from messages.overseer import CommandOutcome
from overseer.cli.common import load_settings
from overseer.node.client import Client
from overseer.node.folder import NodeFolder
from tests.node.nodes import ballots, told

__all__ = ["KEY", "opening", "outcome_text", "vote"]

KEY = "backed-up"
VALIDATORS = 4
SIDE_BY_SIDE = 4


def opening() -> OpenElection:
    return OpenElection(election=KEY, title="Backed up", choices=["Ada", "Grace"])


def vote(voter: str) -> CastBallot:
    return CastBallot(election=KEY, voter=voter.encode(), choice="Ada")


def outcome_text(outcome: CommandOutcome) -> str:
    """An outcome, to be compared: the same for whoever asks again under the same id."""
    return (outcome.reply or b"").hex() + outcome.status.value


async def main(data: Path, file: Path, prefix: str) -> None:
    loaded = load_settings(data_dir=data)
    made = ballots(8, VALIDATORS)
    async with Client.connected(loaded.config, NodeFolder(data).last_run().url, "operator") as client:
        with file.open("a") as out:

            async def acknowledged(command: Message, command_id: str, told_as: str) -> None:
                outcome = await told(client, command, command_id)
                out.write(json.dumps([told_as, command_id, outcome_text(outcome)]) + "\n")
                out.flush()

            await acknowledged(made.opening, "opening", "block")
            await acknowledged(opening(), "open election", "election")

            async def cast(lane: int) -> None:
                number = 0
                while True:
                    voter = f"{prefix}-{lane}-{number}"
                    await acknowledged(vote(voter), f"cast {voter}", voter)
                    number += 1

            async def votes() -> None:
                for number, bundle in enumerate(made.bundles):
                    await acknowledged(bundle, f"{prefix} bundle {number}", f"bundle {number}")

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(votes)
                for lane in range(SIDE_BY_SIDE):
                    tasks.start_soon(cast, lane)


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
