"""``emomc-export``: its options, parsed without importing torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from emomc.cli import scripts
from emomc.cli.command import make_parser, output_file, run_command
from emomc.cli.interrupted_start import raise_at_interrupt
from emomc.cli.user_code_options import add_user_code_options, check_user_code_options
from emomc.common.errors import UserError
from emomc.common.run_folder import find_finished_search
from emomc.compression.codings import CodingName
from emomc.export.c.arithmetic import Arithmetic
from emomc.export.c.text import identifier
from emomc.export.formats import FORMATS, ExportOptions, FormatName, check_packages
from emomc.export.onnx_targets import MAX_OPSET, MIN_OPSET, TARGETS, OnnxWeights, PixelLayout, TargetName, onnx_options
from emomc.fronts.front_file import (
    Front,
    activation_bits,
    charged_activation_bits,
    point_activation_bits,
    read_front,
)
from emomc.fronts.pick_rules import DEFAULT_PICK, Pick, parse_pick
from emomc.fronts.picks import pick_point


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command(build_parser(), "export", argv, _run)


def build_parser() -> ArgumentParser:
    """Return the parser of the command."""
    parser = make_parser("emomc-export", "Write one network of a front as a packed file, ONNX, C or a state dict.")
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
        help="How an emomc or c file stores the weights; default: the coding of the search.",
    )
    parser.add_argument(
        "--c_arithmetic",
        type=Arithmetic | None,
        default=None,
        help="How the layers of a c file compute: int8 (codes of 8 bits, sums of 32 bits) or float; default: "
        "int8 for a search with --activation_bits of 8 or fewer, else float.",
    )
    parser.add_argument(
        "--target",
        type=TargetName | None,
        default=None,
        help="Toolchain that an onnx file is for; default onnxruntime. "
        + "; ".join(f"{name}: {target.summary}" for name, target in TARGETS.items())
        + ". It decides what of the next three is not given.",
    )
    parser.add_argument("--onnx_opset", type=int | None, default=None, help=f"ONNX opset, {MIN_OPSET}..{MAX_OPSET}.")
    parser.add_argument(
        "--onnx_int4",
        type=bool | None,
        default=None,
        help="Store weights of up to 4 bits as 4-bit integers (true) or as 8-bit ones (false).",
    )
    parser.add_argument(
        "--onnx_weights",
        type=OnnxWeights | None,
        default=None,
        help="integers: behind a DequantizeLinear, one scale or one for each channel, as the network has them. "
        "float32: the products.",
    )
    parser.add_argument(
        "--preprocess",
        type=PixelLayout | bool | None,
        default=None,
        help="Let the onnx file take uint8 pixels of the network's size and normalise them itself: nchw (or true), "
        "channels before height and width, or nhwc.",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="Read the file, evaluate it on the test images (onnx: the validation images, too) and compare with the "
        "front.",
    )
    add_user_code_options(parser)
    return parser


def _run(arguments: Namespace) -> None:
    if arguments.run is None or arguments.output is None:
        raise UserError(
            "expected --run with the folder of a run and --output with a file to write, found one or both missing"
        )
    check_user_code_options(arguments)
    output = output_file(arguments.output)
    if arguments.coding is not None and arguments.format not in ("emomc", "c"):
        raise UserError(f"expected --coding with the format emomc or c, found {arguments.format}")
    if arguments.format == "c" and (output.suffix != ".c" or output.with_suffix(".h").is_dir()):
        raise UserError(f"expected --output with a file NAME.c, and room for NAME.h, for the format c, found {output}")
    if arguments.c_arithmetic is not None and arguments.format != "c":
        raise UserError(f"expected --c_arithmetic with the format c alone, found {arguments.format}")
    arguments.preprocess = {True: "nchw", False: None}.get(arguments.preprocess, arguments.preprocess)
    for name in ("target", "onnx_opset", "onnx_int4", "onnx_weights", "preprocess"):
        if getattr(arguments, name) is not None and arguments.format != "onnx":
            raise UserError(f"expected --{name} with the format onnx alone, found {arguments.format}")
    check_packages(arguments.format)
    rule = parse_pick(arguments.pick)
    search = find_finished_search(Path(arguments.run), arguments.search)
    front = read_front(search.front)
    options = _options(arguments, front, rule)
    if arguments.verify:
        options.check_runs(arguments.format)
    from emomc.cli.export_run import export  # after the options are checked: torch takes seconds to import

    raise_at_interrupt()

    export(arguments, search, front, rule, output, options)


def _options(arguments: Namespace, front: Front, rule: Pick) -> ExportOptions:
    """Return what the format leaves open.

    Raises:
        UserError: options that do not go together, or with the activations of the search.
    """
    coding = arguments.coding or front["coding"]
    if arguments.format != "onnx":
        return ExportOptions(coding, name=identifier(Path(arguments.output).stem), arithmetic=arguments.c_arithmetic)
    bits = activation_bits(front)
    if len(bits) > 1:
        # Those of the point alone: the front may have others.
        point = front["points"][pick_point(rule, front).position]
        bits = tuple(point_activation_bits(front, point).values())
    onnx = onnx_options(
        arguments.target or "onnxruntime",
        opset=arguments.onnx_opset,
        int4=arguments.onnx_int4,
        weights=arguments.onnx_weights,
        pixels=arguments.preprocess,
        activation_bits=bits,
    )
    if onnx.pixels is not None and not front.get("preprocessing", {}).get("mean"):
        raise UserError("expected a front that says the mean and deviation of its images with --preprocess, found none")
    return ExportOptions(coding, onnx, charged_activation_bits(front))


if __name__ == "__main__":
    sys.exit(scripts.export())
