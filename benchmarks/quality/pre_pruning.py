"""Compare the schedules of stage I, chain and restart, and its pruning criteria.

    python -m benchmarks.quality.pre_pruning --data_dir data --seeds 0 1 2
    python -m benchmarks.quality.pre_pruning --config vgg16_cifar10 --dataset imagefolder:DIR --seeds 0 --parts chain \\
        --levels 10 5 --accelerator gpu --precision bf16-mixed --output docs/results/pre_pruning_vgg16.md

The network, data and training are those of a shipped configuration, LeNet-5 on MNIST unless another is named.

Every library is made by ``emomc-pretrain``'s own function in ``--runs``; one that is there already is not made again,
and its seconds are those of the run that made it. Writes ``docs/results/pre_pruning.md``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from benchmarks.common.command_line import argument_parser
from benchmarks.common.libraries import level_accuracies
from benchmarks.common.page import machine, made_by, publish
from benchmarks.common.reference_lenet5 import TEST_ACCURACY_PERCENT
from benchmarks.common.settings import shipped_settings, stage_one_configs
from benchmarks.common.tables import table
from emomc.common.files import write_json
from emomc.compression.criteria import SENSITIVITY
from emomc.library.data_sources import library_data
from emomc.library.library import Library
from emomc.library.manifest import DENSE
from emomc.pretraining.prepare import prepare_library
from emomc.runtime.devices import Devices
from emomc.runtime.notices import quiet_lightning
from emomc.search.config import SearchConfig
from emomc.search.options import RunOptions
from emomc.search.run import run_search

CRITERION_SETTINGS: dict[str, dict[str, str]] = {
    **{name: {"criterion": name} for name in ("layerwise", "global", "lamp", "macs")},
    **{
        f"{SENSITIVITY}, {cost}": {"criterion": SENSITIVITY, "pruning_cost": cost}
        for cost in ("both", "macs", "weights")
    },
}
"""Name of a row -> the settings of its libraries."""
SPARSE_LEVELS = (50, 20, 10, 5, 2)


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--config", default="lenet5_mnist", help="shipped configuration of network, data and training")
    parser.add_argument("--dataset", help="in place of the configuration's")
    parser.add_argument("--network_args", type=json.loads, default={}, help="JSON, such as '{\"width\": 0.25}'")
    parser.add_argument("--pre_train_epochs", type=int, help="in place of the configuration's")
    parser.add_argument("--levels", type=int, nargs="*", default=[], help="further levels of the chain, percent")
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--runs", type=Path, default=Path("runs/pre_pruning"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--parts", nargs="+", default=["chain", "restart", "criteria"])
    parser.add_argument("--restart_epochs", type=int, default=4, help="epochs per level of the restart schedule")
    parser.add_argument("--criteria_epochs", type=int, default=3, help="epochs per level when criteria are compared")
    parser.add_argument("--generations", type=int, default=40, help="of the search that compares criteria")
    parser.add_argument("--output", type=Path, default=Path("docs/results/pre_pruning.md"))
    arguments = parser.parse_args()
    sections = []
    with quiet_lightning():
        chains = {seed: _chain(arguments, seed) for seed in arguments.seeds}
        sections.append(_schedule_table("chain", chains))
        if "restart" in arguments.parts:
            restarts = {seed: _restart(arguments, seed, chains[seed]["library"]) for seed in arguments.seeds[:1]}
            sections.append(_schedule_table(f"restart, {arguments.restart_epochs} epochs a level", restarts))
        if "criteria" in arguments.parts:
            sections.append(_criteria_table(arguments, chains))
        library = chains[arguments.seeds[0]]["library"]
    publish(_page(sections, library), arguments.output)


def _chain(arguments: argparse.Namespace, seed: int) -> dict:
    return _library(arguments, f"chain-{seed}", seed, further_levels=tuple(arguments.levels))


def _restart(arguments: argparse.Namespace, seed: int, dense: Library) -> dict:
    return _library(
        arguments,
        f"restart-{seed}",
        seed,
        weights=str(dense.path / dense.record(DENSE).file),
        pre_prune_schedule="restart",
        pre_prune_epochs=arguments.restart_epochs,
    )


def _library(
    arguments: argparse.Namespace,
    name: str,
    seed: int,
    levels: tuple = (),
    further_levels: tuple = (),
    **settings,
) -> dict:
    """Make a library, or take the one that is there; return it with accuracies (percent) and seconds."""
    folder = arguments.runs / name
    timing = folder / "seconds.json"
    base = shipped_settings(arguments.config, "pretrain")
    given = {"dataset": arguments.dataset, "pre_train_epochs": arguments.pre_train_epochs}
    base |= {key: value for key, value in given.items() if value is not None}
    base |= {"criterion": "layerwise", "pre_prune_ratio": None}
    common = {**base, "network_args": arguments.network_args, "data_dir": arguments.data_dir, "seed": seed, **settings}
    devices = Devices(accelerator=arguments.accelerator, devices=1, precision=arguments.precision)
    began = time.monotonic()
    bounds = [(level, level) for level in levels] or [(80, 20), *((level, level) for level in further_levels)]
    for high, low in bounds:
        span = {"pre_prune_upper_bound": high, "pre_prune_lower_bound": low, "pre_prune_step": 5}
        config, data = stage_one_configs({**common, **span})
        library = prepare_library(config, data, folder, devices=devices)
    if not timing.exists():
        write_json(timing, time.monotonic() - began)
    print(f"{name}: {json.loads(timing.read_text()):.0f} s", flush=True)
    return {
        "library": library,
        "seconds": json.loads(timing.read_text()),
        "validation": {p: 100 * library.record(p).validation_accuracy for p in library.levels},
        "test": level_accuracies(library, arguments.data_dir),
        "epochs": sum(record.epochs for record in library.manifest.levels if record.percent != DENSE),
    }


def _schedule_table(title: str, runs: dict[int, dict]) -> str:
    seeds = list(runs)
    on_mnist = runs[seeds[0]]["library"].manifest.data["dataset"] == "mnist"
    reference_of = TEST_ACCURACY_PERCENT.get if on_mnist else {}.get
    rows = []
    for level in runs[seeds[0]]["test"]:
        tests = [runs[seed]["test"][level] for seed in seeds]
        mean = sum(tests) / len(tests)
        reference = reference_of(level)
        compared = ["", ""] if reference is None else [f"{reference:.2f}", f"{mean - reference:+.2f}"]
        validation = " ".join(f"{runs[seed]['validation'][level]:.2f}" for seed in seeds)
        rows.append([str(level), validation, " ".join(f"{value:.2f}" for value in tests), f"{mean:.2f}", *compared])
    head = ["level, %", "validation, %", "test, %", "test, mean", "the reference's test", "difference"]
    epochs = f"{runs[seeds[0]]['epochs']} in all{' (the reference: 416)' if on_mnist else ''}"
    return f"""## {title}

Fine-tuning epochs: {epochs}. \
Seconds of stage I: {", ".join(f"{runs[seed]['seconds']:.0f} (seed {seed})" for seed in seeds)}.

{table(head, rows)}"""


def _criteria_table(arguments: argparse.Namespace, chains: dict[int, dict]) -> str:
    rows = []
    for criterion, settings in CRITERION_SETTINGS.items():
        runs = {
            seed: _library(
                arguments,
                f"{criterion.replace(', ', '-')}-{seed}",
                seed,
                SPARSE_LEVELS,
                weights=str(chain["library"].path / chain["library"].record(DENSE).file),
                pre_prune_epochs=arguments.criteria_epochs,
                **settings,
            )
            for seed, chain in chains.items()
        }
        means = [sum(run["test"][level] for run in runs.values()) / len(runs) for level in SPARSE_LEVELS]
        volumes = [_search_volume(arguments, run["library"]) for run in runs.values()]
        mean_and_all = [f"{sum(volumes) / len(volumes):.5f}", " ".join(f"{volume:.5f}" for volume in volumes)]
        rows.append([criterion, *(f"{mean:.2f}" for mean in means), *mean_and_all])
    head = ["criterion", *(f"{level} %" for level in SPARSE_LEVELS), "hypervolume, mean", "by seed"]
    return f"""## Criteria

Chain over {", ".join(map(str, SPARSE_LEVELS))} % from the same dense networks, {arguments.criteria_epochs} \
epochs a level, seeds {" ".join(map(str, chains))}: mean test accuracy, %, and the hypervolume of an \
accuracy-energy-size search ({arguments.generations} generations, exact accounting, best coding). Levels by \
sensitivity are percent of what they save: weights, MACs, or the mean of both.

{table(head, rows)}"""


def _search_volume(arguments: argparse.Namespace, library: Library) -> float:
    config = SearchConfig(
        objectives=("accuracy", "energy", "size"), coding="best", number_generations=arguments.generations
    )
    return run_search(
        library, config, run=RunOptions(name="criteria", data=library_data(library, data_dir=arguments.data_dir))
    ).statistics.hypervolume


def _page(sections: list[str], library: Library) -> str:
    head = f"""# Stage I: {library.manifest.network} on {library.manifest.data["dataset"]}

{made_by()}; {machine()}, torch {torch.__version__}. Libraries that stood there
already were not made again; their seconds are those of the run that made them, which may have shared the machine.
Where a reference's figures stand, they are the test accuracies of the paper's own code (one seed, 300 epochs dense,
32 epochs a level).
"""
    return "\n".join([head, *(section + "\n" for section in sections)])


if __name__ == "__main__":
    main()
