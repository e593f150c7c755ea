"""Replicated elections in the simulation: sites in virtual time around the machines of `subsystems/elections/runtime`."""
