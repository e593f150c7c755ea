"""The injection kit (docs/testing.md)."""
