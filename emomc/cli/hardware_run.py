"""``emomc-hardware``: what it does with its options."""

from __future__ import annotations

import numpy as np
from jsonargparse import Namespace
from rich.console import Console
from rich.table import Table

from emomc.common.errors import UserError
from emomc.hardware.dataflows import DATAFLOW_CHOICES, dataflow_label
from emomc.hardware.description import Hardware, load_hardware, preset_names
from emomc.hardware.description_table import description_table, one_line
from emomc.hardware.layer_report import layer_report, report_table
from emomc.hardware.mapping import aim_of
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
    console = Console(width=None if Console().is_terminal else _WIDTH, soft_wrap=True)
    if arguments.hardware is None:
        if arguments.network is not None or arguments.beside:
            raise UserError("expected hardware to cost a network with, found none: give its name or file first")
        for name in preset_names():
            console.print(f"{name:24} {one_line(load_hardware(name))}", highlight=False)
        return
    hardware = [load_hardware(name) for name in (arguments.hardware, *arguments.beside)]
    if arguments.beside and arguments.network is None:
        raise UserError("expected --network with --beside, found none: there is nothing to compare")
    workload = None if arguments.network is None else network_workload(arguments)
    console.print(description_table(hardware[0]))
    if workload is None:
        return
    report = layer_report(
        workload, dataflow=arguments.dataflow, hardware=hardware[0], aim=aim_of(("energy",), hardware[0])
    )
    console.print(report_table(report))
    console.print(_room(workload, hardware[0]), highlight=False)
    console.print(comparison_table(workload, hardware))


def network_workload(arguments: Namespace) -> Workload:
    """Return the workload of the network that the options name, one candidate.

    Raises:
        UserError: there is no such network, or an option is out of range.
    """
    from emomc.networks.build import build_network
    from emomc.networks.graph import trace_network

    shape = tuple(arguments.input_shape or ((1, 32, 32) if arguments.network == "lenet5" else (3, 32, 32)))
    if len(shape) != 3 or min(shape) < 1:
        raise UserError(f"expected --input_shape with channels, height and width of at least 1, found {list(shape)}")
    if arguments.classes < 1:
        raise UserError(f"expected --classes of at least 1, found {arguments.classes}")
    network = build_network(arguments.network, in_channels=shape[0], num_classes=arguments.classes)
    graph = trace_network(network, shape)
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


def comparison_table(workload: Workload, hardware: list[Hardware]) -> Table:
    """Return the totals of a workload on each hardware under each dataflow as a rich table."""
    table = Table(title="All dataflows")
    for name in ("hardware", "dataflow", "energy", "unit", "cycles", "ms"):
        table.add_column(name, justify="right" if name in ("energy", "cycles", "ms") else "left")
    for one in hardware:
        for dataflow in DATAFLOW_CHOICES:
            report = layer_report(workload, dataflow=dataflow, hardware=one, aim=aim_of(("energy",), one))
            chosen = dataflow_label(report.dataflow)
            label = chosen if report.dataflow == dataflow else f"{dataflow}: {chosen}"
            milliseconds = "" if one.clock_mhz is None else f"{report.total_cycles / one.clock_mhz / 1e3:.4g}"
            energy = f"{report.total_energy:.4g}" if one.has_energy else ""
            table.add_row(one.name, label, energy, one.energy_label, f"{report.total_cycles:,.0f}", milliseconds)
    return table


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
