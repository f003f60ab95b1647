"""Reading front.json, with errors that name the wrong entry.

``docs/fronts.md`` describes every entry.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emomc.common.errors import UserError, is_whole
from emomc.common.files import read_json

FRONT_FORMAT_VERSION = 1
"""Incremented when an old reader would misread the new layout, not for new optional entries."""

ENERGY_PARTS = ("mac", "input", "weight", "output", "dram")
"""Parts of a layer's energy, in the order in which they are shown."""

Front = Mapping[str, Any]
"""The content of a front.json."""
Point = Mapping[str, Any]
"""One entry of ``points``."""

_STRINGS = ("network", "dataset", "hardware", "dataflow", "coding", "accounting", "energy_unit")
_POINT_NUMBERS = ("level", "validation_accuracy", "energy_mj", "size_kib")
_BASELINE_NUMBERS = ("validation_accuracy", "energy_mj", "size_kib")
_OPTIONAL_NUMBERS = ("test_accuracy", "latency_ms", "cycles")
_COUNTS = ("validation_correct", "validation_images", "test_correct", "test_images")
_HISTORY_NUMBERS = ("generation", "hypervolume", "front_size")


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
    _expect(front, Mapping, "an object", where)
    version = _entry(front, "format_version", where)
    if version != FRONT_FORMAT_VERSION:
        raise UserError(f"expected format_version {FRONT_FORMAT_VERSION} in {where}, found {version!r}")
    for key in _STRINGS:
        _expect(_entry(front, key, where), str, "a text", f"{key} of {where}")
    for key in ("settings", "versions"):
        _expect(_entry(front, key, where), Mapping, "an object", f"{key} of {where}")
    _expect(_entry(front, "finished", where), bool, "true or false", f"finished of {where}")
    objectives = _expect(_entry(front, "objectives", where), list, "a list", f"objectives of {where}")
    if not objectives or not all(isinstance(name, str) for name in objectives):
        raise UserError(f"expected names in objectives of {where}, found {objectives!r}")
    names = _check_layers(front, where)
    baseline = _expect(_entry(front, "baseline", where), Mapping, "an object", f"baseline of {where}")
    _check_numbers(baseline, _BASELINE_NUMBERS, f"baseline of {where}")
    for generation, entry in enumerate(_expect(_entry(front, "history", where), list, "a list", f"history of {where}")):
        place = f"history[{generation}] of {where}"
        _check_numbers(_expect(entry, Mapping, "an object", place), _HISTORY_NUMBERS, place)
    seen: set[int] = set()
    for number, point in enumerate(_expect(_entry(front, "points", where), list, "a list", f"points of {where}")):
        _check_point(point, names, seen, f"points[{number}] of {where}")


def _check_layers(front: Front, where: str) -> list[str]:
    names = []
    for number, layer in enumerate(_expect(_entry(front, "layers", where), list, "a list", f"layers of {where}")):
        place = f"layers[{number}] of {where}"
        _expect(layer, Mapping, "an object", place)
        names.append(_expect(_entry(layer, "name", place), str, "a text", f"name of {place}"))
    return names


def _check_point(point: Any, layers: list[str], seen: set[int], where: str) -> None:
    _expect(point, Mapping, "an object", where)
    index = _entry(point, "index", where)
    if not isinstance(index, int) or isinstance(index, bool) or index in seen:
        raise UserError(f"expected a whole number that no other point has as index of {where}, found {index!r}")
    seen.add(index)
    _check_numbers(point, _POINT_NUMBERS, where)
    _whole(point["level"], f"level of {where}")
    for key in ("bits", "density"):
        values = _expect(_entry(point, key, where), Mapping, "an object", f"{key} of {where}")
        _check_numbers(values, layers, f"{key} of {where}")
    for layer in layers:
        _whole(point["bits"][layer], f"bits[{layer!r}] of {where}")
    for layer, parts in _optional_object(point, "energy_by_layer", where).items():
        place = f"energy_by_layer[{layer!r}] of {where}"
        _check_numbers(_expect(parts, Mapping, "an object", place), list(parts), place)
    sizes = _optional_object(point, "bytes_by_layer", where)
    _check_numbers(sizes, list(sizes), f"bytes_by_layer of {where}")


def _optional_object(values: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = _expect(values.get(key) or {}, Mapping, "an object", f"{key} of {where}")
    return found


def _check_numbers(values: Mapping[str, Any], required: tuple[str, ...] | list[str], where: str) -> None:
    for key in required:
        _finite(_entry(values, key, where), f"{key} of {where}")
    for key in (*_OPTIONAL_NUMBERS, *_COUNTS):
        if values.get(key) is not None:
            _finite(values[key], f"{key} of {where}")


def _finite(value: Any, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UserError(f"expected a finite number as {where}, found {value!r}")


def _whole(value: Any, where: str) -> None:
    if not is_whole(value):
        raise UserError(f"expected a whole number of at least 1 as {where}, found {value!r}")


def _entry(values: Mapping[str, Any], key: str, where: str) -> Any:
    if key not in values:
        raise UserError(f"expected an entry {key} in {where}, found none")
    return values[key]


def _expect(value: Any, kind: Any, name: str, where: str) -> Any:
    if not isinstance(value, kind):
        raise UserError(f"expected {name} as {where}, found {type(value).__name__}")
    return value
