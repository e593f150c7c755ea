"""All fuzz targets, by name."""

from tests.fuzz import bodies, commands, files, wires
from tests.fuzz.target import Target

__all__ = ["TARGETS"]

TARGETS: dict[str, Target] = {target.name: target for module in (bodies, wires, files, commands) for target in module.TARGETS}
