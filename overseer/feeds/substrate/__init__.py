"""The feed that follows a Substrate node by JSON-RPC: its blocks, finality, sessions and on-chain dispute votes (docs/substrate.md)."""
