"""All checks, in the order in which they are told: what everything else depends on first."""

from overseer.checkup.check import Check
from overseer.checkup.folder import FOLDER
from overseer.checkup.installation import INSTALLATION
from overseer.checkup.machine import MACHINE

__all__ = ["CHECKS"]

CHECKS: tuple[Check, ...] = (*INSTALLATION, *MACHINE, *FOLDER)
