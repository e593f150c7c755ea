"""Peer elections: proofs of storage over a ring of peers. A pure library; `docs/peers.md` is its guide."""
