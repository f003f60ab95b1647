"""What scales and biases in float16 save and cost: every point of some fronts, with them in float32 and in float16.

    python -m benchmarks.quality.scales --searches runs/lenet5-mnist/search/NAME --data_dir data

Weights, levels and codes are those of the search. Writes ``docs/results/scales.md``.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from statistics import median

import numpy as np
from lightning_fabric import Fabric

from benchmarks.common.command_line import argument_parser
from benchmarks.common.libraries import genotype_of
from benchmarks.common.page import machine, made_by, publish
from benchmarks.common.tables import table
from emomc.candidates.calibration import calibrate
from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.cost_model import CostModel
from emomc.candidates.evaluator import CandidateEvaluator
from emomc.common.run_folder import RunFolder
from emomc.data.splits import load_split
from emomc.fronts.front_file import read_front
from emomc.hardware.description import load_hardware
from emomc.library.data_sources import library_data
from emomc.library.library import Library
from emomc.library.network_sources import library_graph
from emomc.runtime.notices import quiet_lightning
from emomc.search.run import read_settings

FORMATS = ("float32", "float16")
SPLITS = ("validation", "test")
COLUMNS = ("search", "points", "smaller by, %", "smallest file, B", "more images right, validation", "test")


@dataclasses.dataclass(frozen=True)
class Measured:
    """The points of a front with scales in one format."""

    size_bytes: np.ndarray
    """Shape (points,)."""
    correct: dict[str, np.ndarray]
    """Split -> images classified rightly, shape (points,)."""


def measure(search: Path, data_dir: str) -> dict[str, Measured]:
    """Evaluate the points of a front with scales in each of ``FORMATS``."""
    run = RunFolder(search.parent.parent)
    front, config = read_front(search), read_settings(run.search(search.name).settings)
    library = Library.open(run.library)
    data, graph = library_data(library, data_dir=data_dir), library_graph(library)
    genotypes = [genotype_of(library, point) for point in front["points"]]
    levels = sorted({genotype.level for genotype in genotypes})
    inputs = calibrate(
        library, graph, data, Fabric(accelerator="cpu", devices=1), levels, covariances=config.rounding == "learned"
    )
    found = {}
    for scales in FORMATS:
        quantizer = dataclasses.replace(config, scales=scales).quantization
        networks = CompressedNetworks(library, graph, quantizer, inputs=inputs)
        model = CostModel(networks, load_hardware(config.hardware), dataflow="xy", coding=config.coding)
        correct = {}
        for split in SPLITS:
            images, labels = load_split(data, split)
            evaluator = CandidateEvaluator(networks, images, labels, batch_size=library.manifest.evaluation_batch_size)
            correct[split] = np.array([evaluator.evaluate(genotype).correct for genotype in genotypes])
        found[scales] = Measured(model.costs(genotypes)["size_bytes"], correct)
    return found


def row(name: str, found: dict[str, Measured]) -> list[str]:
    """Return the cells of a search."""
    full, half = (found[scales] for scales in FORMATS)
    saved = 100 * (1 - half.size_bytes / full.size_bytes)
    changed = [
        f"{np.abs(difference).max()} at most, {difference.mean():+.2f} in the mean"
        for split in SPLITS
        for difference in [half.correct[split] - full.correct[split]]
    ]
    smallest = f"{full.size_bytes.min():,.0f} -> {half.size_bytes.min():,.0f}"
    smaller = f"{saved.min():.1f} to {saved.max():.1f}, median {median(saved):.1f}"
    return [name, str(len(saved)), smaller, smallest, *changed]


def main() -> None:
    """Write the page."""
    parser = argument_parser(__doc__)
    parser.add_argument("--searches", type=Path, nargs="+", required=True, help="folders of finished searches")
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--output", type=Path, default=Path("docs/results/scales.md"))
    arguments = parser.parse_args()
    with quiet_lightning():
        rows = [
            row(f"{search.parent.parent.name}, {search.name}", measure(search, arguments.data_dir))
            for search in arguments.searches
        ]
    page = f"""# Scales in float16

{made_by()}; {machine("cpu")}.

Every point of some fronts, with the scales and biases of its quantized layers in float32 and in float16: by how much
the packed file is smaller, and how many more images are classified rightly.

{table(COLUMNS, rows)}
"""
    publish(page, arguments.output)


if __name__ == "__main__":
    main()
