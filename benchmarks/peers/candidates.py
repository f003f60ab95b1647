"""Candidates of one of our libraries for another sampler: their losses, as a search of ours measures them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightning_fabric import Fabric

from emomc.candidates.calibration import calibrate
from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.cost_model import CostModel
from emomc.candidates.evaluator import CandidateEvaluator
from emomc.candidates.genotype import Genotype
from emomc.data.splits import load_split
from emomc.hardware.description import load_hardware
from emomc.library.data_sources import library_data
from emomc.library.library import Library
from emomc.library.network_sources import library_graph
from emomc.search.config import SearchConfig


class Candidates:
    """The candidates of a library: a level, and the bits of each layer."""

    def __init__(self, path: Path, data_dir: str) -> None:
        """Open a library.

        Args:
            path: of the library.
            data_dir: where its images are.
        """
        library = Library.open(path)
        config = SearchConfig(objectives=("accuracy", "size"), coding="best")
        data, graph = library_data(library, data_dir=data_dir), library_graph(library)
        images, labels = load_split(data, "validation")
        fabric = Fabric(accelerator="cpu", devices=1)
        inputs = calibrate(library, graph, data, fabric, library.levels)
        self.networks = CompressedNetworks(library, graph, config.quantization, inputs=inputs)
        self.cost_model = CostModel(
            self.networks, load_hardware(config.hardware), dataflow=config.dataflow, coding=config.coding
        )
        self._evaluator = CandidateEvaluator(
            self.networks, images, labels, batch_size=library.manifest.evaluation_batch_size
        )
        self.levels = list(library.levels)
        self.layers = list(self.networks.layers)

    def losses(self, level: int, bits: Sequence[int]) -> tuple[float, float]:
        """Return the share of validation images that are wrong, and the KiB of the coded file."""
        genotype = Genotype(level, tuple(bits))
        size_kib = self.cost_model.costs([genotype])["size_kib"].item()
        return 1 - self._evaluator.evaluate(genotype).accuracy, size_kib
