"""One candidate of a search: its genotype, its compressed network, its cost and its accuracy."""
