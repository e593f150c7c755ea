"""Peer elections in the simulation: whole nodes that elect each other over the network's stream, with liars among them."""
