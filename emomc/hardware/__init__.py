"""What a network costs on an accelerator: descriptions, dataflows, counts, energy, cycles, size."""
