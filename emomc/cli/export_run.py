"""The work of ``emomc-export``."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import torch
from jsonargparse import Namespace
from torch import Tensor, nn

from emomc.candidates.calibration import open_calibration
from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.finetuned_weights import finetuned_path
from emomc.candidates.genotype import Genotype
from emomc.candidates.packing import pack_candidate
from emomc.common.errors import UserError, require
from emomc.common.files import existing_file, sha256_of_file
from emomc.common.run_folder import SearchFolder
from emomc.common.schema import checked
from emomc.compression.quantizers import Quantizer, QuantizerName, RoundingName
from emomc.compression.widths import FULL_ACTIVATION_BITS, MIN_ACTIVATION_BITS
from emomc.data.splits import load_split
from emomc.export.formats import FORMATS, FormatName, export_network, verify_export
from emomc.export.verification import EvaluationConditions, ExpectedScores
from emomc.fronts.front_file import Front, Point
from emomc.fronts.pick_rules import Pick
from emomc.fronts.picks import pick_point
from emomc.library.data_sources import check_images, library_data, measured_dataset, names_users_data
from emomc.library.layer_input_store import LayerInputStore
from emomc.library.library import Library
from emomc.library.manifest import MOST_IMAGE_VALUES
from emomc.library.network_sources import checked_library_graph, library_network
from emomc.packed_file.layout import VERSION
from emomc.packed_file.network import PackedNetwork
from emomc.runtime.digests import tensor_digest
from emomc.runtime.lightning_refusals import lightning_refusals
from emomc.runtime.notices import quiet_lightning
from emomc.runtime.trainers import validation_trainer

# An exported file is compared with the network that was searched on this many images.
_CHECKED_IMAGES = 16


def export(arguments: Namespace, search: SearchFolder, front: Front, rule: Pick, output: Path) -> None:
    """Write one point of a front, print the result and verify the file if requested.

    Args:
        arguments: the parsed command line.
        search: that found the front.
        front: the content of its front.json.
        rule: chooses the point.
        output: the file to write.
    """
    with quiet_lightning():
        picked = pick_point(rule, front)
        point = front["points"][picked.position]
        library = Library.open(search.run.library)
        _settings(front)
        check_same_library(library, front, point, search)
        library.check_file(int(point["level"]))
        test = _test_images(library, front, arguments) if arguments.verify else None
        network = library_network(library, arguments.network)
        # A network of the zoo is built from the file alone, as users of the file do.
        users_network = network if arguments.network else None
        networks, genotype = point_network(library, network, front, point, search)
        packed = pack_candidate(networks, genotype)
        coding = arguments.coding or front["coding"]
        promise, verdict = "", []

        def verify(path: Path) -> None:
            nonlocal promise
            promise = _promise(front, point, arguments.format, coding, path.stat().st_size)
            if test is not None:
                conditions = _conditions(networks, front, point)
                correct = verify_export(path, arguments.format, packed, *test, conditions, users_network)
                verdict.append(_verdict(correct, len(test[1]), point, arguments.format, conditions))

        written = export_network(
            output,
            packed,
            arguments.format,
            coding=coding,
            network=users_network,
            expected=_expected_scores(networks, genotype),
            verify=verify,
        )
        print(picked.reason)
        print(f"{output}: {written:,} bytes{promise}")
        print(*verdict, sep="\n", end="\n" if verdict else "")


def _test_images(library: Library, front: Front, arguments: Namespace) -> tuple[Tensor, Tensor]:
    """Return the test images that a front was measured on, and their labels; older fronts do not say which they were.

    Raises:
        UserError: they cannot be loaded, or are others now.
    """
    dataset, measured = arguments.dataset, str(front["dataset"])
    if dataset is None and measured != library.manifest.data["dataset"]:
        # A file never makes code run.
        if names_users_data(measured) or names_users_data(library.manifest.data["dataset"]):
            raise UserError(f"expected --dataset {measured}, on which the front was measured, found no --dataset")
        dataset = measured
    data = library_data(library, dataset, arguments.data_dir)
    images, labels = load_split(data, "test")
    check_images(library, data, images, labels, "test")
    recorded = (front.get("images_sha256") or {}).get("test")
    if recorded is not None and recorded != (found := tensor_digest(images, labels)):
        raise UserError(
            f"expected the test images of {measured} that the front was measured on ({recorded[:12]}), found others in "
            f"{measured_dataset(library, data, dataset)} ({found[:12]})"
        )
    return images, labels


def check_same_library(library: Library, front: Front, point: Point, search: SearchFolder | None) -> None:
    """Check that a point is still made of what was searched; older fronts do not say which it was.

    Raises:
        UserError: the level, the fine-tuned weights, the network or the calibration are others now.
    """
    if point.get("tuned") and search is not None:
        path = finetuned_path(search.finetuned, str(point["tuned"]))
        found = sha256_of_file(existing_file(path, "fine-tuned weights"))
    else:
        found = library.record(int(point["level"])).sha256
    manifest = library.manifest
    for what, recorded, now in (
        (f"the weights of point {point['index']}", point.get("weights_sha256"), found),
        ("the network", front.get("graph_sha256"), manifest.graph_sha256),
    ):
        if isinstance(recorded, str) and recorded != now:
            raise UserError(
                f"expected {what} as they were searched ({recorded[:12]}), found others in {library.path} "
                f"({str(now)[:12]}): the library was made again; search it again"
            )
    recorded = point.get("calibration_sha256")
    if recorded is not None and (found := _calibration(library, front).sha256(int(point["level"]))) != recorded:
        raise UserError(
            f"expected the calibration of level {point['level']} % as the front was measured with it "
            f"({recorded[:12]}), found another ({found[:12]}): search the library again under another --name"
        )


def _calibration(library: Library, front: Front) -> LayerInputStore:
    return open_calibration(library, Path(str(front.get("calibration"))).name)


@dataclasses.dataclass(frozen=True)
class _Settings:
    """The settings of a search that decide what its networks compute."""

    quantizer: QuantizerName
    per_channel: bool
    bias_correction: bool = False
    rounding: RoundingName = "nearest"
    activation_bits: int = FULL_ACTIVATION_BITS
    precision: str = "32-true"

    def __post_init__(self) -> None:
        bits = f"activation_bits of {MIN_ACTIVATION_BITS}..{FULL_ACTIVATION_BITS}"
        require(MIN_ACTIVATION_BITS <= self.activation_bits <= FULL_ACTIVATION_BITS, bits, self.activation_bits)
        # Lightning knows the names.
        with lightning_refusals():
            validation_trainer(torch.device("cpu"), self.precision)


def _settings(front: Front) -> _Settings:
    return checked(_Settings, front["settings"], "a front with the settings of its search")


def _conditions(networks: CompressedNetworks, front: Front, point: Point) -> EvaluationConditions:
    settings = _settings(front)
    return EvaluationConditions(
        batch_size=networks.library.manifest.evaluation_batch_size,
        precision=settings.precision,
        activation_bits=settings.activation_bits,
        input_ranges=point.get("input_ranges"),
        memory_format=networks.memory_format,
        compiled=front.get("compiled", False),
    )


def pack_point(
    library: Library,
    network: nn.Module | None,
    front: Front,
    point: Point,
    search: SearchFolder | None = None,
) -> PackedNetwork:
    """Return the packed network of a point of a front; see ``point_network``."""
    return pack_candidate(*point_network(library, network, front, point, search))


def point_network(
    library: Library,
    network: nn.Module | None,
    front: Front,
    point: Point,
    search: SearchFolder | None = None,
) -> tuple[CompressedNetworks, Genotype]:
    """Return the networks of a library as a search had them, and the genotype of a point of its front.

    Args:
        library: of the front.
        network: a user's network; None for a network of the zoo.
        front: the content of front.json.
        point: one of its points.
        search: folder of the search, which holds the weights of fine-tuned points.

    Raises:
        UserError: the front names layers or settings that the library does not have.
    """
    settings = _settings(front)
    quantizer = Quantizer(
        settings.quantizer, settings.per_channel, settings.bias_correction, rounding=settings.rounding
    )
    try:
        bits = tuple(int(point["bits"][layer.name]) for layer in library.manifest.compressed_layers)
    except KeyError as error:
        raise UserError(f"expected a front of the library {library.path}, found one without {error}") from None
    calibration = front.get("calibration")
    if quantizer.needs_layer_inputs and not isinstance(calibration, str):
        raise UserError(f"expected the name of a calibration in the front, found {calibration!r}")
    inputs = None if calibration is None else _calibration(library, front)
    finetuned_folder = search.finetuned if search else None
    graph = checked_library_graph(library, network or library_network(library), _noise(library))
    networks = CompressedNetworks(library, graph, quantizer, inputs=inputs, finetuned_folder=finetuned_folder)
    return networks, Genotype(int(point["level"]), bits, str(point.get("tuned") or ""))


def _noise(library: Library) -> Tensor:
    """Return images of noise, which is enough to compare two forms of a network: an export needs no data."""
    generator = torch.Generator().manual_seed(0)
    shape = library.manifest.input_shape
    images = min(_CHECKED_IMAGES, max(2, MOST_IMAGE_VALUES // math.prod(shape)))
    return torch.randn(images, *shape, generator=generator)


@torch.no_grad()
def _expected_scores(networks: CompressedNetworks, genotype: Genotype) -> ExpectedScores:
    images = _noise(networks.library)
    return ExpectedScores(images, networks.load(genotype)(images))


def _promise(front: Front, point: Point, format: str, coding: str, written: int) -> str:
    """Check that a packed file has the size that the search counted, if the search counted this format and coding."""
    promised = point.get("size_bytes")
    if format != "emomc" or front["accounting"] != "exact" or coding != front["coding"] or promised is None:
        return ""
    counted = front.get("packed_file_version", 1)
    if counted != VERSION:
        return f" in version {VERSION} of the packed file; the search counted {promised:,} in version {counted}"
    if written != promised:
        raise UserError(
            f"expected a file of the {promised:,} bytes that the search counted, found {written:,}: "
            f"the library or this program differs from that of the search; nothing is written"
        )
    return ", as the search counted"


def _verdict(correct: int, images: int, point: Point, format: FormatName, conditions: EvaluationConditions) -> str:
    """Compare the file's test accuracy with that of the front.

    Raises:
        UserError: they differ; if the format is not exact, by more than one image and more than 0.1 % of the images.
    """
    accuracy = f"test accuracy {100 * correct / images:.2f} %"
    if format == "onnx" and point.get("input_ranges"):
        return (
            f"Read back: {accuracy} with activations in float32; the front's figure is with "
            f"{conditions.activation_bits} bits"
        )
    text = f"{accuracy} ({correct:,} of {images:,} images)"
    promised = point.get("test_correct")
    if promised is None:
        return f"Read back: {text}; the front has no figure to compare with"
    allowed = 0.0 if FORMATS[format].exact else max(1.0, images / 1000)
    if point.get("test_images") != images or abs(correct - promised) > allowed:
        raise UserError(
            f"expected {promised:,} of {point.get('test_images')} test images classified correctly, as in the "
            f"front, found {text}; equal results need the machine, number of threads and images of the search: "
            f"nothing is written"
        )
    return f"Read back: {text}, as the front says" + ("" if correct == promised else f" ({promised:,}) within 0.1 %")
