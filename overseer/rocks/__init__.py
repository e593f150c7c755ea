"""RocksDB as the Store port."""
