"""Commands asked again under one id until their outcome is known, whatever is killed or away meanwhile."""

from messages.codec import decode
from messages.elections import OfElection, Recorded
from messages.overseer import CommandOutcome
from overseer.node.client import Client
from overseer.sites.client import SitesClient
from tests.node.nodes import DEADLINE_S, persistently

__all__ = ["outcome_of", "recorded_of"]


async def outcome_of(client: Client | SitesClient, command: OfElection, command_id: str, *, seconds: float = DEADLINE_S) -> CommandOutcome:
    """Of an accepted command. Raises TimeoutError; Refused, when that is its outcome for good."""
    try:
        return await persistently(lambda: client.request(command, command_id=command_id), seconds=seconds)
    except TimeoutError:
        raise TimeoutError(f"{command_id} was not acknowledged within {seconds:g} s") from None


def recorded_of(outcome: CommandOutcome) -> Recorded:
    """What the election says that it recorded."""
    assert outcome.reply is not None
    recorded = decode(Recorded.spec, outcome.reply)
    assert isinstance(recorded, Recorded)
    return recorded
