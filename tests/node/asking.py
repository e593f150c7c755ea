"""Commands asked again under one id until their outcome is known, whatever is killed or away meanwhile."""

import anyio

from messages.codec import decode
from messages.elections import OfElection, Recorded
from messages.overseer import CommandOutcome
from overseer.node.client import Client, Refused
from overseer.ports.bus import BusError
from overseer.sites.client import SitesClient
from tests.node.nodes import DEADLINE_S

__all__ = ["outcome_of", "recorded_of"]


async def outcome_of(client: Client | SitesClient, command: OfElection, command_id: str, *, seconds: float = DEADLINE_S) -> CommandOutcome:
    """Of an accepted command. Raises TimeoutError; Refused, when that is its outcome for good."""
    try:
        with anyio.fail_after(seconds):
            while True:
                try:
                    return await client.request(command, command_id=command_id)
                except Refused as refused:
                    if not refused.retriable:
                        raise
                except BusError:
                    pass
                await anyio.sleep(0.02)
    except TimeoutError:
        raise TimeoutError(f"{command_id} was not acknowledged within {seconds:g} s") from None


def recorded_of(outcome: CommandOutcome) -> Recorded:
    """What the election says that it recorded."""
    assert outcome.reply is not None
    recorded = decode(Recorded.spec, outcome.reply)
    assert isinstance(recorded, Recorded)
    return recorded
