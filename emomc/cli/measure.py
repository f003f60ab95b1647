"""``emomc-measure``: its options, parsed without importing torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jsonargparse import ArgumentParser, Namespace

from emomc.cli import scripts
from emomc.cli.command import make_parser, output_file, run_command, settings_of, with_lists
from emomc.cli.interrupted_start import raise_at_interrupt
from emomc.cli.network_options import add_network_options
from emomc.common.errors import UserError
from emomc.export.formats import check_packages
from emomc.export.layer_latency import Timing

_LISTS = ("input_shape",)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    words = with_lists(sys.argv[1:] if argv is None else argv, *_LISTS)
    return run_command(build_parser(), "measure", words, _run)


def build_parser() -> ArgumentParser:
    """Return the parser of the command."""
    parser = make_parser(
        "emomc-measure",
        "Measure what each layer of a network takes on this machine in onnxruntime, with integers and with floats: a "
        "table for emomc-search --hardware table:FILE.csv.",
    )
    parser.add_argument(
        "--library", type=str | None, default=None, help="Folder of a library whose network to measure, or --network."
    )
    add_network_options(parser, "measure")
    parser.add_argument("--output", type=str | None, default=None, help="The table to write, a CSV file.")
    parser.add_class_arguments(Timing)
    return parser


def _run(arguments: Namespace) -> None:
    if (arguments.library is None) == (arguments.network is None):
        found = "neither" if arguments.library is None else "both"
        raise UserError(f"expected --library with a library's folder or --network with a network, found {found}")
    output = output_file(arguments.output)
    timing = settings_of(arguments, Timing)
    check_packages("onnx")
    from emomc.cli.measure_run import measure  # after the options are checked: torch takes seconds to import

    raise_at_interrupt()
    measure(arguments, output, timing)


if __name__ == "__main__":
    sys.exit(scripts.measure())
