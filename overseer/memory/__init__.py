"""Memory implementations of the ports: for tests, the injection kit and the simulation."""
