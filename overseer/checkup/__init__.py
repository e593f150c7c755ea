"""Checks of an installation and of a node's folder, from outside and without side effects (`overseer doctor`)."""
