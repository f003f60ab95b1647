"""Compare the quantizers: accuracy level by level, and hypervolume of whole searches.

    python -m benchmarks.quality.quantizers --libraries runs/lenet5-mnist/library runs/pre_pruning/chain-1/library \
        runs/pre_pruning/chain-2/library --data_dir data

Validation accuracy at uniform bits, and the hypervolume of one search per library and option: all ask for
equally many candidates. Searches live in ``--searches``; what is there already is not measured again. Writes
``docs/results/quantizers.md``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import statistics
import time
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from benchmarks.common.command_line import argument_parser
from benchmarks.common.page import machine, made_by, publish
from benchmarks.common.tables import table
from emomc.candidates.calibration import calibrate
from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.evaluator import CandidateEvaluator
from emomc.candidates.genotype import Genotype
from emomc.compression.quantizers import Quantizer
from emomc.compression.widths import UNCOMPRESSED_BITS
from emomc.data.config import DataConfig
from emomc.data.splits import Split, load_split
from emomc.library.library import Library
from emomc.library.network_sources import library_graph, library_network
from emomc.lightning_modules.image_data import ImageDataModule
from emomc.runtime.notices import quiet_lightning
from emomc.search.config import SearchConfig
from emomc.search.options import RunOptions
from emomc.search.run import run_search
from emomc.search.state import Search

OPTIONS = (
    *(
        Quantizer(method, per_channel, bias_correction)
        for bias_correction in (False, True)
        for per_channel in (False, True)
        for method in ("mse", "absmax")
    ),
    *(Quantizer(method, per_channel=True, bias_correction=True, rounding="learned") for method in ("mse", "absmax")),
)
BITS = (2, 3, 4, 5, 6, 8)
LEVELS = (100, 50, 20)
LOSSES = (0.3, 1.0)


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--libraries", type=Path, nargs="+", required=True, help="one per training seed")
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--searches", type=Path, default=Path("runs/quantizers"), help="folder of the searches")
    parser.add_argument("--generations", type=int, default=40, help="of each search; 0 leaves the searches out")
    parser.add_argument("--options", nargs="+", default=[label(option) for option in OPTIONS], help="that search")
    parser.add_argument("--images", type=int, default=2000, help="validation images that a search evaluates on")
    parser.add_argument("--output", type=Path, default=Path("docs/results/quantizers.md"))
    arguments = parser.parse_args()
    began = time.monotonic()
    with quiet_lightning():
        runs = [Run(path, arguments.data_dir, arguments.searches, arguments.images) for path in arguments.libraries]
        sections = []
        if arguments.generations:
            options = [option for option in OPTIONS if label(option) in arguments.options]
            sections += [
                hypervolume_table(runs, options, arguments.generations),
                factor_table(runs, options, arguments.generations),
            ]
        sections += [accuracy_tables(runs), targets(runs)]
    publish(page(runs, sections, time.monotonic() - began), arguments.output)


class FewerImages(ImageDataModule):
    """The data with some of the images that are not trained on, spread evenly over each split."""

    def __init__(self, config: DataConfig, images: int) -> None:
        super().__init__(config)
        self.most = images

    def load_split(self, split: Split) -> tuple[Tensor, Tensor]:
        return super().load_split(split) if split == "train" else self.load_some(split, self.most)


class Run:
    """One library with its images, copied so that its own searches stay as they are."""

    def __init__(self, path: Path, data_dir: str, searches: Path, images: int) -> None:
        # Levels that are added to a library while this runs must not change the comparison.
        name = hashlib.sha256((path / "library.json").read_bytes()).hexdigest()[:12]
        copy = searches / name / "library"
        if not copy.exists():
            shutil.copytree(path, copy)
        self.library = Library.open(copy)
        self.seed = int(self.library.manifest.settings["seed"])
        config = dataclasses.replace(DataConfig.from_dict(self.library.manifest.data), data_dir=data_dir)
        data = ImageDataModule(config)
        self.images, self.labels = load_split(data, "validation")
        self.fewer = FewerImages(config, images)
        self.network = library_network(self.library)
        self.fabric = Fabric(accelerator="cpu", devices=1)
        levels = [level for level in LEVELS if level in self.library.levels]
        graph = library_graph(self.library, self.network)
        self.inputs = calibrate(self.library, graph, data, self.fabric, levels, covariances=True)
        self._accuracies: dict[Quantizer, dict[tuple[int, int], float]] = {}
        self._searches: dict[tuple[Quantizer, int], Search] = {}

    def accuracies(self, option: Quantizer) -> dict[tuple[int, int], float]:
        """Return (level, bits) -> validation accuracy, percent, with the same bits in every layer."""
        if option not in self._accuracies:
            networks = CompressedNetworks(
                self.library, library_graph(self.library, self.network), option, inputs=self.inputs
            )
            batch_size = self.library.manifest.evaluation_batch_size
            evaluator = CandidateEvaluator(networks, self.images, self.labels, batch_size=batch_size)
            self._accuracies[option] = {
                (level, bits): 100 * evaluator.evaluate(Genotype(level, (bits,) * len(networks.layers))).accuracy
                for level in LEVELS
                for bits in (*BITS, UNCOMPRESSED_BITS)
            }
        return self._accuracies[option]

    def search(self, option: Quantizer, generations: int) -> Search:
        """Return a search with this quantizer."""
        if (option, generations) in self._searches:
            return self._searches[option, generations]
        config = SearchConfig(
            objectives=("accuracy", "energy", "size"),
            coding="best",
            number_generations=generations,
            quantizer=option.method,
            per_channel=option.per_channel,
            bias_correction=option.bias_correction,
            rounding=option.rounding,
            seed=self.seed,
        )
        name = label(option).replace(", ", "-").replace(" ", "_") + f"-{generations}x{self.fewer.most}"
        found = run_search(self.library, config, run=RunOptions(name=name, data=self.fewer, fabric=self.fabric))
        print(f"seed {self.seed}, {label(option)}: {found.statistics.hypervolume:.5f}", flush=True)
        self._searches[option, generations] = found
        return found

    def factors(self, option: Quantizer, generations: int) -> list[float]:
        """Return by how much the cheapest points within each of ``LOSSES`` of dense are cheaper: energy, then size."""
        search = self.search(option, generations)
        columns = search.cost_model.columns
        return [
            max(
                (
                    search.uncompressed[columns[cost]] / candidate.costs[columns[cost]]
                    for candidate in search.front
                    if candidate.accuracy >= search.dense_accuracy - loss / 100
                ),
                default=0.0,
            )
            for cost in ("energy", "size")
            for loss in LOSSES
        ]


def label(option: Quantizer) -> str:
    """Return what tables call an option."""
    parts = [option.method]
    parts += ["per channel"] if option.per_channel else []
    parts += ["bias correction"] if option.bias_correction else []
    parts += [option.rounding] if option.rounding != "nearest" else []
    return ", ".join(parts)


def factor_table(runs: list[Run], options: list[Quantizer], generations: int) -> str:
    """Return how much cheaper than dense the cheapest points of the same searches are."""
    rows = []
    for option in options:
        by_run = zip(*(run.factors(option, generations) for run in runs), strict=True)
        rows.append([label(option), *(f"{statistics.mean(values):.2f} ({min(values):.2f})" for values in by_run)])
    head = [f"{cost}, within {loss}" for cost in ("energy", "size") for loss in LOSSES]
    return (
        "Factor by which the cheapest points are cheaper than the dense network, within so many points of its "
        "validation accuracy; mean over the libraries, and in brackets the lowest.\n\n"
        + table(["quantizer", *head], rows)
    )


def accuracy_tables(runs: list[Run]) -> str:
    sections = [
        "## Validation accuracy, %, the same bits in every layer",
        f"Mean over {len(runs)} libraries, and in brackets the lowest of them.",
    ]
    for level in LEVELS:
        whole = statistics.mean(run.accuracies(OPTIONS[0])[level, UNCOMPRESSED_BITS] for run in runs)
        rows = []
        for option in OPTIONS:
            columns = [[run.accuracies(option)[level, bits] for run in runs] for bits in BITS]
            cells = [f"{statistics.mean(column):.2f} ({min(column):.2f})" for column in columns]
            rows.append([label(option), *cells])
        sections.append(f"### Density {level / 100} (not quantized: {whole:.2f})")
        sections.append(table(["quantizer", *(f"{bits} bits" for bits in BITS)], rows))
    return "\n\n".join(sections) + "\n"


def targets(runs: list[Run]) -> str:
    """State what the default costs at density 0.5, points of accuracy."""
    default = default_option()
    lines = [f"With the default ({label(default)}) at density 0.5, points of validation accuracy lost, by library:", ""]
    for bits, allowed in ((4, 0.3), (3, 1.0)):
        lost = [run.accuracies(default)[50, UNCOMPRESSED_BITS] - run.accuracies(default)[50, bits] for run in runs]
        lines.append(f"- {bits} bits: {', '.join(f'{value:.2f}' for value in lost)} (aim: at most {allowed})")
    return "\n".join(lines) + "\n"


def hypervolume_table(runs: list[Run], options: list[Quantizer], generations: int) -> str:
    by_run = [[run.search(option, generations).statistics.hypervolume for option in options] for run in runs]
    volumes = dict(zip(options, zip(*by_run, strict=True), strict=True))
    best = max(options, key=lambda option: statistics.mean(volumes[option]))
    reference = volumes[Quantizer("absmax")]
    rows = []
    for option in options:
        mean = statistics.mean(volumes[option])
        wins = sum(own > other for own, other in zip(volumes[option], reference, strict=True))
        left = (1 - mean) / (1 - statistics.mean(reference))
        name = f"**{label(option)}**" if option == best else label(option)
        by_seed = [f"{value:.5f}" for value in volumes[option]]
        rows.append([name, f"{mean:.5f}", *by_seed, f"{wins} of {len(runs)}", f"{100 * left:.1f} %"])
    head = ["quantizer", "mean", *(f"seed {run.seed}" for run in runs), "better than absmax in", "left"]
    return f"""## Whole searches

Accuracy, energy and size, exact accounting, coding best, dataflow xy, population 20, {generations} \
generations on {runs[0].fewer.most:,} of the validation images: equally many \
candidates in each search; the seed of a search is that of its library. Hypervolume: share of \
(error, energy / uncompressed, size / uncompressed) below (1, 1, 1) that the front dominates. \
`left` is what the mean leaves undominated, relative to absmax.

{table(head, rows)}

Best mean: {label(best)}. The default is {label(default_option())}.
"""


def default_option() -> Quantizer:
    """Return the quantizer that a search takes if told nothing."""
    config = SearchConfig()
    return Quantizer(config.quantizer, config.per_channel, config.bias_correction, rounding=config.rounding)


def page(runs: list[Run], sections: list[str], seconds: float) -> str:
    manifest = runs[0].library.manifest
    head = f"""# Quantizers on {manifest.network} / {manifest.data["dataset"]}

{made_by()} in {seconds / 60:.0f} min; {machine()}, torch {torch.__version__}. Libraries of the seeds \
{", ".join(str(run.seed) for run in runs)}; {len(runs[0].labels):,} validation images each.
"""
    return "\n".join([head, *sections])


if __name__ == "__main__":
    main()
