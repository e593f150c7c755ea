"""What follows from a dispute: early reverts, the blacklist cascade, and the record of it (docs/disputes.md)."""

from subsystems.dispute_conclusion.declaration import Config
from subsystems.dispute_conclusion.subsystem import DisputeConclusion

__all__ = ["Config", "DisputeConclusion"]
