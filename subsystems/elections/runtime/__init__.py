"""How an election of any kind is replicated over sites: pure protocol, driven by `overseer/elections` (docs/elections.md)."""
