"""What follows from a dispute: early reverts, the blacklist cascade, and the record of it (docs/disputes.md)."""
