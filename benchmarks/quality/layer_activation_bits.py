"""What it gains to search the bits of each layer's inputs: searches with 4, 6 and 8 as genes, and with one of them.

    python -m benchmarks.quality.layer_activation_bits --library runs/lenet5-mnist/library --data_dir data

All searches have the same library, seeds and number of candidates, and a hardware whose MACs and memories take less
energy for fewer bits of inputs. Searches lie beside the library; one that is finished is not run again. Writes
``docs/results/layer_activation_bits.md``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from lightning_fabric import Fabric

from benchmarks.common.command_line import argument_parser
from benchmarks.common.page import machine, made_by, publish
from benchmarks.common.tables import table
from emomc.common.pareto import hypervolume, non_dominated
from emomc.library.data_sources import library_data
from emomc.library.library import Library
from emomc.search.config import SearchConfig
from emomc.search.options import RunOptions
from emomc.search.run import run_search
from emomc.search.state import Search

CHOICES = {"4, 6 or 8 by layer": (4, 6, 8), "8 in every layer": 8, "4 in every layer": 4}
"""What is searched -> the setting ``activation_bits``."""
LOST = (0.3, 0.5, 1.0, 2.0)
"""Points of validation accuracy that a pick may lose."""
_REFERENCE = "8 in every layer"


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--library", type=Path, required=True, help="library whose network is searched")
    parser.add_argument("--data_dir", default="data", help="folder of its dataset")
    parser.add_argument("--hardware", default="horowitz_45nm", help="accelerator of the costs")
    parser.add_argument("--seeds", type=int, default=3, help="searches of each kind, 1 or more")
    parser.add_argument("--population_size", type=int, default=12, help="candidates of a generation, 2 or more")
    parser.add_argument("--number_generations", type=int, default=9, help="generations, 1 or more")
    parser.add_argument("--output", type=Path, default=Path("docs/results/layer_activation_bits.md"))
    arguments = parser.parse_args()
    library = Library.open(arguments.library)
    data = library_data(library, data_dir=arguments.data_dir)
    found: dict[str, list[Search]] = {}
    for seed in range(arguments.seeds):
        for name, bits in CHOICES.items():
            config = SearchConfig(
                hardware=arguments.hardware,
                coding="best",
                activation_bits=bits,
                population_size=arguments.population_size,
                number_generations=arguments.number_generations,
                seed=seed,
            )
            which = "-".join(map(str, bits)) if isinstance(bits, tuple) else str(bits)
            options = RunOptions(f"inputs-{which}-{seed}", data=data, fabric=Fabric(accelerator="cpu", devices=1))
            found.setdefault(name, []).append(run_search(library, config, run=options))
    publish(
        _page({name: [_Front.of(search) for search in searches] for name, searches in found.items()}, found),
        arguments.output,
    )


@dataclasses.dataclass(frozen=True)
class _Front:
    """The front of one search."""

    dense: float
    """Validation accuracy of the uncompressed network, 0..1."""
    validation: tuple[float, ...]
    test: tuple[float, ...]
    energy: tuple[float, ...]
    size_kib: tuple[float, ...]

    @classmethod
    def of(cls, search: Search) -> _Front:
        points, column = search.front, search.cost_model.columns["energy"]
        return cls(
            search.dense_accuracy,
            tuple(point.accuracy for point in points),
            tuple(point.test.accuracy if point.test else float("nan") for point in points),
            tuple(point.costs[column] for point in points),
            tuple(point.costs["size_kib"] for point in points),
        )

    def volume(self, accuracies: Sequence[float], uncompressed: float) -> float:
        """Return the hypervolume of error and energy relative to the uncompressed network, 0..1."""
        losses = np.column_stack([1 - np.array(accuracies), np.array(self.energy) / uncompressed])
        return hypervolume(losses[non_dominated(losses)], [1.0, 1.0])

    def cheapest(self, lost: float) -> int | None:
        """Return the position of the cheapest point that loses at most so many points of accuracy."""
        within = [row for row, own in enumerate(self.validation) if 100 * (self.dense - own) <= lost + 1e-9]
        return min(within, key=lambda row: self.energy[row], default=None)


def _page(searches: dict[str, list[Search]]) -> str:
    fronts = {name: [_Front.of(search) for search in own] for name, own in searches.items()}
    first = searches[_REFERENCE][0]
    uncompressed, unit = first.uncompressed[first.cost_model.columns["energy"]], first.cost_model.hardware.energy_label

    def mean(numbers: list[float]) -> str:
        return f"{np.mean(numbers):.4f} ({min(numbers):.4f} to {max(numbers):.4f})"

    volumes = [
        [
            name,
            *(mean([one.volume(getattr(one, split), uncompressed) for one in own]) for split in ("validation", "test")),
        ]
        for name, own in fronts.items()
    ]
    energies = [[name, *(_cheapest(own, lost, uncompressed) for lost in LOST)] for name, own in fronts.items()]
    lines = [f"- At most {lost} points: {_gain(fronts, lost)}." for lost in LOST]
    settings, gains = first.config, "\n".join(lines)
    searched = f"{first.library.manifest.network} on {first.dataset}, {settings.hardware}, coding {settings.coding}"
    return f"""# Bits of inputs by layer

{made_by()}; {machine()}.

{searched}, {len(fronts[_REFERENCE])} seeds, {settings.most_candidates} candidates a search at most:
`--activation_bits 4 6 8`, and one value for the whole network. No fine-tuning.

Hypervolume of error and energy against the uncompressed network with inputs of 8 bits, which takes
{uncompressed:.4g} {unit}: mean over seeds (least to most).

{table(["bits of inputs", "validation", "test"], volumes)}

Energy of the cheapest point that loses at most so many points of validation accuracy, {unit}, mean over seeds; how many
times less than uncompressed; its test accuracy, percent; its size, KiB. "-": not every seed has such a point.

{table(["bits of inputs", *(f"{lost} points" for lost in LOST)], energies)}

What the choice by layer gains over the best of the others: the mean of the ratios of energies of the same seed (least
to most; above 1: less energy):

{gains}
"""


def _cheapest(fronts: list[_Front], lost: float, uncompressed: float) -> str:
    rows = [one.cheapest(lost) for one in fronts]
    if None in rows:
        return "-"
    chosen = [(one, row) for one, row in zip(fronts, rows, strict=True) if row is not None]
    energy = float(np.mean([one.energy[row] for one, row in chosen]))
    test = 100 * float(np.mean([one.test[row] for one, row in chosen]))
    size = float(np.mean([one.size_kib[row] for one, row in chosen]))
    return f"{energy:.5f}, {uncompressed / energy:.1f}x; {test:.2f} %; {size:.1f}"


def _gain(fronts: dict[str, list[_Front]], lost: float) -> str:
    by_layer, *others = fronts.values()
    ratios: list[float] = []
    for seed, own in enumerate(by_layer):
        row = own.cheapest(lost)
        rivals = [one[seed].energy[best] for one in others if (best := one[seed].cheapest(lost)) is not None]
        if row is None or not rivals:
            return "not every seed has such points"
        ratios.append(min(rivals) / own.energy[row])
    return f"{np.mean(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


if __name__ == "__main__":
    main()
