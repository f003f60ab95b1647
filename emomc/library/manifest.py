"""The manifest of a library: all that a search needs besides the weights."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from emomc.common.errors import UserError, require
from emomc.common.files import read_json, write_json
from emomc.common.metric import ACCURACY, Metric, Mode
from emomc.common.schema import checked
from emomc.compression.levels import UNSTRUCTURED, Level, LevelName
from emomc.networks.interface import NetworkForm, NetworkInterface
from emomc.networks.layers import LayerShape

FORMAT_VERSION = 1
MANIFEST = "library.json"
DENSE = 100
"""The level of the dense network, percent."""

MOST_IMAGE_VALUES = 1 << 26
"""Pixels times channels of an image, at most: 256 MiB in float32."""
MOST_CLASSES = 1 << 20
MOST_IMAGES = 1 << 20
"""Images per batch of an evaluation, at most."""


@dataclasses.dataclass(frozen=True)
class LevelRecord:
    """One level of the library."""

    percent: int
    """Weights remaining, percent."""
    file: str
    """Name of the weights file in the library's folder."""
    sha256: str
    """SHA-256 of that file."""
    remaining: dict[str, int]
    """Layer name -> number of weights that remain."""
    validation_accuracy: float
    """Fraction of the validation images classified correctly, 0..1; of another metric, the quality: see ``Metric``."""
    epochs: int
    """Epochs of training spent on this level."""
    pattern: str = UNSTRUCTURED
    """Of the zeros, see ``Level``."""
    metric: float | None = None
    """Value of the metric of a user's task; None for an image classifier."""

    def __post_init__(self) -> None:
        """Check the ranges, since the values may come from an untrusted file; their types are the schema's.

        Raises:
            UserError: a value is out of range, or the file name contains a folder.
        """
        label = self.level.label
        plain = Path(self.file).name == self.file and "\0" not in self.file
        require(plain, f"a file name without folders for level {label}", self.file)
        counts = all(count >= 0 for count in self.remaining.values())
        require(counts, f"remaining weights by layer in level {label}", self.remaining)
        known = (self.validation_accuracy, 0.0 if self.metric is None else self.metric)
        require(all(map(math.isfinite, known)), f"finite results in level {label}", known)
        share = self.metric is not None or 0 <= self.validation_accuracy <= 1
        require(share, f"a validation_accuracy of 0..1 in level {label}", self.validation_accuracy)
        require(self.epochs >= 0, f"epochs of at least 0 in level {label}", self.epochs)

    @property
    def level(self) -> Level:
        """The level."""
        return Level(self.percent, self.pattern)

    @property
    def name(self) -> LevelName:
        """What the level is called."""
        return self.level.name


@dataclasses.dataclass(frozen=True)
class TaskRecord:
    """A user's own task: what was trained, and the metric of it."""

    attribute: str
    """Attribute of the LightningModule that is the network."""
    monitor: str
    """Name of the validation metric."""
    mode: Mode
    """Whether a larger or a smaller value is better."""
    untrained: float
    """The metric of the network before its training."""
    metric_range: tuple[float, float] | None = None
    """Lowest and highest value; None: from that of the untrained network to that of the dense one."""
    mean_of_samples: bool = False
    """Whether the metric is a mean of values per sample within the range."""
    test_monitor: str | None = None
    """Name of the metric on the test data; None: it follows from that of validation."""
    interface: NetworkInterface | None = None
    """Inputs and outputs of the network, where they are more than one tensor each."""


@dataclasses.dataclass(frozen=True)
class Manifest:
    """All that a search needs of a library besides the weights."""

    network: str
    """Name in the zoo, or ``file.py:Class`` / ``module:Class`` as given when the library was made."""
    network_args: dict[str, Any]
    network_source_sha256: str | None
    """SHA-256 of the user's source file; None for the project's own networks."""
    data: dict[str, Any]
    """The fields of the ``DataConfig`` that the library was trained with."""
    input_shape: tuple[int, ...]
    """Of what the network takes: channels, height, width of an image."""
    class_names: tuple[str, ...]
    mean: tuple[float, ...] | None
    """Per channel, of pixels scaled to 0..1; None if a user's data module does not give it."""
    std: tuple[float, ...] | None
    layers: tuple[LayerShape, ...]
    """Every layer that multiplies, in forward order, with those that have no weights to compress."""
    excluded_layers: tuple[str, ...]
    """Layers that stay uncompressed."""
    evaluation_batch_size: int
    """Images per batch of every evaluation: results are bit-identical for one batch size only."""
    settings: dict[str, Any]
    """The training settings that made the library."""
    network_output: str | None = None
    """Key or index of the class scores among several outputs of the network."""
    graph_sha256: str | None = None
    """Digest of the network's computation; None in libraries made before there was one."""
    torch_version: str | None = None
    """Version of torch that the digest was made with: others may export the same network to other operations."""
    data_source_sha256: str | None = None
    """SHA-256 of the source file of a user's data module; None for the project's own datasets."""
    images_sha256: dict[str, str] | None = None
    """``validation`` and ``test`` -> digest of the images and labels; None in libraries made before there was one."""
    given_in: str | None = None
    """Folder that relative paths in ``data`` start from, relative to the library; None if there are none."""
    task: TaskRecord | None = None
    """The user's own task; None: the network classifies images. ``network`` then names the LightningModule."""
    levels: tuple[LevelRecord, ...] = ()
    """Descending by ``Level.order``, the dense network (100 %) first."""

    def __post_init__(self) -> None:
        """Check the ranges, since the values may come from an untrusted file; their types are the schema's.

        Raises:
            UserError: a value is out of range.
        """
        require(isinstance(self.data.get("dataset"), str), "a dataset's name in data", self.data.get("dataset"))
        require(min(self.input_shape) >= 1, "an input_shape of at least 1 pixel and channel", self.input_shape)
        image = "channels, height and width as input_shape"
        require(self.task is not None or len(self.input_shape) == 3, image, self.input_shape)
        interface = None if self.task is None else self.task.interface
        if interface is not None and interface.inputs:
            require(self.input_shape == interface.input_shape, "the shape of the joined inputs", self.input_shape)
        image = f"an input_shape of at most {MOST_IMAGE_VALUES} pixels times channels"
        require(math.prod(self.input_shape) <= MOST_IMAGE_VALUES, image, self.input_shape)
        classes = f"2 to {MOST_CLASSES} class names as class_names"
        enough = self.task is not None or len(self.class_names) >= 2
        require(enough and len(self.class_names) <= MOST_CLASSES, classes, self.class_names)
        for key in ("mean", "std"):
            values = getattr(self, key)
            channels = values is None or len(values) == self.input_shape[0]
            require(channels, f"a number for each of {self.input_shape[0]} channels as {key}", values)
        require(all(value > 0 for value in self.std or ()), "numbers above 0 as std", self.std)
        size = f"an evaluation_batch_size of 1..{MOST_IMAGES}"
        require(1 <= self.evaluation_batch_size <= MOST_IMAGES, size, self.evaluation_batch_size)
        levels = [record.level for record in self.levels]
        ordered = sorted({*levels}, key=lambda level: level.order, reverse=True)
        require(levels == ordered, "levels in descending order, each once", [level.name for level in levels])

    @property
    def form(self) -> NetworkForm:
        """How the network is seen as a function of one tensor."""
        return self.network_output if self.task is None or self.task.interface is None else self.task.interface

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def metric(self) -> Metric:
        """Return the metric by which networks are compared.

        Raises:
            UserError: training did not make the metric of a user's task better, and its range is not given.
        """
        if self.task is None:
            return ACCURACY
        dense = next((record.metric for record in self.levels if record.percent == DENSE), None)
        return metric_of(self.task, dense)

    @property
    def stored_layers(self) -> tuple[LayerShape, ...]:
        """The layers with weights of their own, compressed or not."""
        return tuple(layer for layer in self.layers if layer.stored)

    @property
    def compressed_layers(self) -> tuple[LayerShape, ...]:
        """The layers whose weights are pruned and quantized."""
        return tuple(layer for layer in self.stored_layers if layer.name not in self.excluded_layers)


def metric_of(task: TaskRecord, dense: float | None) -> Metric:
    """Return the metric of a user's task.

    Args:
        task: the task.
        dense: value of the dense network; None: it is not known yet.

    Raises:
        UserError: the range follows from the dense network, which is no better than the untrained one.
    """
    if task.metric_range is not None:
        return Metric(task.monitor, task.mode, *task.metric_range)
    if dense is None:
        raise UserError(f"expected a dense network, whose {task.monitor} is an end of its range, found none")
    if not (dense > task.untrained if task.mode == "max" else dense < task.untrained):
        raise UserError(
            f"expected training to make {task.monitor} better than the {task.untrained:g} of the untrained network, "
            f"found {dense:g} ({task.mode} is better): name the range of the metric with --metric_range"
        )
    low, high = sorted((task.untrained, dense))
    return Metric(task.monitor, task.mode, low, high)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of the library in a folder.

    Raises:
        UserError: there is none, it is of another format version, or it is malformed.
    """
    values = read_json(folder / MANIFEST, "the manifest of a library")
    if not isinstance(values, dict) or values.get("format_version") != FORMAT_VERSION:
        found = values.get("format_version") if isinstance(values, dict) else type(values).__name__
        raise UserError(f"expected a library of format version {FORMAT_VERSION} at {folder}, found {found!r}")
    return checked(Manifest, values, f"a complete manifest at {folder / MANIFEST}")


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest into the library's folder, completely or not at all."""
    values = dataclasses.asdict(manifest)
    for level in values["levels"]:
        # Libraries did not always have patterns: without one, a level looks as it did then.
        if level["pattern"] == UNSTRUCTURED:
            del level["pattern"]
    write_json(folder / MANIFEST, {"format_version": FORMAT_VERSION, **values})
