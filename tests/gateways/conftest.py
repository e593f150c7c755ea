"""The plug-in's fixtures, also where this package is not installed but run from its tree."""

from overseer.testing.plugin import memory_world, overseer_server, overseer_world, real_world, virtual_overseer

__all__ = ["memory_world", "overseer_server", "overseer_world", "real_world", "virtual_overseer"]
