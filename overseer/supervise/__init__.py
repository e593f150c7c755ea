"""Supervision of the subsystems: start, watch, restart, stop (docs/operating.md)."""
