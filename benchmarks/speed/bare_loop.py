"""A loop that does nothing but run candidates over the validation images, and candidates for it."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.genotype import Genotype
from emomc.data.resident import ResidentBatches
from emomc.library.library import Library


def random_candidates(library: Library, count: int) -> list[Genotype]:
    """Return genotypes drawn evenly from the levels below dense and 2 to 12 bits, with seed 0."""
    generator = np.random.default_rng(0)
    layers = len(library.manifest.compressed_layers)
    return [
        Genotype(int(generator.choice(library.levels[1:])), tuple(map(int, generator.integers(2, 13, layers))))
        for _ in range(count)
    ]


@torch.inference_mode()
def bare_loop(
    networks: CompressedNetworks, batches: ResidentBatches, genotype: Genotype, runner: nn.Module | None = None
) -> int:
    """Return how many images a candidate classifies rightly, found by nothing but its forward passes.

    Args:
        networks: of the library.
        batches: the images.
        genotype: the candidate.
        runner: what runs the shared network; None: itself.
    """
    networks.load(genotype)
    run = runner or networks.network
    return int(sum((run(images).argmax(1) == labels).sum() for images, labels in batches))
