"""Reading front.json, with errors that name the wrong entry.

``docs/fronts.md`` describes every entry.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emomc.common.errors import UserError, is_whole, require, shown
from emomc.common.files import read_json
from emomc.common.metric import ACCURACY, Metric
from emomc.common.schema import checked
from emomc.compression.levels import UNSTRUCTURED, Level
from emomc.compression.widths import FULL_ACTIVATION_BITS, MIN_ACTIVATION_BITS

FRONT_FORMAT_VERSION = 1
"""Incremented when an old reader would misread the new layout, not for new optional entries."""

ENERGY_PARTS = ("mac", "input", "weight", "output", "dram")
"""Parts of a layer's energy, in the order in which they are shown."""

Front = Mapping[str, Any]
"""The content of a front.json."""
Point = Mapping[str, Any]
"""One entry of ``points``."""


@dataclasses.dataclass(frozen=True)
class _Layer:
    """One of ``layers``."""

    name: str


@dataclasses.dataclass(frozen=True)
class _Costs:
    """What a point and the uncompressed network have."""

    validation_accuracy: float
    size_kib: float
    energy_mj: float | None = None
    test_accuracy: float | None = None
    validation_metric: float | None = None
    test_metric: float | None = None
    latency_ms: float | None = None
    cycles: float | None = None
    validation_correct: int | None = None
    validation_images: int | None = None
    test_correct: int | None = None
    test_images: int | None = None
    size_bytes: int | None = None
    ram_bytes: int | None = None
    flash_bytes: int | None = None
    c_arithmetic: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Point(_Costs):
    """One of ``points``."""

    index: int
    level: int
    bits: dict[str, int]
    density: dict[str, float]
    pattern: str = UNSTRUCTURED
    activation_bits: dict[str, int] | None = None
    tuned: str | None = None
    weights_sha256: str | None = None
    calibration_sha256: str | None = None
    energy_by_layer: dict[str, dict[str, float]] | None = None
    bytes_by_layer: dict[str, float] | None = None
    next_bit_cost: dict[str, float | None] | None = None
    input_ranges: dict[str, tuple[float, float]] | None = None


@dataclasses.dataclass(frozen=True)
class _Generation:
    """One of ``history``."""

    generation: int
    hypervolume: float
    front_size: int


@dataclasses.dataclass(frozen=True)
class _Front:
    """What every front.json has, and the types of what it may have."""

    network: str
    dataset: str
    hardware: str
    dataflow: str
    coding: str
    accounting: str
    energy_unit: str
    settings: dict[str, Any]
    versions: dict[str, Any]
    finished: bool
    objectives: list[str]
    layers: list[_Layer]
    baseline: _Costs
    history: list[_Generation]
    points: list[_Point]
    packed_file_version: int = 1
    calibration: str | None = None
    graph_sha256: str | None = None
    compiled: bool = False
    integer_biases: bool = False
    images_sha256: dict[str, str] | None = None
    metric: Metric | None = None
    preprocessing: dict[str, Any] | None = None


def read_front(path: Path) -> dict[str, Any]:
    """Read and check a front.json.

    Args:
        path: the file, or the folder of a search that holds a ``front.json``.

    Raises:
        UserError: the file is missing or is not JSON, its format version is unknown, or an entry is missing or wrong.
    """
    file = path / "front.json" if path.is_dir() else path
    front = read_json(file, "a front.json")
    check_front(front, str(file))
    found: dict[str, Any] = front
    return found


def check_front(front: Any, where: str = "the front") -> None:
    """Check that a value has the layout of a front.json.

    Args:
        front: the value.
        where: name of the value in errors, such as its path.

    Raises:
        UserError: an entry is missing or wrong; the error names the first one.
    """
    version = front.get("format_version") if isinstance(front, Mapping) else FRONT_FORMAT_VERSION
    if version != FRONT_FORMAT_VERSION:
        raise UserError(f"expected format_version {FRONT_FORMAT_VERSION} in {where}, found {version!r}")
    found = checked(_Front, front, where)
    if not found.objectives:
        raise UserError(f"expected names in objectives of {where}, found none")
    bounded = found.metric is None
    _check_accuracies(found.baseline, f"the baseline of {where}", bounded=bounded)
    _check_energies(found, where)
    layers = [layer.name for layer in found.layers]
    seen: set[int] = set()
    for number, point in enumerate(found.points):
        place = f"points[{number}] of {where}"
        if point.index in seen:
            raise UserError(f"expected an index that no other point has in {place}, found {point.index}")
        seen.add(point.index)
        if point.pattern != UNSTRUCTURED:
            Level(point.level, point.pattern)
        _check_accuracies(point, place, bounded=bounded)
        by_layer: dict[str, Mapping[str, float]] = {"bits": point.bits, "density": point.density}
        if point.activation_bits is not None:
            by_layer["activation_bits"] = point.activation_bits
        for key, values in by_layer.items():
            if missing := [name for name in layers if name not in values]:
                raise UserError(f"expected an entry {missing[0]} in {key} of {place}, found none")
        whole = {"level": point.level} | {f"bits[{name!r}]": point.bits[name] for name in layers}
        for key, value in whole.items():
            if value < 1:
                raise UserError(f"expected a whole number of at least 1 as {key} of {place}, found {value}")


def _check_energies(front: _Front, where: str) -> None:
    """Check that every entry has an energy, or none has: hardware may have none."""
    entries = {"the baseline": front.baseline} | {f"points[{number}]": one for number, one in enumerate(front.points)}
    without = [place for place, entry in entries.items() if entry.energy_mj is None]
    if without and len(without) < len(entries):
        raise UserError(f"expected a number as energy_mj in {without[0]} of {where}, as other entries have, found none")


def metric_of(front: Front) -> Metric:
    """Return the metric by which the points of a front are compared: its quality is their ``validation_accuracy``."""
    found = front.get("metric")
    return ACCURACY if found is None else Metric(**found)


def _check_accuracies(entry: _Costs, place: str, *, bounded: bool) -> None:
    for kind, accuracy, correct, images in (
        ("validation", entry.validation_accuracy, entry.validation_correct, entry.validation_images),
        ("test", entry.test_accuracy, entry.test_correct, entry.test_images),
    ):
        if accuracy is not None and bounded and not 0 <= accuracy <= 1:
            raise UserError(f"expected a {kind}_accuracy of 0..1 in {place}, found {accuracy}")
        if images is not None and (images < 1 or not 0 <= (correct or 0) <= images):
            raise UserError(
                f"expected {kind}_images of at least 1 and {kind}_correct among them in {place}, "
                f"found {images} and {correct}"
            )


def level_of(point: Point) -> Level:
    """Return the level of a point."""
    return Level(point["level"], point.get("pattern", UNSTRUCTURED))


def activation_bits(front: Front) -> tuple[int, ...]:
    """Return the bits to which the search rounded the inputs of layers, 2..16, ascending; at 16 they were not rounded.

    With several, each point has ``point_activation_bits``.

    Raises:
        UserError: the front has other values.
    """
    found = front["settings"].get("activation_bits", FULL_ACTIVATION_BITS)
    widths = found if isinstance(found, list) else [found]
    within = bool(widths) and all(is_whole(one) and one >= MIN_ACTIVATION_BITS for one in widths)
    expected = f"activation_bits of {MIN_ACTIVATION_BITS}..{FULL_ACTIVATION_BITS}"
    require(within and max(widths) <= FULL_ACTIVATION_BITS, expected, found)
    return tuple(sorted({int(one) for one in widths}))


def point_activation_bits(front: Front, point: Point) -> dict[str, int]:
    """Return layer name -> bits of its inputs in a point of a front whose search chose them by layer.

    Raises:
        UserError: the point lacks the entry, or bits are not among those of the search.
    """
    found, allowed = point.get("activation_bits"), activation_bits(front)
    within = isinstance(found, Mapping) and all(is_whole(one) and one in allowed for one in found.values())
    if not within:
        among = ", ".join(map(str, allowed))
        raise UserError(
            f"expected activation_bits by layer among {among} in point {point['index']}, found {shown(found)}"
        )
    return dict(found or {})


def charged_activation_bits(front: Front) -> int:
    """Return the bits that the search's costs are for, of an input that is rounded to no others.

    They are 16 if an older front does not say, and where the bits of inputs were searched.
    """
    widths = activation_bits(front)
    if len(widths) > 1:
        return FULL_ACTIVATION_BITS
    (rounded,) = widths
    if rounded < FULL_ACTIVATION_BITS:
        return rounded
    description = front.get("hardware_description")
    precision = description.get("precision") if isinstance(description, Mapping) else None
    found = precision.get("I") if isinstance(precision, Mapping) else None
    return int(found) if is_whole(found) and found is not None else FULL_ACTIVATION_BITS
