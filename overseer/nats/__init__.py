"""NATS: the embedded server, accounts, provisioning, and the client side of the bus."""
