"""A device that is known by what was measured on it: ``counts: table`` of a hardware file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emomc.common.errors import UserError
from emomc.common.fields import FieldError, Problems, build, check_choice, check_text, fail, require_mapping, show
from emomc.hardware.measured_table import MeasuredTable, read_measured_table
from emomc.hardware.precision import Precision

TABLE = "table"
"""The value of ``counts`` of such a file, and what stands before the colon in the short form ``table:FILE.csv``."""
NEXT, LINEAR = "next", "linear"
BETWEEN_BITS = (NEXT, LINEAR)
"""Ways to read widths that were not measured: as the next wider form that was, or on a line between two."""
_FULL = Precision(32, 32)
_FILE_KEYS = ("version", "name", "technology", "counts", "table", "between_bits", "precision", "sources")


@dataclasses.dataclass(frozen=True)
class MeasuredHardware:
    """A device, and the table that was measured on it."""

    name: str
    technology: str
    table: MeasuredTable
    between_bits: str = NEXT
    """``next``: a layer takes what was measured with the fewest bits that are enough, first of weights and then of
    inputs, as on a processor that has kernels for some widths alone. ``linear``: what lies on a line between measured
    widths, as on hardware that works bit by bit; every pair of widths has to be measured, and what is narrower than all
    takes what the narrowest does."""
    precision: Precision = _FULL
    """Bits of activations that a network does not round, as they were measured."""
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)
    """Where the numbers come from."""
    counts: str = TABLE

    def __post_init__(self) -> None:
        problems = Problems()
        for name in ("name", "technology"):
            problems.of(check_text, self, name)
        problems.of(check_choice, self, "between_bits", BETWEEN_BITS)
        if not isinstance(self.sources, Mapping) or TABLE not in self.sources:
            problems.of(fail, "sources.table", "expected how and where the table was measured, found nothing")
        problems.end()
        if self.between_bits == LINEAR:
            self._check_grid()

    def _check_grid(self) -> None:
        """Check that every width of weights was measured with every width of inputs."""
        for name, forms in {**self.table.by_layer, **self.table.by_shape}.items():
            pairs = {(form.weight_bits, form.activation_bits) for form in forms}
            for weight_bits in sorted({pair[0] for pair in pairs}):
                for activation_bits in sorted({pair[1] for pair in pairs}):
                    if (weight_bits, activation_bits) not in pairs:
                        what = f"{name} with weights of {weight_bits} and inputs of {activation_bits} bits"
                        raise FieldError("between_bits", f"expected {what} in {self.table.file} for linear, found none")

    @property
    def has_energy(self) -> bool:
        """Whether energies are known."""
        return self.table.has_energy

    @property
    def has_joules(self) -> bool:
        """Whether energies are absolute: those that are known are."""
        return self.table.has_energy

    @property
    def energy_label(self) -> str:
        """Unit of the energies; empty where none are known."""
        return "mJ" if self.table.has_energy else ""

    @property
    def has_milliseconds(self) -> bool:
        """Whether times are known in milliseconds."""
        return True

    def to_dict(self) -> dict[str, Any]:
        """Return the content of a hardware file, and the digest of its table."""
        values = {name: getattr(self, name) for name in _FILE_KEYS if name not in ("version", "table", "precision")}
        precision = dataclasses.asdict(self.precision)
        table = {"table": self.table.file, "table_sha256": self.table.sha256}
        return {"hardware": {"version": 1, **values, **table, "precision": precision, "sources": dict(self.sources)}}


@dataclasses.dataclass(frozen=True)
class _Entries:
    """The entries of a hardware file with ``counts: table``."""

    name: str
    technology: str
    counts: str
    table: str
    sources: Mapping[str, str]
    version: int
    between_bits: str = NEXT
    precision: Precision = _FULL

    def __post_init__(self) -> None:
        problems = Problems()
        problems.of(check_text, self, "table")
        if self.version != 1 or isinstance(self.version, bool):
            problems.of(fail, "version", f"expected 1, found {show(self.version)}")
        problems.end()


def measured_hardware(values: Any, folder: Path) -> MeasuredHardware:
    """Build a device from the entries below ``hardware`` of a file.

    Args:
        values: the entries.
        folder: of the file, from which the path of the table starts.

    Raises:
        FieldError: an entry is wrong.
        UserError: the table is.
    """
    entries = build(_Entries, require_mapping(values), precision=lambda value: build(Precision, value))
    return MeasuredHardware(
        entries.name,
        entries.technology,
        read_measured_table(folder / entries.table),
        entries.between_bits,
        entries.precision,
        entries.sources,
    )


def hardware_of_table(path: Path) -> MeasuredHardware:
    """Return the device of a table that has no hardware file: ``table:FILE.csv``.

    Raises:
        UserError: the table cannot be read, or is wrong.
    """
    table = read_measured_table(path)
    technology = table.remark or "measured"
    return MeasuredHardware(path.stem or "table", technology, table, sources={TABLE: str(path)})


def table_path(name: str) -> Path | None:
    """Return the path in ``table:FILE.csv``; None for other names of hardware.

    Raises:
        UserError: there is no path behind the colon.
    """
    word, colon, path = name.partition(":")
    if word != TABLE or not colon:
        return None
    if not path:
        raise UserError(f"expected table:FILE.csv, found {name!r}")
    return Path(path)
