"""The plug-in's fixtures, also where this package is not installed but run from its tree; and the world of several sites."""

import sys
from pathlib import Path

from overseer.testing.plugin import memory_world, overseer_server, overseer_world, real_world, virtual_overseer

__all__ = ["memory_world", "overseer_server", "overseer_world", "real_world", "virtual_overseer"]

sys.path.insert(0, str(Path(__file__).parent.parent / "sites"))
