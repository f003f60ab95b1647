"""``emomc-hardware``: what it does with its options."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jsonargparse import Namespace
from rich.console import Console
from rich.table import Table

from emomc.cli.network_options import named_graph
from emomc.common.errors import UserError
from emomc.hardware.dataflows import DATAFLOW_CHOICES, dataflow_label
from emomc.hardware.description import Hardware, Target, load_hardware, load_target, preset_names
from emomc.hardware.description_table import description_table, one_line
from emomc.hardware.layer_report import LayerReport, layer_report, report_table
from emomc.hardware.mapping import aim_of
from emomc.hardware.measured_report import MeasuredReport, measured_report
from emomc.hardware.residency import peak_bits
from emomc.hardware.widths import activation_widths
from emomc.hardware.workload import OtherZeros, Workload

_WIDTH = 160
"""Columns of a table where the output is no terminal."""


def show_hardware(arguments: Namespace) -> None:
    """Print what the options ask for.

    Raises:
        UserError: a description or an option is wrong.
    """
    console = Console(width=None if Console().is_terminal else _WIDTH, soft_wrap=True, markup=False, emoji=False)
    if arguments.hardware is None:
        if arguments.network is not None or arguments.beside:
            raise UserError("expected hardware to cost a network with, found none: give its name or file first")
        for name in preset_names():
            console.print(f"{name:27}{one_line(load_hardware(name))}", highlight=False)
        return
    hardware = [load_target(name) for name in (arguments.hardware, *arguments.beside)]
    if arguments.beside and arguments.network is None:
        raise UserError("expected --network with --beside, found none: there is nothing to compare")
    workload = None if arguments.network is None else network_workload(arguments)
    console.print(description_table(hardware[0]))
    if workload is None:
        return
    console.print(report_table(_report(workload, arguments.dataflow, hardware[0])))
    if isinstance(hardware[0], Hardware):
        console.print(_room(workload, hardware[0]), highlight=False)
    console.print(comparison_table(workload, hardware))


def network_workload(arguments: Namespace) -> Workload:
    """Return the workload of the network that the options name, one candidate.

    Raises:
        UserError: there is no such network, or an option is out of range.
    """
    graph = named_graph(arguments)
    ones = np.ones((1, len(graph.layers)))
    structured = arguments.structured_density
    zeros = OtherZeros(None if structured is None else structured * ones, arguments.input_density * ones)
    # A product of activations has no weights: both sides are as wide as activations, and dense.
    stored = np.array([layer.kind != "product" for layer in graph.layers])
    other_bits = float(arguments.activation_bits or arguments.bits)
    return Workload(
        graph.layers,
        np.where(stored, float(arguments.bits), other_bits) * ones,
        np.where(stored, arguments.density, 1.0) * ones,
        activation_bits=arguments.activation_bits,
        other_zeros=zeros,
        maps=graph.maps,
    )


def comparison_table(workload: Workload, hardware: Sequence[Target]) -> Table:
    """Return the totals of a workload on each hardware under each dataflow as a rich table."""
    table = Table(title="All dataflows")
    for name in ("hardware", "dataflow", "energy", "unit", "cycles", "ms"):
        table.add_column(name, justify="right" if name in ("energy", "cycles", "ms") else "left")
    for one in hardware:
        for dataflow in DATAFLOW_CHOICES if isinstance(one, Hardware) else ("",):
            table.add_row(*_totals(_report(workload, dataflow, one), dataflow, one))
    return table


def _report(workload: Workload, dataflow: str, hardware: Target) -> LayerReport | MeasuredReport:
    """Return what each layer takes; a device that was measured has a dataflow of its own."""
    if isinstance(hardware, Hardware):
        aim = aim_of(("energy",), hardware)
        return layer_report(workload, dataflow=dataflow, hardware=hardware, aim=aim)
    return measured_report(workload, hardware, stored_bits=workload.travelling_bits[0].tolist())


def _totals(report: LayerReport | MeasuredReport, dataflow: str, hardware: Target) -> list[str]:
    """Return the line of a comparison: name, dataflow, energy, its unit, cycles and milliseconds."""
    if isinstance(report, MeasuredReport):
        energy = "" if report.total_mj is None else f"{report.total_mj:.4g}"
        return [hardware.name, "as measured", energy, hardware.energy_label, "", f"{report.total_ms:.4g}"]
    chosen = dataflow_label(report.dataflow)
    label = chosen if report.dataflow == dataflow else f"{dataflow}: {chosen}"
    energy = f"{report.total_energy:.4g}" if hardware.has_energy else ""
    clock = hardware.clock_mhz if isinstance(hardware, Hardware) else None
    milliseconds = "" if clock is None else f"{report.total_cycles / clock / 1e3:.4g}"
    return [hardware.name, label, energy, hardware.energy_label, f"{report.total_cycles:,.0f}", milliseconds]


def _room(workload: Workload, hardware: Hardware) -> str:
    """Return what the feature maps need at the same time, and what there is for them."""
    if workload.maps is None:
        return ""
    values = np.array([one.values for one in workload.maps.maps], dtype=np.float64)
    needed = peak_bits(workload.maps, values * activation_widths(workload, hardware).maps)
    text = f"The feature maps need {needed / 8192:.4g} KiB at the same time."
    for memory in hardware.memories:
        if not memory.per_pe and {"I", "O"} <= set(memory.operands) and memory.size_bits is not None:
            fit = "they fit" if needed <= memory.size_bits else "not all of them fit"
            text += f" {memory.name} has {memory.size_bits / 8192:.4g} KiB: {fit}."
    return text
