"""From the paper's reference settings to ours, one change at a time: LeNet-5 on MNIST.

    python -m benchmarks.paper.ablations --data_dir data --seeds 0

Every row keeps the changes of the rows above it: the first row has the reference's settings, the last one ours. Side
steps follow, each of which changes one thing in one of these rows. All libraries start from one dense network (trained
as ours is) and spend the same epochs on a level, so the reference's 32 epochs are cut to that. All searches trade
accuracy for energy (X|Y) by the paper's formulas. Each row searches its own copy of its library, so that no search
learns from another's log, and every count and time is what that row alone takes. Takes about 20 minutes on one core.
What is there already is not made again. Writes ``docs/results/ablations.md`` and ``.csv``.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
from pathlib import Path
from typing import Any

from benchmarks.common.command_line import argument_parser, command
from benchmarks.common.page import machine, made_by, publish
from benchmarks.common.recorded_search import recorded_search, stage_one_seconds
from benchmarks.common.settings import fields_in, shipped_settings, stage_one_configs
from benchmarks.common.tables import csv_text, table
from benchmarks.paper.outcomes import Outcome, Trade
from emomc.common.files import write_text
from emomc.library.data_sources import library_data
from emomc.library.library import Library
from emomc.library.manifest import DENSE
from emomc.pretraining.prepare import prepare_library
from emomc.runtime.devices import Devices
from emomc.runtime.notices import quiet_lightning
from emomc.search.config import SearchConfig

RATE = ("optimizer", "learning_rate", "weight_decay", "schedule", "pre_prune_learning_rate")
CHAIN = ("pre_prune_schedule",)
IMAGES = ("augment",)
QUANTIZER = ("per_channel", "bias_correction", "scales")
ROUNDING = ("quantizer", "rounding")
VARIATION = ("variation",)
SPACING = ("pre_prune_upper_bound", "pre_prune_lower_bound", "pre_prune_step", "pre_prune_ratio")
SENSITIVITY = ("criterion", "pruning_cost", *SPACING)
TRADE = Trade("energy", "xy")
LEVELS = {"pre_prune_upper_bound": 80, "pre_prune_lower_bound": 20, "pre_prune_step": 5}
NO_LEVELS = {"pre_prune_upper_bound": 100, "pre_prune_lower_bound": 100}


@dataclasses.dataclass(frozen=True)
class Step:
    """One row of the page: some settings are ours, all others are the reference's."""

    name: str
    what: str
    """What was changed, as the page says it."""
    ours: tuple[str, ...] = ()
    """Names of the settings that have our value."""
    further: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Settings that differ from the reference's and from ours."""
    early_rejection: bool = True


PATH = (
    Step("reference", "the reference's settings"),
    Step("rate", "learning rate that is alive: AdamW, one cycle of 0.002 a level", RATE),
    Step("chain", "each level from the one above", RATE + CHAIN),
    Step("images", "training images shifted at random: our library", RATE + CHAIN + IMAGES),
    Step("quantizer", "one step a channel, biases corrected, both in float16", RATE + CHAIN + IMAGES + QUANTIZER),
    Step(
        "rounding",
        "steps of least squared error, rounding learned",
        RATE + CHAIN + IMAGES + QUANTIZER + ROUNDING,
    ),
    Step(
        "variation",
        "start by sensitivity, whole steps",
        RATE + CHAIN + IMAGES + QUANTIZER + ROUNDING + VARIATION,
    ),
    Step(
        "levels",
        "weights removed where they are worth least for their MACs, 50 to 5 %: our settings",
        RATE + CHAIN + IMAGES + QUANTIZER + ROUNDING + VARIATION + SENSITIVITY,
    ),
)
"""From the reference to ours."""

EVEN = next(step for step in PATH if step.name == "variation").ours
"""What is ours where all layers lose the same share."""

ASIDE = (
    Step("chain-alone", "`reference`, but each level from the one above", CHAIN),
    Step("variation-alone", "`reference`, but our start and operators", VARIATION),
    Step(
        "unshifted",
        "`variation`, but training images are not shifted",
        RATE + CHAIN + QUANTIZER + ROUNDING + VARIATION,
    ),
    Step("lamp", "`variation`, but weights removed by LAMP score", EVEN, {"criterion": "lamp"}),
    Step("all-images", "`variation`, but every candidate sees all images", EVEN, early_rejection=False),
)
"""One change away from a row of the path, which the text names."""


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=2, help="per level, in every row")
    parser.add_argument("--dense_epochs", type=int, default=20, help="of the dense network that all rows share")
    parser.add_argument("--generations", type=int, default=20)
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--output", type=Path, default=Path("docs/results/ablations.md"))
    arguments = parser.parse_args()
    with quiet_lightning():
        outcomes = [_outcome(arguments, step, seed) for seed in arguments.seeds for step in (*PATH, *ASIDE)]
    write_text(arguments.output.with_suffix(".csv"), csv_text([_row(outcome) for outcome in outcomes]))
    publish(_page(arguments, outcomes), arguments.output)


def _outcome(arguments: argparse.Namespace, step: Step, seed: int) -> Outcome:
    """Make a row's library or copy that of a row that has the same, and search it."""
    settings = step_settings(step, "pretrain")
    shared = next(other for other in (*PATH, *ASIDE) if step_settings(other, "pretrain") == settings)
    dense, _ = _library(arguments, seed, {**_all_settings("lenet5_mnist", "pretrain"), **NO_LEVELS}, "dense")
    weights = str(dense.path / dense.record(DENSE).file)
    levels = {} if set(SENSITIVITY) <= set(step.ours) else LEVELS
    settings |= {**levels, "pre_prune_epochs": arguments.epochs, "weights": weights}
    library, seconds = _library(arguments, seed, settings, shared.name)
    if shared != step:
        copy = arguments.runs / f"{step.name}-{seed}" / "library"
        shutil.copytree(library.path, copy, dirs_exist_ok=True)
        library = Library.open(copy)
    front, work = recorded_search(
        library,
        step_search(step, arguments.generations, seed),
        "ablation",
        data=library_data(library, data_dir=arguments.data_dir),
        accelerator=arguments.accelerator,
        early_rejection=step.early_rejection,
    )
    outcome = Outcome(step.name, seed, TRADE, front, work, library.manifest.levels, seconds)
    print(f"seed {seed}, {step.name}: {outcome.hypervolume('validation'):.5f}", flush=True)
    return outcome


def step_settings(step: Step, section: str) -> dict[str, Any]:
    """Return one section's settings of a row: the reference's, ours where the row says so."""
    reference, ours = _all_settings("lenet5_mnist_reference", section), _all_settings("lenet5_mnist", section)
    changed = {**{name: ours[name] for name in step.ours if name in ours}, **step.further}
    return {**reference, **{name: value for name, value in changed.items() if name in reference}}


def step_search(step: Step, generations: int, seed: int) -> SearchConfig:
    """Return the search of a row: its own way to search, the same problem in every row."""
    problem = {"objectives": ("accuracy", TRADE.cost), "dataflow": TRADE.variant, "size_constraint": None}
    values = {**step_settings(step, "search"), **problem, "number_generations": generations, "seed": seed}
    return SearchConfig(**fields_in(SearchConfig, values))


def _library(
    arguments: argparse.Namespace, seed: int, settings: dict[str, Any], name: str
) -> tuple[Library, float | None]:
    run = arguments.runs / f"{name}-{seed}"
    given = {"dataset": arguments.dataset, "data_dir": arguments.data_dir, "seed": seed}
    config, data = stage_one_configs({**settings, "pre_train_epochs": arguments.dense_epochs, **given})
    library = prepare_library(config, data, run, devices=Devices(accelerator=arguments.accelerator, devices=1))
    return library, stage_one_seconds(run)


def _all_settings(config: str, section: str) -> dict[str, Any]:
    """Return the settings of a shipped configuration with the defaults of what it leaves out."""
    shipped = shipped_settings(config, section)
    if section == "search":
        return dataclasses.asdict(SearchConfig(**fields_in(SearchConfig, shipped)))
    preparation, data = stage_one_configs(shipped)
    return {**dataclasses.asdict(preparation), **dataclasses.asdict(data)}


def _page(arguments: argparse.Namespace, outcomes: list[Outcome]) -> str:
    images = outcomes[0].front["baseline"]["validation_images"]
    versions = ", ".join(f"{name} {value}" for name, value in outcomes[0].front["versions"].items())
    return f"""# From the reference to ours, one change at a time

{made_by()}; {machine(arguments.accelerator)}; {versions}.

LeNet-5 on {outcomes[0].front["dataset"]}, {images} validation images. Hypervolume of (error, energy / uncompressed)
against (1, 1), X|Y, the paper's formulas; by the validation images, which the search sees, and by the test images,
which the final front alone is run over. All rows prune the same dense network with {arguments.epochs} epochs a level
(the reference: 32), all but `levels` to the same 13 levels, and ask for {outcomes[0].work["asked"]} candidates. Seconds
are of a machine that may have been shared.

## The path

Each row has the changes of the rows above it.

{_table(PATH, outcomes, add_change=True)}

## Side steps

{_table(ASIDE, outcomes, add_change=False)}
"""


def _table(steps: tuple[Step, ...], outcomes: list[Outcome], *, add_change: bool) -> str:
    rows, before = [], None
    for step in steps:
        own = [outcome for outcome in outcomes if outcome.arm == step.name]
        validation, test = (
            _mean([outcome.hypervolume(images) for outcome in own]) for images in ("validation", "test")
        )
        change = [("" if before is None else f"{validation - before:+.5f}")] if add_change else []
        before = validation
        training = [outcome.stage_one_seconds for outcome in own if outcome.stage_one_seconds is not None]
        work = [f"{_mean([outcome.work[key] for outcome in own]):.0f}" for key in ("measured", "images", "seconds")]
        cells = [step.name, step.what, f"{validation:.5f}", *change, f"{test:.5f}"]
        epochs = f"{own[0].fine_tuning_epochs}"
        rows.append([*cells, epochs, f"{_mean(training):.0f}" if training else "-", *work])
    head = ["row", "settings", "hypervolume, validation", *(["change"] if add_change else []), "test"]
    head += ["epochs of levels", "training, s", "candidates measured", "images seen", "search, s"]
    return table(head, rows)


def _row(outcome: Outcome) -> dict[str, Any]:
    """Return one line of the table: hypervolumes 0..1."""
    return {
        "row": outcome.arm,
        "seed": outcome.seed,
        "hypervolume_validation": outcome.hypervolume("validation"),
        "hypervolume_test": outcome.hypervolume("test"),
        **outcome.work_columns,
        "command": command(),
    }


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    main()
