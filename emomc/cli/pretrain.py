"""``emomc-pretrain``: its options, parsed without importing torch."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from emomc.cli import scripts
from emomc.cli.command import make_parser, run_command, settings_of, with_lists
from emomc.cli.interrupted_start import raise_at_interrupt
from emomc.common.errors import UserError
from emomc.data.config import DataConfig
from emomc.pretraining.config import PretrainingConfig
from emomc.runtime.devices import Devices
from emomc.tasks.config import TaskConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    words = with_lists(sys.argv[1:] if argv is None else argv, "mean", "std", "pattern", "metric_range")
    return run_command(build_parser(), "pretrain", words, _run)


def build_parser() -> ArgumentParser:
    """Return the parser of the command."""
    parser = make_parser(
        "emomc-pretrain", "Train a network and make a library of it: prune and fine-tune it level by level."
    )
    parser.add_class_arguments(PretrainingConfig, skip={"network_args"})
    parser.add_argument(
        "--network_args", type=dict[str, Any], default={}, help="Arguments of the network's constructor."
    )
    parser.add_class_arguments(TaskConfig, skip={"module_args"})
    parser.add_argument("--module_args", type=dict[str, Any], default={}, help="Arguments of the module's constructor.")
    parser.add_class_arguments(DataConfig, skip={"seed"})
    parser.add_class_arguments(Devices)
    parser.add_argument(
        "--output", type=str | None, default=None, help="Folder of the run; default: runs/NETWORK-DATASET."
    )
    parser.add_argument(
        "--overwrite",
        type=bool,
        nargs="?",
        const=True,
        default=False,
        help="Replace an earlier library in this folder.",
    )
    return parser


def _run(arguments: Namespace) -> None:
    config, task = settings_of(arguments, PretrainingConfig), settings_of(arguments, TaskConfig)
    if task.module is not None:
        if config.network != PretrainingConfig.network:
            raise UserError(f"expected --network or --module, found both, {config.network} and {task.module}")
        config = dataclasses.replace(config, network=task.module)
    data = settings_of(arguments, DataConfig)
    devices = settings_of(arguments, Devices)
    output = arguments.output
    if output is not None and (not output.strip() or not output.isprintable()):
        raise UserError(f"expected --output with the folder of a run, found {output!r}")
    folder = Path(output or default_folder(config.network, data.dataset))
    from emomc.cli.pretrain_run import pretrain  # after the options are checked: torch takes seconds to import

    raise_at_interrupt()

    pretrain(config, data, folder, devices, task, overwrite=arguments.overwrite)


def default_folder(network: str, dataset: str) -> Path:
    """Return ``runs/NETWORK-DATASET``; of a path, only the last part is used."""
    return Path("runs") / f"{_short(network)}-{_short(dataset)}"


def _short(name: str) -> str:
    return name.rstrip("/").replace(":", "/").rsplit("/", 1)[-1].lower()


if __name__ == "__main__":
    sys.exit(scripts.pretrain())
