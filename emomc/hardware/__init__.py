"""The cost model: energy, cycles and size of a compressed network on a described accelerator."""
