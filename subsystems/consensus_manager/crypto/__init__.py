"""Joint Feldman over BLS12-381: keys in G1, signatures in G2. Pure: all entropy is an argument."""
