"""What narrow activations cost: the standard picks of some searches, evaluated again with activations of fewer bits.

    python -m benchmarks.quality.activation_bits --searches runs/lenet5-mnist/search/NAME --data_dir data

Weights, levels and calibration are those of the search; only the inputs of the layers are rounded more coarsely. Writes
``docs/results/activation_bits.md``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from lightning_fabric import Fabric

from benchmarks.common.command_line import argument_parser
from benchmarks.common.libraries import genotype_of
from benchmarks.common.page import machine, made_by, publish
from benchmarks.common.tables import table
from emomc.candidates.calibration import calibrate
from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.evaluator import CandidateEvaluator
from emomc.common.run_folder import RunFolder
from emomc.data.splits import load_split
from emomc.fronts.front_file import read_front
from emomc.fronts.picks import standard_picks
from emomc.library.data_sources import library_data
from emomc.library.library import Library
from emomc.library.network_sources import library_graph
from emomc.runtime.notices import quiet_lightning
from emomc.search.run import read_settings

BITS = (16, 8, 6, 4)
SPLITS = ("validation", "test")


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--searches", type=Path, nargs="+", required=True, help="folders of finished searches")
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--output", type=Path, default=Path("docs/results/activation_bits.md"))
    arguments = parser.parse_args()
    with quiet_lightning():
        rows = [row for search in arguments.searches for row in _rows(search, arguments.data_dir)]
    publish(_page(rows), arguments.output)


@dataclasses.dataclass(frozen=True)
class _Row:
    """A pick of a search."""

    search: str
    pick: str
    index: int
    accuracies: dict[str, list[float]]
    """Split -> accuracy in percent for each of ``BITS``."""

    @property
    def lost(self) -> list[float]:
        """Points of validation accuracy lost against the widest, for each of ``BITS``."""
        first, *_ = own = self.accuracies["validation"]
        return [first - accuracy for accuracy in own]


def _rows(search: Path, data_dir: str) -> Iterator[_Row]:
    run = RunFolder(search.parent.parent)
    front, config = read_front(search), read_settings(run.search(search.name).settings)
    library = Library.open(run.library)
    data, graph = library_data(library, data_dir=data_dir), library_graph(library)
    picks = {picked.index: picked for picked in reversed(standard_picks(front))}
    points = {point["index"]: point for point in front["points"]}
    genotypes = {index: genotype_of(library, points[index]) for index in picks if not points[index].get("tuned")}
    levels = sorted({genotype.level for genotype in genotypes.values()})
    fabric = Fabric(accelerator="cpu", devices=1)
    found: dict[int, dict[str, list[float]]] = {index: {split: [] for split in SPLITS} for index in genotypes}
    for bits in BITS:
        quantizer = dataclasses.replace(config, activation_bits=bits).quantization
        inputs = calibrate(library, graph, data, fabric, levels, covariances=quantizer.needs_covariances)
        networks = CompressedNetworks(library, graph, quantizer, inputs=inputs)
        for split in SPLITS:
            evaluator = CandidateEvaluator(
                networks, *load_split(data, split), batch_size=library.manifest.evaluation_batch_size
            )
            for index, genotype in genotypes.items():
                found[index][split].append(100 * evaluator.evaluate(genotype).accuracy)
    for index in genotypes:
        yield _Row(f"{run.path.name}, {search.name}", str(picks[index].pick), index, found[index])


def _page(rows: list[_Row]) -> str:
    head = ["search", "pick", "point", *(f"{bits} bits" for bits in BITS)]
    cells = [
        [
            row.search,
            row.pick,
            str(row.index),
            *(f"{row.accuracies['validation'][n]:.2f} ({row.accuracies['test'][n]:.2f})" for n in range(len(BITS))),
        ]
        for row in rows
    ]
    most = [max(row.lost[n] for row in rows) for n in range(len(BITS))]
    worst = ", ".join(f"{bits} bits {lost:.2f}" for bits, lost in zip(BITS[1:], most[1:], strict=True))
    return f"""# Narrow activations

{made_by()}; {machine()}.

Validation accuracy of the standard picks of finished searches, in brackets on the test images, percent, if the inputs
of the layers have so many bits; 16 bits are not rounded. The searches themselves had {BITS[0]}.

{table(head, cells)}

Most that a pick loses of its validation accuracy, in points: {worst}.
"""


if __name__ == "__main__":
    main()
