"""``emomc-search``: find the networks of a library that trade accuracy against cost best."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from lightning_fabric import Fabric
from rich.console import Console

from emomc.callbacks.search.constraint_note import ConstraintNote
from emomc.callbacks.search.front_lines import FrontLines
from emomc.callbacks.search.front_tracker import FrontTracker
from emomc.callbacks.search.front_writer import FrontWriter
from emomc.callbacks.search.rich_front_table import RichFrontTable, front_table
from emomc.callbacks.search.tensorboard_front_logger import TensorBoardFrontLogger
from emomc.cli.command import fields_of, make_parser, run_command, stdout_is_terminal
from emomc.cli.users_code import add_users_code, data_config_of, network_of
from emomc.common.errors import UserError
from emomc.common.files import write_text
from emomc.data.splits import build_data
from emomc.fronts.document import front_document
from emomc.fronts.picks import Pick, parse_pick, pick_point
from emomc.hardware.layer_report import report_csv, report_table
from emomc.library.library import Library
from emomc.runtime.lightning_refusals import lightning_refusals
from emomc.runtime.trainers import ValidationTrainers
from emomc.search.config import SearchConfig
from emomc.search.finetuning import Finetuning
from emomc.search.observer import SearchCallback
from emomc.search.run import run_search
from emomc.search.state import Search


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command(build_parser(), "search", _listed_objectives(sys.argv[1:] if argv is None else argv), _run)


def _listed_objectives(argv: Sequence[str]) -> list[str]:
    """Let ``--objectives accuracy energy`` stand for ``--objectives [accuracy,energy]``."""
    arguments = list(argv)
    if "--objectives" not in arguments:
        return arguments
    first = arguments.index("--objectives") + 1
    words = list(takewhile(lambda word: not word.startswith(("-", "[")), arguments[first:]))
    listed = [f"[{','.join(words)}]"] if words else []
    return [*arguments[:first], *listed, *arguments[first + len(words) :]]


def build_parser() -> ArgumentParser:
    """Return the parser of the command."""
    parser = make_parser(
        "emomc-search", "Search a library of pruned networks for those that trade accuracy against cost best."
    )
    parser.add_argument(
        "--library", type=str | None, default=None, help="Folder of the library that emomc-pretrain made."
    )
    parser.add_argument(
        "--name", type=str | None, default=None, help="Name of the search's folder; made of the settings if not given."
    )
    parser.add_class_arguments(SearchConfig)
    add_users_code(parser)
    parser.add_argument("--accelerator", type=str, default="auto", help="auto, cpu, gpu, ...")
    parser.add_argument(
        "--devices", type=str, default="1", help="Devices that share the candidates: a count or a list such as 0,1."
    )
    parser.add_argument("--num_nodes", type=int, default=1, help="Machines that share the candidates.")
    parser.add_argument(
        "--early_rejection", type=bool, default=True, help="Stop candidates that can no longer matter; same front."
    )
    parser.add_argument(
        "--deterministic",
        type=bool,
        nargs="?",
        const=True,
        default=False,
        help="Same bits each time on a GPU too, where that is slower; see docs/determinism.md.",
    )
    parser.add_argument(
        "--max_time",
        type=float | None,
        default=None,
        help="Minutes after which the search stops with the front so far.",
    )
    parser.add_argument(
        "--pick", type=str, default="knee", help="The point to recommend at the end; see docs/fronts.md."
    )
    parser.add_argument(
        "--finetune_epochs",
        type=int,
        default=0,
        help="Passes over the training images that tune each point of the final front, masks and bits fixed; 0: none.",
    )
    parser.add_argument(
        "--finetune_learning_rate",
        type=float,
        default=1e-3,
        help="Largest learning rate of AdamW, above 0 and below 1; falls to zero while a point is tuned.",
    )
    parser.add_argument(
        "--layers",
        type=str | None,
        default=None,
        help="Show what each layer costs, and write it as layers_INDEX.csv: of the candidate with this index (0 or "
        "more), or of the recommended point (pick).",
    )
    parser.add_argument("--quiet", type=bool, nargs="?", const=True, default=False, help="Print nothing but errors.")
    parser.add_argument(
        "--overwrite", type=bool, nargs="?", const=True, default=False, help="Begin anew where another search was."
    )
    return parser


def _run(arguments: Namespace) -> None:
    if arguments.library is None:
        raise UserError("expected --library with the folder that emomc-pretrain made, found none")
    pick = parse_pick(arguments.pick)
    if arguments.layers is not None and arguments.layers != "pick" and not arguments.layers.isdecimal():
        raise UserError(f"expected --layers with the index of a candidate or pick, found {arguments.layers!r}")
    config = SearchConfig(**_tuples(fields_of(arguments, SearchConfig)))
    library = Library.open(arguments.library)
    with lightning_refusals():
        fabric = Fabric(
            accelerator=arguments.accelerator, devices=_devices(arguments.devices), num_nodes=arguments.num_nodes
        )
        ValidationTrainers(fabric.device, config.precision).make()
    fabric.launch()
    search = run_search(
        library,
        config,
        _callbacks(quiet=arguments.quiet),
        name=default_name(config) if arguments.name is None else arguments.name,
        network=network_of(library, arguments.network),
        data=build_data(data_config_of(library, arguments.dataset, arguments.data_dir)),
        fabric=fabric,
        early_rejection=arguments.early_rejection,
        max_minutes=arguments.max_time,
        finetuning=Finetuning(arguments.finetune_epochs, arguments.finetune_learning_rate)
        if arguments.finetune_epochs
        else None,
        deterministic=arguments.deterministic,
        overwrite=arguments.overwrite,
    )
    if fabric.is_global_zero:
        if not arguments.quiet:
            _show_result(search, pick)
        if arguments.layers is not None:
            _report_layers(search, arguments.layers, pick, quiet=arguments.quiet)
    if search.interrupted:
        raise KeyboardInterrupt


def _callbacks(*, quiet: bool) -> list[SearchCallback]:
    observers: list[SearchCallback] = [FrontWriter(), TensorBoardFrontLogger()]
    if not quiet:
        live: FrontTracker = RichFrontTable() if stdout_is_terminal() else FrontLines()
        observers += [ConstraintNote(), live]
    return observers


def default_name(config: SearchConfig) -> str:
    """Return a name for a search that says what is traded under which cost model."""
    parts = [
        *config.objectives,
        config.hardware.rsplit("/", 1)[-1].removesuffix(".yaml"),
        config.dataflow,
        config.coding,
    ]
    return "-".join([*parts, *(["paper"] if config.accounting == "paper" else [])])


def _show_result(search: Search, pick: Pick) -> None:
    console = Console(width=None if stdout_is_terminal() else 100, highlight=False)
    console.print(front_table(search))
    front = search.front
    if not search.finished and not search.interrupted:
        console.print("Stopped before the last generation; the same command goes on from here.")
    if front and front[0].violation:
        console.print("No candidate meets the constraints; the points above exceed them least.")
    elif front:
        console.print(pick_point(pick, front_document(search)).reason)
    if search.tuned:
        console.print(_tuning_result(search))
    tally = search.tally
    console.print(
        f"{tally.asked} candidates asked for, {len(search.candidates)} distinct: {tally.measured} measured "
        f"({search.rejected} of them stopped early, {tally.images} images), {tally.reused} answered from logs."
    )
    console.print(f"Files: {search.folder}", soft_wrap=True)


def _report_layers(search: Search, which: str, pick: Pick, *, quiet: bool) -> None:
    """Show and write what each layer of one candidate costs."""
    index = pick_point(pick, front_document(search)).index if which == "pick" else int(which)
    if index >= len(search.candidates):
        raise UserError(f"expected the index of one of {len(search.candidates)} candidates, found {index}")
    report = search.cost_model.report(search.candidates[index].genotype)
    path = search.folder / f"layers_{index}.csv"
    write_text(path, report_csv(report))
    if not quiet:
        console = Console(width=None if stdout_is_terminal() else 140, highlight=False)
        console.print(f"Candidate {index}, layer by layer ({path}):", soft_wrap=True)
        console.print(report_table(report))


def _tuning_result(search: Search) -> str:
    """Say what fine-tuning did: what came before and after is in front.json."""
    kept = [point for point in search.tuned if point.kept]
    gains = sorted(100 * (point.after.accuracy - point.before.accuracy) for point in search.tuned)
    return (
        f"Fine-tuned {len(search.tuned)} points, {len(kept)} kept; validation accuracy {gains[0]:+.2f} to "
        f"{gains[-1]:+.2f} points, median {gains[len(gains) // 2]:+.2f}."
    )


def _devices(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdigit() else text


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


if __name__ == "__main__":
    sys.exit(main())
