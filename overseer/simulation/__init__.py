"""Whole networks of nodes in one thread, from one seed (docs/reliability.md)."""
