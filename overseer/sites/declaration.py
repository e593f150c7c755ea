"""What a site takes from the node's stream."""

from messages.message import Message
from messages.signals import BestChain, GovernanceMode, SessionChange
from overseer.subsystem import Declaration

__all__ = ["SIGNALS", "declaration"]

SIGNALS: tuple[type[Message], ...] = (GovernanceMode, BestChain, SessionChange)


def declaration(name: str) -> Declaration:
    """A site as far as the node's stream is concerned: what its consumer is made for, and its reader reads."""
    return Declaration(name=name, description="A site of the elections", consumes=SIGNALS, sends=(), answers=(), events=(), tables=())
