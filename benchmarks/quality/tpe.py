"""Compare how fast the hypervolume grows with our search and with Optuna's multivariate TPE, over the same evaluation.

    pip install -e '.[optuna]'
    python -m benchmarks.quality.tpe --library runs/lenet5-mnist/library --data_dir data

TPE (tree-structured Parzen estimator: Ozaki et al., "Multiobjective Tree-Structured Parzen Estimator", JAIR 73, 2022)
asks for one candidate at a time and knows the results of all others; our search asks for 20 at a time. Both have the
same levels, bits, quantizer and cost model. A candidate that is asked for again counts once. Accuracies are kept in a
log beside the library, so that what one arm measured the others need not. Writes ``docs/results/search_vs_tpe.md``.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from lightning_fabric import Fabric

from benchmarks.common.command_line import argument_parser
from benchmarks.common.page import machine, made_by, publish
from benchmarks.common.tables import table
from emomc.candidates.calibration import calibrate
from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.cost_model import CostModel
from emomc.candidates.evaluation_log import EvaluationLog
from emomc.candidates.evaluator import CandidateEvaluator
from emomc.candidates.genotype import Genotype, SearchSpace
from emomc.common.pareto import hypervolume
from emomc.common.run_folder import RunFolder
from emomc.common.versions import versions
from emomc.data.splits import load_split
from emomc.hardware.description import load_hardware
from emomc.library.data_sources import library_data
from emomc.library.library import Library
from emomc.library.network_sources import library_graph
from emomc.runtime.notices import quiet_lightning
from emomc.search.config import SearchConfig
from emomc.search.loop import SearchLoop
from emomc.search.processes import Processes
from emomc.search.run import search_space
from emomc.search.state import Search

TRADES = {"Accuracy and energy (X|Y)": ("energy", "normal"), "Accuracy and size (best coding)": ("size", "best")}
"""What is traded -> the objective beside accuracy, and the coding."""

COUNTS = (100, 200, 400, 600)


class Tpe:
    """Optuna's sampler in place of an ``Evolution``."""

    ranks_by_dominance = False

    def __init__(self, space: SearchSpace, seed: int, candidates: int) -> None:
        import optuna  # here, so that --help works without it

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        sampler = optuna.samplers.TPESampler(multivariate=True, seed=seed)
        self._study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
        self._space = space
        self._candidates = candidates
        self._asked: set[Genotype] = set()

    def ask(self) -> list[Genotype] | None:
        if len(self._asked) == self._candidates:
            return None
        self._trial = self._study.ask()
        level = self._trial.suggest_int("level", 0, len(self._space.levels) - 1)
        bits = [
            self._trial.suggest_int(layer, self._space.min_bits, self._space.max_bits) for layer in self._space.layers
        ]
        genotype = Genotype(self._space.levels[level], tuple(bits))
        self._asked.add(genotype)
        return [genotype]

    def tell(self, losses: np.ndarray, violations: np.ndarray) -> None:
        self._study.tell(self._trial, losses[0].tolist())


class Bench:
    """One library and trade, whose accuracies are kept in a log."""

    def __init__(self, library: Library, data_dir: str, objective: str, coding: str) -> None:
        self.settings = {"objectives": ("accuracy", objective), "coding": coding}
        config = SearchConfig(**self.settings)
        data, graph = library_data(library, data_dir=data_dir), library_graph(library)
        images, labels = load_split(data, "validation")
        self.fabric = Fabric(accelerator="cpu", devices=1)
        levels = search_space(library, config).levels
        inputs = calibrate(library, graph, data, self.fabric, levels)
        networks = CompressedNetworks(library, graph, config.quantization, inputs=inputs)
        self.cost_model = CostModel(networks, load_hardware(config.hardware), dataflow=config.dataflow, coding=coding)
        batch_size = library.manifest.evaluation_batch_size
        self.evaluator = CandidateEvaluator(networks, images, labels, batch_size=batch_size)
        self.library = library
        self.folder = RunFolder.of_library(library.path).search("tpe")
        self.log = EvaluationLog(self.folder.log, library, {"of": "tpe"}, versions(), images=len(labels))

    def volumes(self, arm: str, seed: int, counts: Sequence[int]) -> list[float]:
        """Return the hypervolume after so many distinct candidates."""
        # A first population counts as two generations.
        generations = math.ceil(max(counts) / SearchConfig.population_size) - 1
        config = SearchConfig(**self.settings, seed=seed, number_generations=generations)
        search = Search(self.library, config, self.folder, search_space(self.library, config), self.cost_model)
        processes = Processes(self.fabric, lambda: False)
        loop = SearchLoop(search, self.evaluator, self.log, (), processes, early_rejection=False)
        if arm == "TPE":
            loop.evolution = Tpe(search.space, seed, max(counts))
        loop.run()
        losses = search.normalised_losses(search.candidates)
        return [hypervolume(losses[:count], [1.0, 1.0]) for count in counts]


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--library", type=Path, default=Path("runs/lenet5-mnist/library"))
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--output", type=Path, default=Path("docs/results/search_vs_tpe.md"))
    arguments = parser.parse_args()
    if importlib.util.find_spec("optuna") is None:
        parser.error("expected the package optuna (pip install -e '.[optuna]'), found none")
    library = Library.open(arguments.library)
    parts = []
    for trade, (objective, coding) in TRADES.items():
        with quiet_lightning():
            bench = Bench(library, arguments.data_dir, objective, coding)
            found = {
                (arm, seed): bench.volumes(arm, seed, arguments.counts)
                for arm in ("ours", "TPE")
                for seed in arguments.seeds
            }
        parts.append(f"## {trade}\n\n{_table(found, arguments.counts)}")
    publish(_page(library, parts), arguments.output)


def _table(found: dict[tuple[str, int], list[float]], counts: Iterable[int]) -> str:
    rows = []
    for arm in ("ours", "TPE"):
        own = {seed: volumes for (whose, seed), volumes in found.items() if whose == arm}
        rows += [[arm, str(seed), *(f"{volume:.5f}" for volume in volumes)] for seed, volumes in own.items()]
        rows.append([arm, "**mean**", *(f"**{mean:.5f}**" for mean in np.mean(list(own.values()), axis=0))])
    return table(["search", "seed", *(f"after {count}" for count in counts)], rows)


def _page(library: Library, parts: Sequence[str]) -> str:
    levels = ", ".join(map(str, library.levels))
    tables = "\n\n".join(parts)
    return f"""# Our search and Optuna's TPE

{made_by()}; {machine()}, Optuna {importlib.metadata.version("optuna")}.
{library.manifest.network} on {library.manifest.data["dataset"]}, levels {levels} %.

Hypervolume of (error, cost / uncompressed) against (1, 1) after so many distinct candidates. TPE is Optuna's
`TPESampler(multivariate=True)`, one candidate at a time; ours asks for 20 at a time, after a first population of 40.

{tables}
"""


if __name__ == "__main__":
    main()
