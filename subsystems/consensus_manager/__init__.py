"""Consensus groups: a DKG every interval, handover, restore (docs/consensus.md)."""

from subsystems.consensus_manager.config import ConsensusConfig, Enrolled, Vault
from subsystems.consensus_manager.subsystem import ConsensusManager

__all__ = ["ConsensusConfig", "ConsensusManager", "Enrolled", "Vault"]
