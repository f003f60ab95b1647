"""Report the cost of each layer of one compressed network as rows, as a rich table or as CSV."""

from __future__ import annotations

import csv
import dataclasses
import io

import numpy as np
import numpy.typing as npt
from rich.table import Table

from emomc.common.errors import UserError
from emomc.hardware.call_table import tabulate_calls
from emomc.hardware.call_workload import CallWorkload
from emomc.hardware.choice import Choice, choose
from emomc.hardware.dataflows import DATAFLOWS, dataflow_label
from emomc.hardware.description import Hardware
from emomc.hardware.energy import ENERGY_PARTS, breakdown_of
from emomc.hardware.mapping import ENERGY
from emomc.hardware.measured_report import MeasuredReport, measured_csv, measured_table
from emomc.hardware.reuse_mapping import weight_bits
from emomc.hardware.widths import activation_widths
from emomc.hardware.workload import Workload


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """Cost of one layer of one candidate. Energies are per image, in the unit of the report."""

    layer: str
    kind: str
    macs: int
    """Multiply-accumulates per image without pruning, summed over all calls."""
    bits: int
    """Bits per weight."""
    density: float
    """Fraction of weights that are not zero."""
    energy_mac: float
    energy_input: float
    energy_weight: float
    energy_output: float
    energy_dram: float
    stored_bytes: float
    """Bytes of the stored layer."""
    cycles: float
    buffer_fill: float | None
    """Bits that one call keeps in an innermost shared memory (maps, coded weights) / its capacity; the largest ratio.

    Above 1 they do not fit together: maps may have to leave, and be tiled. None if no capacity of an
    on-chip memory is known.
    """
    dataflow: str = ""
    """Name of its dataflow."""
    travels: str = ""
    """What passes to or from the outermost memory, and how often if more than once, such as ``W, I x3``."""

    @property
    def energy(self) -> float:
        """Sum of the five parts."""
        return self.energy_mac + self.energy_input + self.energy_weight + self.energy_output + self.energy_dram


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """The layers of one candidate under one dataflow on one hardware."""

    rows: tuple[LayerCost, ...]
    dataflow: str
    """Name; for ``best``, the dataflow with the least energy."""
    hardware: str
    """Name of the hardware."""
    energy_unit: str
    """mJ, or 16-bit MACs for hardware with relative energies."""

    @property
    def total_energy(self) -> float:
        """Energy of one image, in ``energy_unit``."""
        return sum(row.energy for row in self.rows)

    @property
    def total_bytes(self) -> float:
        """Bytes of all layers, without biases and file overhead."""
        return sum(row.stored_bytes for row in self.rows)

    @property
    def total_cycles(self) -> float:
        """Cycles of one image."""
        return sum(row.cycles for row in self.rows)


def layer_report(
    workload: Workload,
    *,
    dataflow: str,
    hardware: Hardware,
    stored_bits: npt.ArrayLike | None = None,
    aim: str = ENERGY,
) -> LayerReport:
    """Return the cost of each layer of one candidate.

    Args:
        workload: one candidate.
        dataflow: a name of ``DATAFLOWS``, or ``best``.
        hardware: the accelerator.
        stored_bits: bits of each layer in the file, shape (layers,); None: ``workload.travelling_bits``.
        aim: what mappings are chosen for.

    Raises:
        UserError: there is no such dataflow, not exactly one candidate, or ``stored_bits`` has another shape.
    """
    layers = workload.layers
    if len(workload.bits) != 1:
        raise UserError(f"expected a workload of one candidate, found {len(workload.bits)}")
    choice = choose(CallWorkload.of(workload, hardware), dataflow, aim)
    energy = breakdown_of(choice, dataflow)
    cycles = choice.per_layer([mapping.cycles for mapping in choice.mappings])
    chosen = np.broadcast_to(choice.index, cycles.shape)[0]
    travels = _travels(choice)
    stored = workload.travelling_bits[0] if stored_bits is None else np.asarray(stored_bits, dtype=np.float64)
    if stored.shape != (len(layers),):
        raise UserError(f"expected stored_bits of shape ({len(layers)},), found {stored.shape}")
    fills = _buffer_fill(workload, hardware)
    parts = {part: getattr(energy, part)[0] for part in ENERGY_PARTS}
    return LayerReport(
        rows=tuple(
            LayerCost(
                layer=layer.name,
                kind=layer.kind,
                macs=layer.macs,
                bits=int(workload.bits[0, index]),
                density=float(workload.density[0, index]),
                **{f"energy_{part}": float(values[index]) for part, values in parts.items()},
                stored_bytes=float(stored[index]) / 8,
                cycles=float(cycles[0, index]),
                buffer_fill=fills[index],
                dataflow=choice.dataflows[chosen[index]].name,
                travels=travels[index],
            )
            for index, layer in enumerate(layers)
        ),
        dataflow=energy.dataflows[0],
        hardware=hardware.name,
        energy_unit=energy.unit,
    )


def _travels(choice: Choice) -> list[str]:
    """Return for each layer what passes to or from the outermost memory, and how often."""
    work, memory = choice.work, choice.work.hardware.off_chip
    if memory is None:
        return [""] * int(work.calls.layer[-1] + 1)
    once = {
        "I": work.calls.input_values * work.widths.inputs,
        "W": weight_bits(work, memory),
        "O": work.calls.output_values * work.widths.outputs,
    }
    texts: list[list[str]] = [[] for _ in range(int(work.calls.layer[-1] + 1))]
    for operand, bits in once.items():
        moved = [
            sum(
                (flow.port_cycles(1.0) for flow in mapping.flows if (flow.memory, flow.operand) == (memory, operand)),
                0.0,
            )
            for mapping in choice.mappings
        ]
        passed = choice.per_layer([np.asarray(one) for one in moved])[0]
        whole = work.calls.per_layer(np.broadcast_to(bits, work.bits.shape))[0]
        for text, times in zip(texts, passed / np.maximum(whole, 1e-300), strict=True):
            if times > 0:
                text.append(operand if times < 1.05 else f"{operand} x{times:.3g}")
    return [", ".join(text) for text in texts]


def report_csv(report: LayerReport | MeasuredReport) -> str:
    """Return the report as CSV, a line a layer, full precision; unknown values are empty, unknown energies left out."""
    if isinstance(report, MeasuredReport):
        return measured_csv(report)
    unit = "mj" if report.energy_unit == "mJ" else "mac16"
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    energies = [f"energy_{part}_{unit}" for part in ENERGY_PARTS] + [f"energy_{unit}"]
    before, after = (
        ["layer", "kind", "macs", "bits", "density"],
        ["bytes", "cycles", "buffer_fill", "dataflow", "travels"],
    )
    writer.writerow([*before, *(energies if report.energy_unit else []), *after])
    for row in report.rows:
        spent = [*(getattr(row, f"energy_{part}") for part in ENERGY_PARTS), row.energy] if report.energy_unit else []
        fill = "" if row.buffer_fill is None else row.buffer_fill
        first = [row.layer, row.kind, row.macs, row.bits, row.density]
        writer.writerow([*first, *spent, row.stored_bytes, row.cycles, fill, row.dataflow, row.travels])
    return text.getvalue()


def report_table(report: LayerReport | MeasuredReport) -> Table:
    """Return the report as a rich table with a row of totals; without energies where the hardware has none."""
    if isinstance(report, MeasuredReport):
        return measured_table(report)
    unit = f", energies in {report.energy_unit}" if report.energy_unit else ", cycles only"
    table = Table(title=f"{report.hardware}, {dataflow_label(report.dataflow)}{unit}", show_footer=True)
    sums = [sum(getattr(row, f"energy_{part}") for row in report.rows) for part in ENERGY_PARTS]
    table.add_column("layer", footer="total", no_wrap=True)
    for name, footer in (("MACs", f"{sum(row.macs for row in report.rows):,}"), ("bits", ""), ("density", "")):
        table.add_column(name, footer=footer, justify="right")
    if report.energy_unit:
        names = ["MAC", "input", "weight", "output", "DRAM", "energy"]
        for name, value in zip(names, [*sums, report.total_energy], strict=True):
            table.add_column(name, footer=_energy(value), justify="right")
    table.add_column("bytes", footer=f"{report.total_bytes:,.0f}", justify="right")
    table.add_column("cycles", footer=f"{report.total_cycles:,.0f}", justify="right")
    table.add_column("fill", justify="right")
    with_dataflows = report.dataflow not in DATAFLOWS
    if with_dataflows:
        table.add_column("dataflow")
    if any(row.travels for row in report.rows):
        table.add_column("off chip")
    for row in report.rows:
        energies = [*(getattr(row, f"energy_{part}") for part in ENERGY_PARTS), row.energy]
        cells = [row.layer, f"{row.macs:,}", str(row.bits), f"{row.density:.3f}"]
        cells += map(_energy, energies) if report.energy_unit else []
        cells += [f"{row.stored_bytes:,.0f}", f"{row.cycles:,.0f}"]
        cells.append("" if row.buffer_fill is None else f"{row.buffer_fill:.0%}")
        cells += [dataflow_label(row.dataflow)] if with_dataflows else []
        table.add_row(*cells, *([row.travels] if len(table.columns) > len(cells) else []))
    return table


def _energy(value: float) -> str:
    return "0" if value == 0 else f"{value:.4g}"


def _buffer_fill(workload: Workload, hardware: Hardware) -> list[float | None]:
    calls = tabulate_calls(workload.layers)
    widths = activation_widths(workload, hardware)
    kept_bits = {
        "I": np.ravel(calls.input_values * widths.inputs),
        "W": workload.travelling_bits[0, calls.layer],
        "O": np.ravel(calls.output_values * widths.outputs),
    }
    fills = []
    for memory in hardware.memories:
        kept = [operand for operand in memory.operands if hardware.first_shared(operand) is memory]
        if kept and memory.size_bits is not None and memory is not hardware.off_chip:
            fills.append(np.sum([kept_bits[operand] for operand in kept], axis=0) / memory.size_bits)
    if not fills:
        return [None] * len(workload.layers)
    fullest = np.max(fills, axis=0)
    return [float(fullest[calls.layer == index].max()) for index in range(len(workload.layers))]
