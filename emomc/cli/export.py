"""``emomc-export``: its options, parsed without importing torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from emomc.cli import scripts
from emomc.cli.command import make_parser, run_command
from emomc.cli.interrupted_start import raise_at_interrupt
from emomc.cli.user_code_options import add_user_code_options, check_user_code_options
from emomc.common.errors import UserError
from emomc.common.run_folder import find_finished_search
from emomc.compression.codings import CodingName
from emomc.export.formats import FORMATS, FormatName, check_packages
from emomc.fronts.front_file import read_front
from emomc.fronts.pick_rules import DEFAULT_PICK, parse_pick


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command(build_parser(), "export", argv, _run)


def build_parser() -> ArgumentParser:
    """Return the parser of the command."""
    parser = make_parser("emomc-export", "Write one network of a front as a packed file, ONNX or a state dict.")
    parser.add_argument(
        "--run", type=str | None, default=None, help="Folder of a run, or of one of its searches (it holds front.json)."
    )
    parser.add_argument("--search", type=str | None, default=None, help="Name of the search, if the run has several.")
    parser.add_argument(
        "--pick",
        type=str,
        default=DEFAULT_PICK,
        help="Which point: safe (the cheapest that loses at most 1 point of accuracy, with a margin for chance), "
        "within:1.0, knee, max-accuracy, budget:size_kib=20, index:3, ...; see docs/fronts.md.",
    )
    parser.add_argument(
        "--format",
        type=FormatName,
        default="emomc",
        help="; ".join(f"{name}: {format.summary}" for name, format in FORMATS.items()) + ".",
    )
    parser.add_argument("--output", type=str | None, default=None, help="The file to write.")
    parser.add_argument(
        "--coding",
        type=CodingName | None,
        default=None,
        help="How an emomc file stores the weights; default: the coding of the search.",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="Read the file, evaluate it on the test images and compare with the front.",
    )
    add_user_code_options(parser)
    return parser


def _run(arguments: Namespace) -> None:
    if arguments.run is None or arguments.output is None:
        raise UserError(
            "expected --run with the folder of a run and --output with a file to write, found one or both missing"
        )
    check_user_code_options(arguments)
    if not arguments.output.strip() or not arguments.output.isprintable():
        raise UserError(f"expected --output with a file to write, found {arguments.output!r}")
    output = Path(arguments.output)
    if output.is_dir():
        raise UserError(f"expected --output with a file to write, found the folder {output}")
    if output.is_symlink() or (output.exists() and not output.is_file()):
        raise UserError(f"expected --output with a new file or one to replace, found a link or a device at {output}")
    if arguments.verify and FORMATS[arguments.format].count_correct is None:
        raise UserError(f"expected a format that can be verified with --verify, found {arguments.format}")
    if arguments.coding is not None and arguments.format != "emomc":
        raise UserError(f"expected --coding with the format emomc alone, found {arguments.format}")
    check_packages(arguments.format)
    rule = parse_pick(arguments.pick)
    search = find_finished_search(Path(arguments.run), arguments.search)
    front = read_front(search.front)
    from emomc.cli.export_run import export  # after the options are checked: torch takes seconds to import

    raise_at_interrupt()

    export(arguments, search, front, rule, output)


if __name__ == "__main__":
    sys.exit(scripts.export())
