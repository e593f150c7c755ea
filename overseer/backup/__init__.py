"""Backups of a node: taken while it runs, checked, restored on an empty machine (docs/backup.md)."""
