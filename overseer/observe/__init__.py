"""What an operator sees: logs, metrics, health, traces (docs/operating.md)."""
