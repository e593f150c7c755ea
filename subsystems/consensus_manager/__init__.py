"""Consensus groups: a DKG every interval, handover, restore (docs/consensus.md)."""
