"""Consensus groups in the simulation: whole nodes that elect groups, and the author of the chain that their groups sign."""
