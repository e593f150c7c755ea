"""Explainers: one for each kind of thing that is asked about. They know messages, and nothing of how a subsystem decides."""
