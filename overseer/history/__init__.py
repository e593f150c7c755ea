"""What a node recorded, read from its stores: beside its owner, or after."""
