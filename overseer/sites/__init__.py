"""One site of replicated elections: the elections it holds a copy of, its mailroom, and the process that hosts both (docs/elections.md)."""
