"""The plug-in's fixtures, also where this package is not installed but run from its tree."""

from overseer.testing.plugin import memory_world

__all__ = ["memory_world"]
