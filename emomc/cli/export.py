"""``emomc-export``: write one network of a front, to ship it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser, Namespace
from torch import nn

from emomc.candidates.calibration import open_calibration
from emomc.candidates.compressed_networks import CompressedNetworks, Quantizer
from emomc.candidates.finetuned_weights import FOLDER as TUNED
from emomc.candidates.genotype import Genotype
from emomc.candidates.packing import pack_candidate
from emomc.cli.command import make_parser, run_command
from emomc.cli.users_code import add_users_code, data_config_of, network_of
from emomc.common.errors import UserError
from emomc.compression.widths import FULL_ACTIVATION_BITS
from emomc.data.splits import build_data, load_split
from emomc.export.formats import ExportFormat, export_network
from emomc.export.verification import Verification, verify_export
from emomc.fronts.front_file import read_front
from emomc.fronts.picks import parse_pick, pick_point
from emomc.library.library import Library
from emomc.packed_file.writer import PackedNetwork
from emomc.search.run import build_own_network

FRONT = "front.json"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command(build_parser(), "export", argv, _run)


def build_parser() -> ArgumentParser:
    """Return the parser of the command."""
    parser = make_parser(
        "emomc-export", "Write one network of a front: packed as small as the search said, or as ONNX."
    )
    parser.add_argument(
        "--run", type=str | None, default=None, help="Folder of a run, or of one of its searches (it holds front.json)."
    )
    parser.add_argument(
        "--search", type=str | None, default=None, help="Name of the search, where the run has several."
    )
    parser.add_argument(
        "--pick",
        type=str,
        default="knee",
        help="Which point: knee, max-accuracy, budget:size_kib=20, within:1.0, index:3, ...; see docs/fronts.md.",
    )
    parser.add_argument(
        "--format",
        type=ExportFormat,
        default="emomc",
        help="emomc: the packed file; onnx: integer weights, for onnxruntime; onnx-zigzag: for ZigZag alone; "
        "torch: dense float32 state dict as safetensors.",
    )
    parser.add_argument("--output", type=str | None, default=None, help="The file to write.")
    parser.add_argument(
        "--coding",
        type=Literal["normal", "csr", "coo", "bitmap", "best"] | None,
        default=None,
        help="How an emomc file stores the weights; as the search counted them if not given.",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="Read the file back, run it over the test set, and compare with the front's figure.",
    )
    add_users_code(parser)
    return parser


def _run(arguments: Namespace) -> None:
    if arguments.run is None or arguments.output is None:
        raise UserError("expected --run with the folder of a run and --output with a file to write, found no such flag")
    output = Path(arguments.output)
    if output.is_dir():
        raise UserError(f"expected --output with a file to write, found the folder {output}")
    rule = parse_pick(arguments.pick)
    search = find_search(Path(arguments.run), arguments.search)
    front = read_front(search / FRONT)
    picked = pick_point(rule, front)
    point = front["points"][picked.position]
    library = Library.open(search.parent.parent / "library")
    network = network_of(library, arguments.network)
    packed = pack_point(library, network, front, point, search)
    coding = arguments.coding or front["coding"]
    written = export_network(output, packed, arguments.format, coding=coding, network=network)
    print(picked.reason)
    print(f"{output}: {written:,} bytes{_promise(front, point, arguments.format, coding, written)}")
    if arguments.verify:
        data = build_data(data_config_of(library, arguments.dataset, arguments.data_dir))
        images, labels = load_split(data, "test")
        found = verify_export(
            output,
            arguments.format,
            packed,
            images,
            labels,
            batch_size=library.manifest.evaluation_batch_size,
            network=network,
            precision=front["settings"].get("precision", "32-true"),
            activation_bits=front["settings"].get("activation_bits", FULL_ACTIVATION_BITS),
            input_ranges=point.get("input_ranges"),
        )
        if arguments.format == "onnx" and point.get("input_ranges"):
            print(
                f"Read back: test accuracy {100 * found.accuracy:.2f} % with activations in float32; "
                f"the front's figure is with {front['settings']['activation_bits']} bits"
            )
        else:
            print(_verdict(found, point, exact=arguments.format != "onnx"))


def find_search(folder: Path, name: str | None) -> Path:
    """Return the folder of a search.

    Args:
        folder: of a run, or of a search.
        name: of the search; needed where a run has several.

    Raises:
        UserError: there is none, or several and no name.
    """
    if name is None and (folder / FRONT).is_file():
        return folder.resolve()
    found = sorted(file.parent for file in (folder / "search").glob(f"*/{FRONT}"))
    if name is not None:
        found = [search for search in found if search.name == name]
    if len(found) == 1:
        return found[0].resolve()
    names = ", ".join(search.name for search in found) or "none"
    wanted = "a finished search" if name is None else f"a finished search named {name}"
    raise UserError(f"expected {wanted} in {folder / 'search'}, or --search with its name, found {names}")


def pack_point(
    library: Library,
    network: nn.Module | None,
    front: Mapping[str, Any],
    point: Mapping[str, Any],
    search: Path | None = None,
) -> PackedNetwork:
    """Return the network of a point of a front.

    Args:
        library: that the front was found in.
        network: a user's network, None for one of the project's own.
        front: the content of front.json.
        point: one of its points.
        search: folder of the search, which holds the weights of points that were fine-tuned.

    Raises:
        UserError: the front names layers or settings that the library does not have.
    """
    settings = front["settings"]
    try:
        quantizer = Quantizer(settings["quantizer"], settings["per_channel"], settings.get("bias_correction", False))
        bits = tuple(int(point["bits"][layer.name]) for layer in library.manifest.compressed_layers)
    except KeyError as error:
        raise UserError(f"expected a front of the library {library.path}, found one without {error}") from None
    network = network or build_own_network(library)
    calibration = front.get("calibration")
    if quantizer.bias_correction and not isinstance(calibration, str):
        raise UserError(f"expected the name of a calibration in the front, found {calibration!r}")
    inputs = open_calibration(library, Path(calibration).name) if isinstance(calibration, str) else None
    tuned_folder = search / TUNED if search else None
    networks = CompressedNetworks(library, network, quantizer, inputs=inputs, tuned_folder=tuned_folder)
    return pack_candidate(networks, Genotype(int(point["level"]), bits, str(point.get("tuned") or "")))


def _promise(front: Mapping[str, Any], point: Mapping[str, Any], format: str, coding: str, written: int) -> str:
    """Compare a packed file with the size that the search counted, where it counted this file."""
    promised = point.get("size_bytes")
    if format != "emomc" or front["accounting"] != "exact" or coding != front["coding"] or promised is None:
        return ""
    if written != promised:
        raise UserError(
            f"expected a file of the {promised:,} bytes that the search counted, found {written:,}: "
            f"the library or this program is not the one that searched"
        )
    return ", as the search counted"


def _verdict(found: Verification, point: Mapping[str, Any], *, exact: bool) -> str:
    """Compare the file's accuracy on the test images with the front's figure.

    Raises:
        UserError: they differ; for ONNX by more than one image and 0.1 % of the images.
    """
    text = f"test accuracy {100 * found.accuracy:.2f} % ({found.correct:,} of {found.images:,} images)"
    promised = point.get("test_correct")
    if promised is None:
        return f"Read back: {text}; the front has no figure to compare with"
    allowed = 0.0 if exact else max(1.0, found.images / 1000)
    if point.get("test_images") != found.images or abs(found.correct - promised) > allowed:
        raise UserError(
            f"expected {promised:,} of {point.get('test_images'):,} test images right, as the front says, "
            f"found {text}; bit-identical results need the machine, threads and images of the search"
        )
    return f"Read back: {text}, as the front says" + (
        "" if found.correct == promised else f" ({promised:,}) within 0.1 %"
    )


if __name__ == "__main__":
    sys.exit(main())
