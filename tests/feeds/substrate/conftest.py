"""A place of its own for each test that gives commands."""

from tests.node.nodes import here

__all__ = ["here"]
