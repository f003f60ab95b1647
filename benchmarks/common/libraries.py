"""Points of fronts as candidates of their library, and how accurate its levels are on the test images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.cost_model import uncompressed_genotype
from emomc.candidates.evaluator import CandidateEvaluator
from emomc.candidates.genotype import Genotype
from emomc.compression.quantizers import Quantizer
from emomc.data.splits import load_split
from emomc.library.data_sources import library_data
from emomc.library.library import Library
from emomc.library.network_sources import library_graph


def genotype_of(library: Library, point: Mapping[str, Any]) -> Genotype:
    """Return a point of a front of the library as a genotype."""
    return Genotype(point["level"], tuple(point["bits"][layer.name] for layer in library.manifest.compressed_layers))


def level_accuracies(library: Library, data_dir: str) -> dict[int, float]:
    """Return level (percent of weights remaining) -> test accuracy in percent; nothing is quantized."""
    networks = CompressedNetworks(library, library_graph(library), Quantizer())
    images, labels = load_split(library_data(library, data_dir=data_dir), "test")
    evaluator = CandidateEvaluator(networks, images, labels, batch_size=library.manifest.evaluation_batch_size)
    bits = uncompressed_genotype(library).bits
    return {percent: 100 * evaluator.evaluate(Genotype(percent, bits)).accuracy for percent in library.levels}
