"""The subsystems: pure decisions. No I/O, clock, randomness or logging."""
