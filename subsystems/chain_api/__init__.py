"""The block tree, finality, the blacklist, sessions, the transaction pool and governance mode."""

from subsystems.chain_api.config import ChainConfig
from subsystems.chain_api.subsystem import ChainApi

__all__ = ["ChainApi", "ChainConfig"]
