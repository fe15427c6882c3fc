"""Places on a square or a hexagonal lattice: which there are, which one is nearest, and which lattice spots form."""
