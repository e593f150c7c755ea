"""Every test on nodes gets a place of its own, which it must leave clean."""

from tests.node.nodes import here

__all__ = ["here"]
