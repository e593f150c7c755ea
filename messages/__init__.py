"""The contract: frozen typed messages and their codec. No behaviour, no I/O."""
