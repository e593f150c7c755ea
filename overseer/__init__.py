"""The overseer: the only code that touches NATS, RocksDB, processes, time, entropy and the terminal."""
