"""The data of a library, and how accurate its levels are on the test images."""

from __future__ import annotations

from pytorch_lightning import LightningDataModule

from emomc.candidates.compressed_networks import CompressedNetworks, Quantizer
from emomc.candidates.cost_model import uncompressed_genotype
from emomc.candidates.evaluation import CandidateEvaluator
from emomc.candidates.genotype import Genotype
from emomc.data.splits import DataConfig, build_data, load_split
from emomc.library.library import Library
from emomc.search.run import build_own_network


def data_config_of(library: Library, data_dir: str) -> DataConfig:
    """Return the settings of the data that a library was made from, with the folder where the data lies here."""
    return DataConfig(**{**library.manifest.data, "data_dir": data_dir})


def data_of(library: Library, data_dir: str) -> LightningDataModule:
    """Make the data module that a library was made from; ``data_dir`` is the folder where the data lies here."""
    return build_data(data_config_of(library, data_dir))


def level_accuracies(library: Library, data_dir: str) -> dict[int, float]:
    """Return level (percent of weights remaining) -> test accuracy in percent; nothing is quantized."""
    networks = CompressedNetworks(library, build_own_network(library), Quantizer())
    images, labels = load_split(data_of(library, data_dir), "test")
    evaluator = CandidateEvaluator(networks, images, labels, batch_size=library.manifest.evaluation_batch_size)
    bits = uncompressed_genotype(library).bits
    return {percent: 100 * evaluator.evaluate(Genotype(percent, bits)).accuracy for percent in library.percents}
