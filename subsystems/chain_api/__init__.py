"""The block tree, finality, the blacklist, sessions, the transaction pool and governance mode."""
