"""``emomc-hardware``: its options, parsed without importing torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jsonargparse import ArgumentParser, Namespace

from emomc.cli.command import make_parser, run_command, with_lists
from emomc.cli.network_options import add_network_options
from emomc.hardware.dataflows import BEST, DataflowName

_LISTS = ("beside", "input_shape")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    words = with_lists(sys.argv[1:] if argv is None else argv, *_LISTS)
    return run_command(build_parser(), "hardware", words, _run)


def build_parser() -> ArgumentParser:
    """Return the parser of the command."""
    parser = make_parser(
        "emomc-hardware", "Show a hardware description, check it, and cost a network with it; without one: list all."
    )
    parser.add_argument(
        "hardware",
        type=str | None,
        nargs="?",
        default=None,
        help="Name of a shipped description, a YAML file, or table:FILE.csv; docs/cost_model.md says what they hold.",
    )
    add_network_options(parser, "cost")
    parser.add_argument("--bits", type=int, default=8, help="Bits of every weight, 1..32.")
    parser.add_argument("--density", type=float, default=1.0, help="Fraction of weights that are not zero, 0..1.")
    parser.add_argument(
        "--structured_density",
        type=float | None,
        default=None,
        help="Density in the pattern of structured hardware, 0..1; default: the zeros follow no pattern.",
    )
    parser.add_argument("--input_density", type=float, default=1.0, help="Fraction of inputs that are not zero, 0..1.")
    parser.add_argument(
        "--activation_bits", type=int | None, default=None, help="Bits of an input, 1..32; default: the hardware's."
    )
    parser.add_argument(
        "--dataflow", type=DataflowName, default=BEST, help="Dataflow of the layers; the comparison shows all."
    )
    parser.add_argument(
        "--beside", type=list[str], default=[], help="Other hardware to compare with: names, YAML files or tables."
    )
    return parser


def _run(arguments: Namespace) -> None:
    from emomc.cli.hardware_run import show_hardware

    show_hardware(arguments)
