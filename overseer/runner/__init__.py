"""The generic runner: drives one subsystem between a bus and a store (docs/concepts.md)."""
