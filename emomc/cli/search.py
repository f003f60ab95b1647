"""``emomc-search``: its options, parsed without importing torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jsonargparse import ArgumentParser, Namespace

from emomc.candidates.objectives import COSTS
from emomc.cli import scripts
from emomc.cli.command import make_parser, run_command, settings_of, with_lists
from emomc.cli.interrupted_start import raise_at_interrupt
from emomc.cli.user_code_options import add_user_code_options, check_user_code_options
from emomc.common.errors import UserError
from emomc.fronts.pick_rules import DEFAULT_PICK, check_index, check_pick, parse_index, parse_pick
from emomc.hardware.description import load_target
from emomc.runtime.devices import WORKER_TIMEOUT_MINUTES, Devices
from emomc.search.config import Finetuning, SearchConfig, check_known_costs
from emomc.search.options import RunOptions


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    words = with_lists(sys.argv[1:] if argv is None else argv, "objectives", "activation_bits", "pattern")
    return run_command(build_parser(), "search", words, _run)


def build_parser() -> ArgumentParser:
    """Return the parser of the command."""
    parser = make_parser(
        "emomc-search", "Search a library of pruned networks for the Pareto front of accuracy and costs."
    )
    parser.add_argument(
        "--library", type=str | None, default=None, help="Folder of the library that emomc-pretrain made."
    )
    parser.add_argument(
        "--name",
        type=str | None,
        default=None,
        help="Name of the search and its folder; default: made from objectives, hardware, dataflow and coding.",
    )
    parser.add_class_arguments(SearchConfig)
    add_user_code_options(parser)
    parser.add_argument("--accelerator", type=str, default="auto", help="auto, cpu, gpu, ...")
    parser.add_argument(
        "--devices",
        type=str | None,
        default=None,
        help="Devices that share the evaluations: a number or a list such as 0,1; default: as many as torchrun has "
        "started, else 1.",
    )
    parser.add_argument(
        "--num_nodes",
        type=int | None,
        default=None,
        help="Machines that share the evaluations; default: as many as torchrun uses, else 1.",
    )
    parser.add_argument(
        "--worker_timeout",
        type=float,
        default=WORKER_TIMEOUT_MINUTES,
        help="Minutes after which a process that gives no sign of life counts as lost, and all end; above 0.",
    )
    parser.add_argument(
        "--early_rejection",
        type=bool,
        default=True,
        help="Stop the evaluation of candidates that can no longer survive; the front is the same.",
    )
    parser.add_argument(
        "--deterministic",
        type=bool,
        nargs="?",
        const=True,
        default=False,
        help="Bit-identical results on a GPU too, but slower; see docs/determinism.md.",
    )
    parser.add_argument(
        "--max_time",
        type=float | None,
        default=None,
        help="Minutes after which the search stops and keeps the front so far.",
    )
    parser.add_argument(
        "--pick",
        type=str,
        default=DEFAULT_PICK,
        help="The point to recommend at the end: safe (the cheapest that loses at most 1 point of accuracy, with a "
        "margin for chance), within:1.0, knee, max-accuracy, budget:size_kib=20, ...; see docs/fronts.md.",
    )
    parser.add_argument(
        "--finetune_epochs",
        type=int,
        default=0,
        help="Epochs of fine-tuning of each point of the final front, with masks and bits fixed; 0: none.",
    )
    parser.add_argument(
        "--finetune_budget",
        type=int | None,
        default=None,
        help="Epochs of fine-tuning of all points together, each for --finetune_epochs, or 1. The points are "
        "chosen among all candidates by what fine-tuning promises, learned from those fine-tuned before.",
    )
    parser.add_argument(
        "--finetune_learning_rate",
        type=float,
        default=1e-3,
        help="Initial learning rate of AdamW in fine-tuning, above 0 and below 1; it decays to zero.",
    )
    parser.add_argument(
        "--layers",
        type=str | None,
        default=None,
        help="Show the costs of each layer and write them to layers_INDEX.csv: of the candidate with this index (0 or "
        "more), or of the recommended point (pick).",
    )
    parser.add_argument("--quiet", type=bool, nargs="?", const=True, default=False, help="Print nothing but errors.")
    parser.add_argument(
        "--overwrite", type=bool, nargs="?", const=True, default=False, help="Replace an earlier search of this name."
    )
    return parser


def _run(arguments: Namespace) -> None:
    if arguments.library is None:
        raise UserError("expected --library with the folder that emomc-pretrain made, found none")
    check_user_code_options(arguments)
    config = settings_of(arguments, SearchConfig)
    check_known_costs(config, load_target(config.hardware))
    # The devices of a search are Lightning's, as those of a training: this checks their numbers.
    Devices(
        arguments.accelerator,
        arguments.devices or "auto",
        arguments.num_nodes,
        worker_timeout=arguments.worker_timeout,
    )
    name = default_name(config) if arguments.name is None else arguments.name
    # The rate is checked even if nothing is fine-tuned.
    budget = arguments.finetune_budget
    finetuning = Finetuning(arguments.finetune_epochs or 1, arguments.finetune_learning_rate, budget=budget)
    options = RunOptions(
        name=name,
        early_rejection=arguments.early_rejection,
        max_minutes=arguments.max_time,
        finetuning=finetuning if arguments.finetune_epochs or budget is not None else None,
        deterministic=arguments.deterministic,
        overwrite=arguments.overwrite,
    )
    pick = parse_pick(arguments.pick)
    most = options.most_candidates(config)
    check_pick(pick, COSTS, most)
    if arguments.layers not in (None, "pick"):
        what = "--layers with the index of a candidate or pick"
        check_index(parse_index(arguments.layers, what), most, "--layers with an index")
    from emomc.cli.search_run import search  # after the options are checked: torch takes seconds to import

    raise_at_interrupt()

    search(arguments, config, options, pick)


def default_name(config: SearchConfig) -> str:
    """Return the default name of a search: objectives, hardware, dataflow, coding, and paper for paper accounting."""
    parts = [
        *config.objectives,
        config.hardware.rsplit("/", 1)[-1].removeprefix("table:").removesuffix(".yaml").removesuffix(".csv"),
        config.dataflow,
        config.coding,
    ]
    return "-".join([*parts, *(["paper"] if config.accounting == "paper" else [])])


if __name__ == "__main__":
    sys.exit(scripts.search())
