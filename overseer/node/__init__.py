"""A node: one overseer and its subsystems, as processes (docs/operating.md)."""
