"""The operating system as the Clock and Entropy ports."""
