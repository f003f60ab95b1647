"""The work of ``emomc-export``."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from jsonargparse import Namespace
from pytorch_lightning import LightningDataModule
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
from emomc.compression.quantizers import Quantizer, QuantizerName, RoundingName, ScaleName
from emomc.compression.widths import FULL_ACTIVATION_BITS
from emomc.data.splits import Split, has_test_images, load_split
from emomc.export.c.arithmetic import choose_arithmetic
from emomc.export.formats import FORMATS, ExportOptions, FormatName, export_network, verify_export
from emomc.export.task_verification import verify_task
from emomc.export.verification import EvaluationConditions, ExpectedScores, ReadBack
from emomc.fronts.front_file import Front, Point, activation_bits, level_of, point_activation_bits
from emomc.fronts.pick_rules import Pick
from emomc.fronts.picks import pick_point
from emomc.library.data_sources import check_images, library_data, measured_dataset, names_users_data
from emomc.library.layer_input_store import LayerInputStore
from emomc.library.library import Library
from emomc.library.manifest import MOST_IMAGE_VALUES
from emomc.library.network_sources import checked_library_graph, library_network
from emomc.library.task_sources import library_task
from emomc.packed_file.layout import VERSION
from emomc.packed_file.network import PackedNetwork
from emomc.runtime.digests import tensor_digest
from emomc.runtime.lightning_refusals import lightning_refusals
from emomc.runtime.notices import quiet_lightning
from emomc.runtime.trainers import validation_trainer
from emomc.tasks.users_task import UsersTask

# An exported file is compared with the network that was searched on this many images.
_CHECKED_IMAGES = 16


def export(
    arguments: Namespace, search: SearchFolder, front: Front, rule: Pick, output: Path, options: ExportOptions
) -> None:
    """Write one point of a front, print the result and verify the file if requested.

    Args:
        arguments: the parsed command line.
        search: that found the front.
        front: the content of its front.json.
        rule: chooses the point.
        output: the file to write.
        options: what the format leaves open.
    """
    with quiet_lightning():
        picked = pick_point(rule, front)
        point = front["points"][picked.position]
        if options.onnx is not None:
            options.onnx.check_weight_bits(point["bits"])
        library = Library.open(search.run.library)
        _settings(front)
        check_same_library(library, front, point, search)
        library.check_file(level_of(point).name)
        task = _task(library, arguments)
        images = _images(library, front, arguments) if arguments.verify and task is None else {}
        network = library_network(library, arguments.network) if task is None else task.network
        # A network of the zoo is built from the file alone, as users of the file do.
        users_network = network if arguments.network or task else None
        networks, genotype = point_network(library, network, front, point, search)
        packed = pack_candidate(networks, genotype)
        if arguments.format == "c":
            choose_arithmetic(packed.layers, options.arithmetic)
        promise, verdict = "", []

        def verify(path: Path) -> None:
            nonlocal promise
            promise = _promise(front, point, arguments.format, options.coding, path.stat().st_size)
            conditions = _conditions(networks, front)
            for split, measured in images.items():
                found = verify_export(path, arguments.format, packed, *measured, conditions, users_network)
                verdict.append(_verdict(found, split, len(measured[1]), point, arguments.format))
            if task is not None and arguments.verify:
                exported = FORMATS[arguments.format].running(path, packed, users_network)
                verdict.extend(
                    verify_task(task, exported, front, point, conditions, exact=FORMATS[arguments.format].exact)
                )

        written = export_network(
            output,
            packed,
            arguments.format,
            options=options,
            network=users_network,
            expected=_expected_scores(networks, genotype, options),
            verify=verify,
        )
        print(picked.reason)
        print(f"{output}: {written:,} bytes{promise}")
        if (facts_of := FORMATS[arguments.format].facts_of) is not None:
            print(f"{output}: {facts_of(output)}")
        print(*verdict, sep="\n", end="\n" if verdict else "")


def _task(library: Library, arguments: Namespace) -> UsersTask | None:
    """Return the user's task of a library; its data are only needed to verify.

    Raises:
        UserError: it is not named.
    """
    if library.manifest.task is None:
        require(arguments.module is None, "no --module for a library of an image classifier", arguments.module)
        return None
    data = LightningDataModule()
    if arguments.verify:
        data = library_data(library, arguments.dataset, arguments.data_dir)
    return library_task(library, data, arguments.module)


def _images(library: Library, front: Front, arguments: Namespace) -> dict[Split, tuple[Tensor, Tensor]]:
    """Return the images that a front was measured on, and their labels; older fronts do not say which they were.

    These are the test images. An onnx file is compared on the validation images, too, and on those alone where there
    are no others.

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
    splits: tuple[Split, ...] = ("test",)
    if arguments.format == "onnx":
        splits = ("validation", "test") if has_test_images(data) else ("validation",)
    found: dict[Split, tuple[Tensor, Tensor]] = {}
    for split in splits:
        images, labels = found[split] = load_split(data, split)
        check_images(library, data, images, labels, split)
        recorded = (front.get("images_sha256") or {}).get(split)
        if recorded is not None and recorded != (digest := tensor_digest(images, labels)):
            raise UserError(
                f"expected the {split} images of {measured} that the front was measured on ({recorded[:12]}), found "
                f"others in {measured_dataset(library, data, dataset)} ({digest[:12]})"
            )
    return found


def check_same_library(library: Library, front: Front, point: Point, search: SearchFolder | None) -> None:
    """Check that a point is still made of what was searched; older fronts do not say which it was.

    Raises:
        UserError: the level, the fine-tuned weights, the network or the calibration are others now.
    """
    if point.get("tuned") and search is not None:
        path = finetuned_path(search.finetuned, str(point["tuned"]))
        found = sha256_of_file(existing_file(path, "fine-tuned weights"))
    else:
        found = library.record(level_of(point).name).sha256
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
    if recorded is not None and (found := _calibration(library, front).sha256(level_of(point).name)) != recorded:
        raise UserError(
            f"expected the calibration of level {level_of(point).label} as the front was measured with it "
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
    scales: ScaleName = "float32"
    precision: str = "32-true"

    def __post_init__(self) -> None:
        # Lightning knows the names.
        with lightning_refusals():
            validation_trainer(torch.device("cpu"), self.precision)


def _settings(front: Front) -> _Settings:
    return checked(_Settings, front["settings"], "a front with the settings of its search")


def _conditions(networks: CompressedNetworks, front: Front) -> EvaluationConditions:
    return EvaluationConditions(
        batch_size=networks.library.manifest.evaluation_batch_size,
        precision=_settings(front).precision,
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
    settings, widths = _settings(front), activation_bits(front)
    by_layer = len(widths) > 1
    quantizer = Quantizer(
        settings.quantizer,
        settings.per_channel,
        settings.bias_correction,
        widths[-1] if widths[-1] < FULL_ACTIVATION_BITS else None,
        settings.rounding,
        integer_biases=front.get("integer_biases") is True,
        scales=settings.scales,
        layer_activation_bits=widths if by_layer else (),
    )
    layers = [layer.name for layer in library.manifest.compressed_layers]
    try:
        bits = tuple(int(point["bits"][name]) for name in layers)
        activations = point_activation_bits(front, point) if by_layer else {}
        own = tuple(activations[name] for name in layers) if by_layer else ()
    except KeyError as error:
        raise UserError(f"expected a front of the library {library.path}, found one without {error}") from None
    calibration = front.get("calibration")
    if quantizer.needs_layer_inputs and not isinstance(calibration, str):
        raise UserError(f"expected the name of a calibration in the front, found {calibration!r}")
    inputs = None if calibration is None else _calibration(library, front)
    finetuned_folder = search.finetuned if search else None
    graph = checked_library_graph(library, network or library_network(library), _noise(library))
    networks = CompressedNetworks(library, graph, quantizer, inputs=inputs, finetuned_folder=finetuned_folder)
    genotype = Genotype(level_of(point).name, bits, str(point.get("tuned") or ""), own)
    _check_ranges(networks, genotype, point)
    return networks.of(genotype.level), genotype


def _check_ranges(networks: CompressedNetworks, genotype: Genotype, point: Point) -> None:
    """Check that the ranges in the front are those of the calibration.

    Raises:
        UserError: they are not.
    """
    recorded = point.get("input_ranges")
    if recorded is None or networks.inputs is None:
        return
    for layer, range_ in networks.ranges(genotype.level).items():
        found = recorded.get(layer) if isinstance(recorded, Mapping) else recorded
        expected = (
            f"the smallest and the largest input of {layer} as in the calibration, {range_[0]:g} and {range_[1]:g}"
        )
        require(found == list(range_), expected, found)


def _noise(library: Library) -> Tensor:
    """Return images of noise, which is enough to compare two forms of a network: an export needs no data."""
    generator = torch.Generator().manual_seed(0)
    shape = library.manifest.input_shape
    images = min(_CHECKED_IMAGES, max(2, MOST_IMAGE_VALUES // math.prod(shape)))
    return torch.randn(images, *shape, generator=generator)


def _noise_of_pixels(library: Library) -> Tensor:
    """Return normalised images whose pixels are noise."""
    std, mean = (torch.tensor(values).view(-1, 1, 1) for values in (library.manifest.std, library.manifest.mean))
    noise = _noise(library)
    pixels = torch.randint(0, 256, noise.shape, generator=torch.Generator().manual_seed(0))
    return pixels * (1 / (255 * std)) - mean / std


@torch.no_grad()
def _expected_scores(networks: CompressedNetworks, genotype: Genotype, options: ExportOptions) -> ExpectedScores:
    takes_pixels = options.onnx is not None and options.onnx.pixels is not None
    images = (_noise_of_pixels if takes_pixels else _noise)(networks.library)
    rounded = networks.grids(genotype) is not None
    return ExpectedScores(images, networks.load(genotype)(images), rounded)


def _promise(front: Front, point: Point, format: str, coding: str, written: int) -> str:
    """Check that a packed file has the size that the search counted, if the search counted this format and coding."""
    promised = point.get("size_bytes")
    if format != "emomc" or front["accounting"] != "exact" or coding != front["coding"] or promised is None:
        return ""
    counted = front.get("packed_file_version", 1)
    if written != promised and counted != VERSION:
        return f" in version {VERSION} of the packed file; the search counted {promised:,} in version {counted}"
    if written != promised:
        raise UserError(
            f"expected a file of the {promised:,} bytes that the search counted, found {written:,}: "
            f"the library or this program differs from that of the search; nothing is written"
        )
    return ", as the search counted"


def _verdict(found: ReadBack, split: Split, images: int, point: Point, format: FormatName) -> str:
    """Compare the file's accuracy with that of the front.

    Raises:
        UserError: they differ; if the format is not exact, by more than one image and more than 0.1 % of the images.
    """
    text = f"{split} accuracy {100 * found.correct / images:.2f} % ({found.correct:,} of {images:,} images)"
    allowed = 0.0 if FORMATS[format].exact else max(1.0, images / 1000)
    if found.other_class is not None and found.other_class > allowed:
        raise UserError(
            f"expected the class of the network that was searched for every {split} image, or all but "
            f"{int(allowed)}, found {found.other_class:,} others: nothing is written"
        )
    promised = point.get(f"{split}_correct")
    if promised is None:
        return f"Read back: {text}; the front has no figure to compare with"
    if point.get(f"{split}_images") != images or abs(found.correct - promised) > allowed:
        raise UserError(
            f"expected {promised:,} of {point.get(f'{split}_images')} {split} images classified correctly, as in the "
            f"front, found {text}; equal results need the machine, number of threads and images of the search: "
            f"nothing is written"
        )
    others = f"; {found.other_class:,} of {images:,} images of another class than promised" if found.other_class else ""
    within = "" if found.correct == promised else f" ({promised:,}) within 0.1 %"
    return f"Read back: {text}, as the front says{within}{others}"
