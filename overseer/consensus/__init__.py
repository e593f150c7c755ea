"""The shell of the consensus groups: a node's identity and vault, the network's nodes, and the chain that they make together."""
