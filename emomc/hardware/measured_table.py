"""What layers take on a device, as it was measured: a CSV file of times and, if known, energies.

A line whose first character is ``#`` is a remark. The columns:

- ``shape``: the shape of a layer as ``shape_text`` writes it; the line serves every call of every layer of this shape.
- ``layer``: without a shape, the name of a layer, whose calls were measured together; beside a shape, a remark.
- ``weight_bits``, ``activation_bits``: whole numbers, 1..32.
- ``density``: fraction of weights that are not zero, above 0 and at most 1; empty, or no such column: it makes no
  difference.
- ``ms``: milliseconds for one image, above 0. ``mj``: millijoules, in every line or in none.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emomc.common.errors import UserError, require, shown
from emomc.compression.widths import UNCOMPRESSED_BITS
from emomc.networks.layers import LayerCall, LayerShape

Array = npt.NDArray[np.float64]

COLUMNS = ("layer", "shape", "weight_bits", "activation_bits", "density", "ms", "mj")
_REQUIRED = ("weight_bits", "activation_bits", "ms")
_MOST = 1e9
"""Milliseconds and millijoules of a layer at most."""
_LONGEST_FILE = 1 << 26
"""Bytes of a table at most."""


def shape_text(layer: LayerShape, call: LayerCall) -> str:
    """Return the shape of one call of a layer, such as ``conv 6>16 5x5 s1x1 d1x1 g1 14x14>10x10``.

    That is: kind, input and output channels, kernel, stride, dilation, groups, sizes of the input and output map.
    """
    kernel, stride, dilation, before, after = (
        f"{height}x{width}"
        for height, width in (layer.kernel_size, layer.stride, layer.dilation, call.input_size, call.output_size)
    )
    channels = f"{layer.in_channels}>{layer.out_channels}"
    return f"{layer.kind} {channels} {kernel} s{stride} d{dilation} g{layer.groups} {before}>{after}"


@dataclasses.dataclass(frozen=True, eq=False)
class Form:
    """A layer with one pair of widths, at the densities at which it was measured."""

    weight_bits: int
    activation_bits: int
    densities: Array
    """Ascending, shape (k,); a single infinite one if the density makes no difference."""
    ms: Array
    """Milliseconds at each of them."""
    mj: Array
    """Millijoules at each of them; 0 where no energies are known."""

    def at(self, density: Array) -> tuple[Array, Array]:
        """Return the milliseconds and millijoules at other densities, of their shape.

        Between two densities they lie on a line, below the lowest they are those of the lowest. Above the highest
        nothing is known: infinite.
        """
        known = density <= self.densities[-1]
        ms, mj = (np.where(known, np.interp(density, self.densities, values), np.inf) for values in (self.ms, self.mj))
        return ms, mj


@dataclasses.dataclass(frozen=True, eq=False)
class MeasuredTable:
    """What was measured, by layer."""

    file: str
    """Name of the file, for errors and reports."""
    sha256: str
    """Of its bytes."""
    remark: str
    """Its first remark."""
    by_shape: Mapping[str, Sequence[Form]]
    """``shape_text`` -> the forms that one call was measured in."""
    by_layer: Mapping[str, Sequence[Form]]
    """Name of a layer -> the forms that all its calls together were measured in."""
    has_energy: bool
    """Whether the table has millijoules."""

    @property
    def least_bits(self) -> tuple[int, int]:
        """The fewest bits of weights and of activations that were measured."""
        forms = [*itertools.chain.from_iterable((*self.by_shape.values(), *self.by_layer.values()))]
        return min(form.weight_bits for form in forms), min(form.activation_bits for form in forms)


@dataclasses.dataclass(frozen=True)
class _Line:
    """One measurement."""

    number: int
    layer: str
    shape: str
    weight_bits: int
    activation_bits: int
    density: float
    ms: float
    mj: float | None


def read_measured_table(path: Path) -> MeasuredTable:
    """Read a table.

    Raises:
        UserError: the file cannot be read, or a line is wrong; the error names the file, the line and the column.
    """
    try:
        require(path.stat().st_size <= _LONGEST_FILE, f"a table of at most {_LONGEST_FILE} bytes at {path}", "more")
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise UserError(f"expected a table of measurements at {path}, found one that cannot be read: {error}") from None
    remarks = [line[1:].strip() for line in text.splitlines() if line.startswith("#")]
    lines = _parse(text, path)
    with_energy = [line for line in lines if line.mj is not None]
    if with_energy and len(with_energy) < len(lines):
        without = next(line for line in lines if line.mj is None)
        raise UserError(f"expected mj in every line of {path} or in none, found none in line {without.number}")
    return MeasuredTable(
        file=path.name,
        sha256=hashlib.sha256(content).hexdigest(),
        remark=remarks[0] if remarks else "",
        by_shape=_forms({line.shape: [] for line in lines if line.shape}, lines, path, "shape"),
        by_layer=_forms({line.layer: [] for line in lines if not line.shape}, lines, path, "layer"),
        has_energy=bool(with_energy),
    )


def _parse(text: str, path: Path) -> list[_Line]:
    numbered = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    kept = [(number, line) for number, line in numbered if not line.startswith("#")]
    try:
        rows = list(csv.reader((line for _, line in kept), strict=True))
    except csv.Error as error:
        raise UserError(f"expected a table of measurements in CSV at {path}, found: {error}") from None
    if len(rows) != len(kept) or not rows:
        found = "cells that go over several lines" if rows else "nothing"
        raise UserError(f"expected a table of measurements in CSV at {path}, found {found}")
    header = [name.strip() for name in rows[0]]
    _check_header(header, path)
    if len(rows) == 1:
        raise UserError(f"expected measurements below the names of the columns of {path}, found none")
    lines = []
    for (number, _), cells in zip(kept[1:], rows[1:], strict=True):
        where = f"line {number} of {path}"
        if len(cells) != len(header):
            raise UserError(f"expected {len(header)} cells in {where}, found {len(cells)}")
        lines.append(_line(number, dict(zip(header, map(str.strip, cells), strict=True)), where))
    return lines


def _check_header(header: Sequence[str], path: Path) -> None:
    for name in header:
        if name not in COLUMNS or header.count(name) > 1:
            raise UserError(f"expected the columns {', '.join(COLUMNS)} of {path}, each once, found {shown(name)}")
    for name in _REQUIRED:
        if name not in header:
            raise UserError(f"expected a column {name} in {path}, found {', '.join(map(shown, header))}")
    if not {"layer", "shape"} & {*header}:
        raise UserError(f"expected a column layer or shape in {path}, found {', '.join(map(shown, header))}")


def _line(number: int, cells: Mapping[str, str], where: str) -> _Line:
    layer, shape = cells.get("layer", ""), " ".join(cells.get("shape", "").split())
    require(bool(layer or shape), f"a layer or a shape in {where}", "neither")
    density, mj = cells.get("density", ""), cells.get("mj", "")
    return _Line(
        number,
        layer,
        shape,
        _bits(cells["weight_bits"], f"weight_bits in {where}"),
        _bits(cells["activation_bits"], f"activation_bits in {where}"),
        _positive(density, f"a density in {where}", 1.0) if density else math.inf,
        _positive(cells["ms"], f"ms in {where}", _MOST),
        _positive(mj, f"mj in {where}", _MOST) if mj else None,
    )


def _bits(text: str, what: str) -> int:
    found = int(text) if text.isascii() and text.isdigit() and len(text) < 3 else 0
    require(1 <= found <= UNCOMPRESSED_BITS, f"{what} as a whole number of 1..{UNCOMPRESSED_BITS}", text)
    return found


def _positive(text: str, what: str, most: float) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    require(0 < found <= most, f"{what} as a number above 0 and at most {most:g}", text)
    return found


def _forms(groups: dict[str, list[_Line]], lines: Iterable[_Line], path: Path, what: str) -> dict[str, Sequence[Form]]:
    """Return the forms of each layer or shape.

    Args:
        groups: names -> nothing yet.
        lines: all.
        path: of the table, for errors.
        what: layer or shape.
    """
    for line in lines:
        if what == "shape" and line.shape:
            groups[line.shape].append(line)
        elif what == "layer" and not line.shape:
            groups[line.layer].append(line)
    return {name: _forms_of(group, f"{what} {name}", path) for name, group in groups.items()}


def _forms_of(lines: Iterable[_Line], name: str, path: Path) -> list[Form]:
    by_widths: dict[tuple[int, int], list[_Line]] = {}
    for line in lines:
        by_widths.setdefault((line.weight_bits, line.activation_bits), []).append(line)
    forms = []
    for (weight_bits, activation_bits), group in sorted(by_widths.items()):
        ordered = sorted(group, key=lambda line: line.density)
        densities = [line.density for line in ordered]
        widths = f"{name} with {weight_bits} and {activation_bits} bits"
        if len({*densities}) < len(densities):
            twice = next(b for a, b in itertools.pairwise(ordered) if a.density == b.density)
            raise UserError(f"expected one line of {path} for each density of {widths}, found another: {twice.number}")
        if len(densities) > 1 and math.isinf(densities[-1]):
            raise UserError(f"expected a density in every line of {path} for {widths}, or in none, found both")
        ms, mj = ([getattr(line, key) or 0.0 for line in ordered] for key in ("ms", "mj"))
        forms.append(Form(weight_bits, activation_bits, np.array(densities), np.array(ms), np.array(mj)))
    return forms
