"""How far fronts reach with one way or another of making the levels: LeNet-5 on MNIST, several seeds.

    python -m benchmarks.paper.reach --data_dir data --seeds 0 1 2

The ways of a seed start from one dense network. A level by sensitivity saves either MACs or weights, so that these ways
make one library for the searches that trade accuracy for energy and one for those that trade it for size. Each library
is searched by the bytes and counts of the exported file (exact) and by the paper's formulas. Times less are of the
cheapest point whose validation accuracy is at most 0.3 or 1 point below the dense network's; the test accuracy of that
point stands beside. What is there already is not made again.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.common.command_line import argument_parser
from benchmarks.common.page import machine, made_by, publish
from benchmarks.common.settings import fields_in, shipped_settings, stage_one_configs
from benchmarks.common.tables import csv_text, table
from benchmarks.paper.outcomes import Outcome, Trade
from benchmarks.paper.recorded_search import recorded_search, stage_one_seconds
from emomc.common.files import write_text
from emomc.library.library import Library
from emomc.library.manifest import DENSE
from emomc.library.sources import library_data
from emomc.pretraining.prepare import prepare_library
from emomc.runtime.devices import Devices
from emomc.runtime.notices import quiet_lightning
from emomc.search.config import SearchConfig

LOSSES = (0.3, 1.0)
"""Percentage points below the dense network."""

EVEN: Mapping[str, Any] = {"criterion": "layerwise", "pre_prune_upper_bound": 80, "pre_prune_ratio": None}
BY_SENSITIVITY: Mapping[str, Any] = {
    "criterion": "sensitivity",
    "pre_prune_upper_bound": 50,
    "pre_prune_lower_bound": 5,
    "pre_prune_ratio": 0.8,
    "pre_prune_epochs": 4,
}
WAYS: dict[str, Mapping[str, Any]] = {
    "layerwise, 80 to 20 %": {**EVEN, "pre_prune_lower_bound": 20, "pre_prune_step": 5, "pre_prune_epochs": 2},
    "layerwise, 80 to 2 %": {**EVEN, "pre_prune_lower_bound": 2, "pre_prune_step": 6, "pre_prune_epochs": 4},
    "sensitivity": BY_SENSITIVITY,
    "sensitivity, robust": {**BY_SENSITIVITY, "robust": True},
}
"""Name of a way -> its settings."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One trade and how its cost is counted."""

    trade: Trade
    accounting: str

    @property
    def label(self) -> str:
        """Name for people."""
        return f"{self.trade.label} ({self.accounting})" if self.trade.variant != "best" else "size, best (exact)"

    @property
    def pruning_cost(self) -> str:
        """What the levels save for this trade."""
        return "macs" if self.trade.cost == "energy" else "weights"


CASES = (
    Case(Trade("energy", "xy"), "exact"),
    Case(Trade("size", "best"), "exact"),
    Case(Trade("energy", "xy"), "paper"),
    Case(Trade("size", "csr"), "paper"),
)


@dataclasses.dataclass(frozen=True)
class Reach:
    """A finished search and the way its library was made."""

    way: str
    case: Case
    outcome: Outcome


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS), metavar="WAY")
    parser.add_argument("--dense_epochs", type=int, default=20)
    parser.add_argument("--generations", type=int, default=60)
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--runs", type=Path, default=Path("runs/reach"))
    parser.add_argument("--output", type=Path, default=Path("docs/results/reach.md"))
    arguments = parser.parse_args()
    reaches: list[Reach] = []
    with quiet_lightning():
        for reach in _searches(arguments):
            reaches.append(reach)
            print(" ".join([reach.way, reach.case.label, *_cells(reach)]), flush=True)
            write_text(arguments.output.with_suffix(".csv"), csv_text([_row(done) for done in reaches]))
            write_text(arguments.output, _page(arguments, reaches))
    publish(_page(arguments, reaches), None)


def _searches(arguments: argparse.Namespace) -> Iterator[Reach]:
    for seed in arguments.seeds:
        none = {**EVEN, "pre_prune_upper_bound": 100, "pre_prune_lower_bound": 100}
        dense = _library(arguments, seed, f"dense-{seed}", none)
        weights = str(dense.path / dense.record(DENSE).file)
        for way in arguments.ways:
            for case in CASES:
                settings = {**WAYS[way], "weights": weights, "pruning_cost": case.pruning_cost}
                by_cost = settings["criterion"] == "sensitivity"
                name = "-".join([*way.replace("%", "").replace(",", "").split(), *([case.pruning_cost] * by_cost)])
                if not by_cost:
                    del settings["pruning_cost"]
                library = _library(arguments, seed, f"{name}-{seed}", settings)
                yield Reach(way, case, _search(arguments, library, case, seed))


def _library(arguments: argparse.Namespace, seed: int, name: str, settings: Mapping[str, Any]) -> Library:
    given = {"data_dir": arguments.data_dir, "seed": seed, "pre_train_epochs": arguments.dense_epochs}
    config, data = stage_one_configs({**shipped_settings("lenet5_mnist", "pretrain"), **given, **settings})
    devices = Devices(accelerator=arguments.accelerator, devices=1)
    return prepare_library(config, data, arguments.runs / name, devices=devices)


def _search(arguments: argparse.Namespace, library: Library, case: Case, seed: int) -> Outcome:
    trade = case.trade
    variant = {"dataflow": trade.variant} if trade.cost == "energy" else {"coding": trade.variant}
    values = {"objectives": ("accuracy", trade.cost), "accounting": case.accounting, **variant}
    config = SearchConfig(**fields_in(SearchConfig, {**values, "number_generations": arguments.generations}), seed=seed)
    front, work = recorded_search(
        library,
        config,
        f"{trade.cost}-{trade.variant}-{case.accounting}",
        data=library_data(library, data_dir=arguments.data_dir),
        accelerator=arguments.accelerator,
    )
    seconds = stage_one_seconds(library.path.parent)
    return Outcome("emomc", seed, trade, front, work, library.manifest.levels, seconds)


def _cheapest(outcome: Outcome, loss: float) -> Mapping[str, Any]:
    within = [point for point in outcome.front["points"] if outcome.loss_points(point, "validation") <= loss]
    return max(within, key=outcome.improvement)


def _cells(reach: Reach) -> list[str]:
    cells = []
    for loss in LOSSES:
        point = _cheapest(reach.outcome, loss)
        cells.append(f"{reach.outcome.improvement(point):.1f} ({100 * point['test_accuracy']:.2f})")
    return [*cells, f"{reach.outcome.hypervolume('validation'):.4f}", f"{reach.outcome.hypervolume('test'):.4f}"]


def _row(reach: Reach) -> dict[str, Any]:
    outcome = reach.outcome
    row: dict[str, Any] = {"way": reach.way, "seed": outcome.seed, "trade": reach.case.label}
    for loss in LOSSES:
        point = _cheapest(outcome, loss)
        row[f"times_less_within_{loss:g}"] = round(outcome.improvement(point), 2)
        row[f"test_accuracy_within_{loss:g}"] = point["test_accuracy"]
    row["hypervolume_validation"] = round(outcome.hypervolume("validation"), 5)
    row["hypervolume_test"] = round(outcome.hypervolume("test"), 5)
    return {**row, **outcome.work_columns}


def _page(arguments: argparse.Namespace, reaches: list[Reach]) -> str:
    baseline = reaches[0].outcome.front["baseline"]
    dense = {reach.outcome.seed: reach.outcome.front["baseline"] for reach in reaches}
    accuracies = ", ".join(
        f"{100 * values['validation_accuracy']:.2f} and {100 * values['test_accuracy']:.2f} % (seed {seed})"
        for seed, values in dense.items()
    )
    head = ["trade", "way", "seed", "epochs of the library's levels", *(f"within {loss:g} points" for loss in LOSSES)]
    head += ["hypervolume, validation", "test"]
    rows = []
    for case in CASES:
        for way in arguments.ways:
            own = [reach for reach in reaches if (reach.way, reach.case) == (way, case)]
            for reach in own:
                outcome = reach.outcome
                rows.append([case.label, way, str(outcome.seed), str(outcome.fine_tuning_epochs), *_cells(reach)])
            if len(own) > 1:
                rows.append([case.label, way, "mean", "", *_means(own)])
    return f"""# How far fronts reach

{made_by()}; {machine(arguments.accelerator)}.

LeNet-5 on {reaches[0].outcome.front["dataset"]}, {baseline["validation_images"]} validation images; the dense network
was trained for {arguments.dense_epochs} epochs: {accuracies}, validation and test. Each search asks for
{reaches[0].outcome.work["asked"]} candidates. Times less energy or bytes than the uncompressed network (32 bits, all
weights), of the cheapest point within so many points of the dense network's validation accuracy; in brackets its test
accuracy, percent. Hypervolume of (error, cost / uncompressed) against (1, 1).

{table(head, rows)}
"""


def _means(reaches: list[Reach]) -> list[str]:
    outcomes = [reach.outcome for reach in reaches]
    cells = []
    for loss in LOSSES:
        points = [(_cheapest(outcome, loss), outcome) for outcome in outcomes]
        factor = mean(outcome.improvement(point) for point, outcome in points)
        cells.append(f"{factor:.1f} ({100 * mean(point['test_accuracy'] for point, _ in points):.2f})")
    volumes = [mean(outcome.hypervolume(images) for outcome in outcomes) for images in ("validation", "test")]
    return [*cells, *(f"{volume:.4f}" for volume in volumes)]


if __name__ == "__main__":
    main()
