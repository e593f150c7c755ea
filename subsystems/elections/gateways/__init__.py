"""Gateway elections: which gateways process the requests of a queue, in rounds counted in blocks (docs/gateways.md)."""
