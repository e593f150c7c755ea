"""Ballot elections: the digital twin of an election in the physical world."""
