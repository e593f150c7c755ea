"""Who is who in a network: this node's identity, and the keys of the others (`overseer.runner.trust.Trust`)."""

from overseer.config import Config
from overseer.consensus.identity import Identity, IdentityFolder
from overseer.consensus.roster import read_network

__all__ = ["NodeTrust"]


class NodeTrust:
    """Made once, by the process of a subsystem: another network needs a restart."""

    def __init__(self, node: str, identity: Identity, keys: dict[str, bytes]) -> None:
        self._identity = identity
        self._keys = {**keys, node: identity.public}

    @staticmethod
    def of(config: Config) -> "NodeTrust":
        """Raises UnusableKey, BadNetwork."""
        keys = {name: each.signing_key for name, each in read_network(config.network.nodes).items()}
        return NodeTrust(config.node, IdentityFolder(config.identity_dir).load(), keys)

    def sign(self, payload: bytes) -> bytes:
        return self._identity.sign(payload)

    def key_of(self, node: str) -> bytes | None:
        return self._keys.get(node)
