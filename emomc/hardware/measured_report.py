"""Report what each layer of one network takes on a device that was measured, as a rich table or as CSV."""

from __future__ import annotations

import csv
import dataclasses
import io

from rich.table import Table

from emomc.common.errors import UserError
from emomc.hardware.measured_costs import measured_costs
from emomc.hardware.measured_hardware import MeasuredHardware
from emomc.hardware.workload import Workload


@dataclasses.dataclass(frozen=True)
class MeasuredLayer:
    """What one layer takes for one image, all calls together."""

    layer: str
    kind: str
    macs: int
    """Multiply-accumulates without pruning."""
    bits: int
    """Bits per weight."""
    density: float
    """Fraction of weights that are not zero."""
    stored_bytes: float
    """Bytes of the stored layer."""
    latency_ms: float
    energy_mj: float | None
    """None where no energies are known."""


@dataclasses.dataclass(frozen=True)
class MeasuredReport:
    """The layers of one network on one device."""

    rows: tuple[MeasuredLayer, ...]
    hardware: str
    """Name of the device."""

    @property
    def total_ms(self) -> float:
        """Milliseconds of one image."""
        return sum(row.latency_ms for row in self.rows)

    @property
    def total_mj(self) -> float | None:
        """Millijoules of one image; None where no energies are known."""
        known = [row.energy_mj for row in self.rows if row.energy_mj is not None]
        return sum(known) if known else None


def measured_report(workload: Workload, hardware: MeasuredHardware, *, stored_bits: list[float]) -> MeasuredReport:
    """Return what each layer of one candidate takes.

    Args:
        workload: one candidate.
        hardware: the device.
        stored_bits: bits of each layer in the file.

    Raises:
        UserError: there is not exactly one candidate, or a layer was not measured.
    """
    if len(workload.bits) != 1:
        raise UserError(f"expected a workload of one candidate, found {len(workload.bits)}")
    costs = measured_costs(workload, hardware)
    return MeasuredReport(
        rows=tuple(
            MeasuredLayer(
                layer=layer.name,
                kind=layer.kind,
                macs=layer.macs,
                bits=int(workload.bits[0, column]),
                density=float(workload.density[0, column]),
                stored_bytes=stored_bits[column] / 8,
                latency_ms=float(costs.ms[0, column]),
                energy_mj=None if costs.mj is None else float(costs.mj[0, column]),
            )
            for column, layer in enumerate(workload.layers)
        ),
        hardware=hardware.name,
    )


def measured_csv(report: MeasuredReport) -> str:
    """Return the report as CSV, a line a layer, full precision; without energies where none are known."""
    names = [field.name for field in dataclasses.fields(MeasuredLayer)]
    names = [name for name in names if name != "energy_mj" or report.total_mj is not None]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["bytes" if name == "stored_bytes" else name for name in names])
    writer.writerows([getattr(row, name) for name in names] for row in report.rows)
    return text.getvalue()


def measured_table(report: MeasuredReport) -> Table:
    """Return the report as a rich table with a row of totals."""
    table = Table(title=f"{report.hardware}, as measured", show_footer=True)
    table.add_column("layer", footer="total", no_wrap=True)
    sums = {
        "MACs": f"{sum(row.macs for row in report.rows):,}",
        "bits": "",
        "density": "",
        "bytes": f"{sum(row.stored_bytes for row in report.rows):,.0f}",
        "ms": f"{report.total_ms:.4g}",
    }
    if report.total_mj is not None:
        sums["mJ"] = f"{report.total_mj:.4g}"
    for name, footer in sums.items():
        table.add_column(name, footer=footer, justify="right")
    for row in report.rows:
        cells = [row.layer, f"{row.macs:,}", str(row.bits), f"{row.density:.3f}", f"{row.stored_bytes:,.0f}"]
        cells.append(f"{row.latency_ms:.4g}")
        table.add_row(*cells, *([] if row.energy_mj is None else [f"{row.energy_mj:.4g}"]))
    return table
