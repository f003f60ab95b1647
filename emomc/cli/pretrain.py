"""``emomc-pretrain``: train a network and make its library of pruned levels."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from jsonargparse import ArgumentParser, Namespace

from emomc.callbacks.trainer.epoch_lines import EpochLines
from emomc.callbacks.trainer.stage_progress_bar import StageProgressBar
from emomc.cli.command import fields_of, make_parser, run_command, stdout_is_terminal
from emomc.data.config import DataConfig
from emomc.pretraining.config import PreparationConfig
from emomc.pretraining.prepare import prepare_library
from emomc.runtime.devices import Devices


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command(build_parser(), "pretrain", argv, _run)


def build_parser() -> ArgumentParser:
    """Return the parser of the command."""
    parser = make_parser(
        "emomc-pretrain", "Train a network, then prune and fine-tune it level by level into a library."
    )
    parser.add_class_arguments(PreparationConfig, skip={"network_args"})
    parser.add_argument(
        "--network_args", type=dict[str, Any], default={}, help="Arguments of the network's constructor."
    )
    parser.add_class_arguments(DataConfig, skip={"seed"})
    parser.add_class_arguments(Devices)
    parser.add_argument(
        "--output", type=str | None, default=None, help="Folder of the run; runs/NETWORK-DATASET if not given."
    )
    parser.add_argument(
        "--overwrite", type=bool, nargs="?", const=True, default=False, help="Begin anew where another library was."
    )
    return parser


def _run(arguments: Namespace) -> None:
    config = PreparationConfig(**fields_of(arguments, PreparationConfig))
    data = DataConfig(**fields_of(arguments, DataConfig))
    folder = Path(arguments.output or default_folder(config.network, data.dataset))
    print(f"Library: {folder / 'library'}")
    library = prepare_library(
        config,
        data,
        folder,
        devices=Devices(**fields_of(arguments, Devices)),
        callbacks=_progress(config),
        overwrite=arguments.overwrite,
    )
    for record in library.manifest.levels:
        print(f"  level {record.percent:3d} %: validation accuracy {100 * record.validation_accuracy:6.2f} %")
    print(f"Next: emomc-search --library {library.path}")


def _progress(config: PreparationConfig) -> Callable[[str], list[pl.Callback]]:
    """Return what makes the progress of each stage, which knows how many epochs follow it."""
    stages = ["dense", *(f"level {percent:03d}" for percent in config.levels)]

    def make(stage: str) -> list[pl.Callback]:
        number = stages.index(stage)
        epochs_after = (len(stages) - 1 - number) * config.pre_prune_epochs
        name = f"{stage} ({number + 1} of {len(stages)})"
        return [(StageProgressBar if stdout_is_terminal() else EpochLines)(name, epochs_after)]

    return make


def default_folder(network: str, dataset: str) -> Path:
    """Return ``runs/NETWORK-DATASET``, with the last part of names that are paths."""
    return Path("runs") / f"{_short(network)}-{_short(dataset)}"


def _short(name: str) -> str:
    return name.rstrip("/").replace(":", "/").rsplit("/", 1)[-1].lower()


if __name__ == "__main__":
    sys.exit(main())
