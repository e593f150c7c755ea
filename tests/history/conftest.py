"""Every node gets a place of its own, which it must leave clean; commands are given in it."""

from tests.cli.conftest import command
from tests.node.nodes import here

__all__ = ["command", "here"]
