"""What the runner needs of the world: four ports, each with a real and a memory implementation and one contract suite."""
