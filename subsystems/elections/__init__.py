"""Long-lived elections of any kind (docs/elections.md)."""

from subsystems.elections.config import ElectionsConfig
from subsystems.elections.subsystem import Elections

__all__ = ["Elections", "ElectionsConfig"]
