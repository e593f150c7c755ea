"""Long-lived elections of any kind (docs/elections.md)."""
