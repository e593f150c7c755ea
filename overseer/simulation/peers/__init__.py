"""A network of peers in virtual time, seeded: the real participants over stores that share one universe of tokens."""
