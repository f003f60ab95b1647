"""The work of ``emomc-measure``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import Namespace

from emomc.cli.network_options import named_graph
from emomc.common.files import write_text
from emomc.export.layer_latency import MeasuredCall, Timing, measure_layers, table_text
from emomc.library.library import Library
from emomc.networks.layers import LayerShape


def measure(arguments: Namespace, output: Path, timing: Timing) -> None:
    """Measure the layers that the options name, tell each, and write the table.

    Raises:
        UserError: there is no such library or network, or the extra ``export`` is not installed.
    """
    calls = measure_layers(_layers(arguments), timing, _tell)
    write_text(output, table_text(calls, timing))
    print(f"{output}: {len(calls)} measurements; emomc-search --hardware table:{output} --activation_bits 8 uses them")


def _layers(arguments: Namespace) -> Sequence[LayerShape]:
    if arguments.library is not None:
        return Library.open(arguments.library).manifest.layers
    return named_graph(arguments).layers


def _tell(call: MeasuredCall) -> None:
    bits = f"weights of {call.form.weight_bits} bits, inputs of {call.form.activation_bits}"
    print(f"{call.layer} ({call.shape}), {bits}: {call.ms:.4g} ms", flush=True)
