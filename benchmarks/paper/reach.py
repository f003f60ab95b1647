"""How far fronts reach with one way or another of making the levels, several seeds.

    python -m benchmarks.paper.reach --experiment lenet5_mnist --data_dir data --seeds 0 1 2
    python -m benchmarks.paper.reach --experiment vgg16_cifar10 --dataset imagefolder:data/cifar10-jpeg --seeds 0

Networks, images and dense training are those of the small budget of the paper's experiments. The ways of a seed start
from one dense network. A level by sensitivity saves either MACs or weights, so that these ways make one library for the
searches that trade accuracy for energy and one for those that trade it for size. Fine-tuned: the same library and
search, and then some epochs for the points that promise most. Each library is searched by the bytes
and counts of the exported file (exact) and by the paper's formulas. Times less are of the cheapest point whose
validation accuracy is at most 0.3 or 1 point below the dense network's; the test accuracy of that point stands beside.
A second table has the most accurate files of a few percent of the bytes. What is there already is not made again.
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
from benchmarks.common.recorded_search import recorded_search, stage_one_seconds
from benchmarks.common.settings import fields_in
from benchmarks.common.tables import csv_text, table
from benchmarks.paper.experiments import BUDGETS, TRADES, Budget, arm_stage_one
from benchmarks.paper.outcomes import Outcome, Trade
from emomc.common.files import write_text
from emomc.library.data_sources import library_data
from emomc.library.library import Library
from emomc.library.manifest import DENSE
from emomc.pretraining.prepare import prepare_library
from emomc.runtime.devices import Devices
from emomc.runtime.notices import quiet_lightning
from emomc.search.config import Finetuning, SearchConfig

LOSSES = (0.3, 1.0)
"""Percentage points below the dense network."""

SHARES = (9.0, 7.0, 6.0, 4.7)
"""Percent of the bytes of the uncompressed network."""

NO_LEVELS: Mapping[str, Any] = {"pre_prune_upper_bound": 100, "pre_prune_lower_bound": 100}


def _by_sensitivity(highest: int, lowest: int, ratio: float) -> dict[str, Any]:
    bounds = {"pre_prune_upper_bound": highest, "pre_prune_lower_bound": lowest, "pre_prune_ratio": ratio}
    return {"criterion": "sensitivity", "pre_prune_epochs": 4, **bounds}


LENET5 = _by_sensitivity(50, 5, 0.8)
CIFAR10: dict[str, Mapping[str, Any]] = {
    "layerwise, 80 to 20 %": {},
    "sensitivity": _by_sensitivity(70, 10, 0.85),
}
WAYS: dict[str, dict[str, Mapping[str, Any]]] = {
    "lenet5_mnist": {
        "layerwise, 80 to 20 %": {"pre_prune_epochs": 2},
        "layerwise, 80 to 2 %": {"pre_prune_lower_bound": 2, "pre_prune_step": 6},
        "sensitivity": LENET5,
        "sensitivity, fine-tuned": {**LENET5, "finetune_budget": 24},
        "sensitivity, 8 epochs": {**LENET5, "pre_prune_epochs": 8},
        "sensitivity, robust": {**LENET5, "robust": True},
    },
    "vgg16_cifar10": CIFAR10,
    "mobilenet_cifar10": CIFAR10,
}
"""Experiment -> name of a way -> its settings in place of those of the paper's experiment.

``finetune_budget`` is a setting of the search: epochs for points, one epoch each, after the search.
"""

TITLES = {
    "lenet5_mnist": "LeNet-5 on MNIST",
    "vgg16_cifar10": "VGG-16 of an eighth of its width on CIFAR-10 (JPEG)",
    "mobilenet_cifar10": "MobileNet of a quarter of its width on CIFAR-10 (JPEG)",
}


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


CASES = {
    case.label: case
    for case in (
        Case(Trade("energy", "xy"), "exact"),
        Case(Trade("size", "best"), "exact"),
        *(Case(trade, "paper") for trade in TRADES),
    )
}
FIRST = [label for label, case in CASES.items() if case.trade.variant in ("xy", "best", "csr")]


@dataclasses.dataclass(frozen=True)
class Reach:
    """A finished search and the way its library was made."""

    way: str
    case: Case
    outcome: Outcome


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--experiment", default="lenet5_mnist", choices=list(WAYS))
    parser.add_argument("--dataset", help="default: the experiment's")
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", metavar="WAY", help="default: all of the experiment's")
    parser.add_argument("--cases", nargs="+", default=FIRST, choices=list(CASES), metavar="CASE")
    parser.add_argument("--generations", type=int, help="default: the experiment's")
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--runs", type=Path, default=Path("runs/reach"))
    parser.add_argument("--output", type=Path, help="default: docs/results/reach_EXPERIMENT.md")
    arguments = parser.parse_args()
    ways = WAYS[arguments.experiment]
    if unknown := sorted({*(arguments.ways or ())} - {*ways}):
        parser.error(f"expected --ways among {', '.join(ways)}, found: {', '.join(unknown)}")
    arguments.ways = arguments.ways or list(ways)
    output = arguments.output or Path(f"docs/results/reach_{arguments.experiment}.md")
    reaches: list[Reach] = []
    with quiet_lightning():
        for reach in _searches(arguments):
            reaches.append(reach)
            print(" ".join([reach.way, reach.case.label, *_cells(reach)]), flush=True)
            write_text(output.with_suffix(".csv"), csv_text([_row(done) for done in reaches]))
            write_text(output, _page(arguments, reaches))
    publish(_page(arguments, reaches), None)


def _searches(arguments: argparse.Namespace) -> Iterator[Reach]:
    for seed in arguments.seeds:
        dense = _library(arguments, seed, f"dense-{seed}", NO_LEVELS)
        weights = str(dense.path / dense.record(DENSE).file)
        for way in arguments.ways:
            for case in map(CASES.__getitem__, arguments.cases):
                settings = {**WAYS[arguments.experiment][way], "weights": weights}
                budget = settings.pop("finetune_budget", None)
                finetuning = None if budget is None else Finetuning(1, budget=budget)
                name = way.removesuffix(", fine-tuned").replace("%", "").replace(",", "").split()
                if settings.get("criterion") == "sensitivity":
                    settings["pruning_cost"] = case.pruning_cost
                    name.append(case.pruning_cost)
                library = _library(arguments, seed, "-".join([*name, str(seed)]), settings)
                yield Reach(way, case, _search(arguments, library, case, seed, finetuning))


def _budget(arguments: argparse.Namespace) -> Budget:
    return BUDGETS[arguments.experiment]["small"]


def _library(arguments: argparse.Namespace, seed: int, name: str, settings: Mapping[str, Any]) -> Library:
    given = {"dataset": arguments.dataset, "data_dir": arguments.data_dir}
    given = {key: value for key, value in given.items() if value is not None}
    config, data = arm_stage_one(arguments.experiment, _budget(arguments), "emomc", seed, **given, **settings)
    trainer = {"limit_train_batches": _budget(arguments).images_per_epoch}
    devices = Devices(accelerator=arguments.accelerator, devices=1, trainer=trainer)
    return prepare_library(config, data, arguments.runs / arguments.experiment / name, devices=devices)


def _search(
    arguments: argparse.Namespace, library: Library, case: Case, seed: int, finetuning: Finetuning | None
) -> Outcome:
    trade = case.trade
    variant = {"dataflow": trade.variant} if trade.cost == "energy" else {"coding": trade.variant}
    values = {"objectives": ("accuracy", trade.cost), "accounting": case.accounting, **variant}
    generations = arguments.generations or _budget(arguments).number_generations
    config = SearchConfig(**fields_in(SearchConfig, {**values, "number_generations": generations}), seed=seed)
    front, work = recorded_search(
        library,
        config,
        f"{trade.cost}-{trade.variant}-{case.accounting}" + ("-finetuned" if finetuning else ""),
        data=library_data(library, data_dir=arguments.data_dir),
        accelerator=arguments.accelerator,
        finetuning=finetuning,
    )
    seconds = stage_one_seconds(library.path.parent)
    return Outcome("emomc", seed, trade, front, work, library.manifest.levels, seconds)


def _cheapest(outcome: Outcome, loss: float) -> Mapping[str, Any] | None:
    within = [point for point in outcome.front["points"] if outcome.loss_points(point, "validation") <= loss]
    return max(within, key=outcome.improvement, default=None)


def _cells(reach: Reach) -> list[str]:
    outcome = reach.outcome
    cells = []
    for loss in LOSSES:
        point = _cheapest(outcome, loss)
        cells.append("-" if point is None else _cell(outcome.improvement(point), point["test_accuracy"]))
    return [*cells, f"{outcome.hypervolume('validation'):.4f}", f"{outcome.hypervolume('test'):.4f}"]


def _cell(times_less: float, test_accuracy: float) -> str:
    return f"{times_less:.1f} ({100 * test_accuracy:.2f})"


def _row(reach: Reach) -> dict[str, Any]:
    outcome = reach.outcome
    row: dict[str, Any] = {"way": reach.way, "seed": outcome.seed, "trade": reach.case.label}
    for loss in LOSSES:
        point = _cheapest(outcome, loss)
        row[f"times_less_within_{loss:g}"] = "" if point is None else round(outcome.improvement(point), 2)
        row[f"test_accuracy_within_{loss:g}"] = "" if point is None else point["test_accuracy"]
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
    dense_epochs = arm_stage_one(arguments.experiment, _budget(arguments), "emomc", 0)[0].pre_train_epochs
    share = _budget(arguments).images_per_epoch
    part = f"; each epoch sees {100 * share:.0f} % of the training images" if share < 1 else ""
    head = ["trade", "way", "seed", "epochs of all levels", *(f"within {loss:g} points" for loss in LOSSES)]
    head += ["hypervolume, validation", "test"]
    rows = []
    for case in map(CASES.__getitem__, arguments.cases):
        for way in arguments.ways:
            own = [reach for reach in reaches if (reach.way, reach.case) == (way, case)]
            for reach in own:
                outcome = reach.outcome
                epochs = f"{outcome.fine_tuning_epochs}{_plus(WAYS[arguments.experiment][way])}"
                rows.append([case.label, way, str(outcome.seed), epochs, *_cells(reach)])
            if len(own) > 1:
                rows.append([case.label, way, "mean", "", *_means(own)])
    return f"""# How far fronts reach

{made_by()}; {machine(arguments.accelerator)}.

{TITLES[arguments.experiment]}, {baseline["validation_images"]} validation images; the dense network was trained for
{dense_epochs} epochs: {accuracies}, validation and test{part}. Each search asks for
{reaches[0].outcome.work["asked"]} candidates. Times less energy or bytes than the uncompressed network (32 bits, all
weights), of the cheapest point within so many points of the dense network's validation accuracy; in brackets its test
accuracy, percent (`-`: no point is that close). Hypervolume of (error, cost / uncompressed) against (1, 1).

{table(head, rows)}
{_small_files(reaches)}"""


def _plus(way: Mapping[str, Any]) -> str:
    return f" + {way['finetune_budget']}" if "finetune_budget" in way else ""


def _small_files(reaches: list[Reach]) -> str:
    """Return a table of the most accurate files within ``SHARES``, chosen by validation; nothing without such files."""
    exact = [reach for reach in reaches if reach.case.trade == Trade("size", "best")]
    if not exact:
        return ""
    rows = []
    for reach in exact:
        cells = []
        for share in SHARES:
            outcome = reach.outcome
            bound = share / 100 * outcome.uncompressed_cost
            within = [point for point in outcome.front["points"] if point["size_kib"] <= bound]
            best = max(within, key=lambda point: point["validation_accuracy"], default=None)
            accuracies = [] if best is None else [best[f"{images}_accuracy"] for images in ("validation", "test")]
            cells.append(" ".join(f"{100 * accuracy:.2f}" for accuracy in accuracies) or "-")
        rows.append([reach.way, str(reach.outcome.seed), *cells])
    kib = exact[0].outcome.uncompressed_cost
    return f"""
Validation and test accuracy, percent, of the most accurate file of at most so many percent of the {kib:.1f} KiB of the
uncompressed network, chosen by validation:

{table(["way", "seed", *(f"{share:g} %" for share in SHARES)], rows)}
"""


def _means(reaches: list[Reach]) -> list[str]:
    outcomes = [reach.outcome for reach in reaches]
    cells = []
    for loss in LOSSES:
        cheapest = [(outcome, point) for outcome in outcomes if (point := _cheapest(outcome, loss)) is not None]
        factors = [outcome.improvement(point) for outcome, point in cheapest]
        accuracies = [point["test_accuracy"] for _, point in cheapest]
        cells.append(_cell(mean(factors), mean(accuracies)) if len(cheapest) == len(outcomes) else "-")
    volumes = [mean(outcome.hypervolume(images) for outcome in outcomes) for images in ("validation", "test")]
    return [*cells, *(f"{volume:.4f}" for volume in volumes)]


if __name__ == "__main__":
    main()
