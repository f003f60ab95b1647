"""What a population takes on a device that was measured: layers looked up in its table.

Source: ours. A layer takes what was measured with as many bits or the next more, or what lies between; what is wider or
denser than all that was measured is an error.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from emomc.common.errors import UserError
from emomc.hardware.measured_hardware import NEXT, MeasuredHardware
from emomc.hardware.measured_table import Form, shape_text
from emomc.hardware.workload import Workload
from emomc.networks.layers import LayerShape

Array = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class MeasuredCosts:
    """Costs of each layer of each candidate for one image, all calls together; of shape (n, layers)."""

    ms: Array
    mj: Array | None
    """None where no energies are known."""


def measured_costs(workload: Workload, hardware: MeasuredHardware) -> MeasuredCosts:
    """Look up what every layer takes.

    Args:
        workload: the candidates.
        hardware: the device.

    Raises:
        UserError: a layer was not measured, or only narrower or sparser; the error names it.
    """
    ms, mj = np.zeros(workload.bits.shape), np.zeros(workload.bits.shape)
    for column, layer in enumerate(workload.layers):
        widths = _widths(workload, hardware, column)
        for name, forms in _measured(layer, hardware):
            found = _costs(forms, widths, hardware.between_bits)
            if not np.all(np.isfinite(found[0])):
                _refuse(layer, name, forms, widths, hardware)
            ms[:, column] += found[0]
            mj[:, column] += found[1]
    return MeasuredCosts(ms, mj if hardware.has_energy else None)


@dataclasses.dataclass(frozen=True)
class _Widths:
    """A layer of all candidates; all of shape (n,)."""

    weights: Array
    inputs: Array
    density: Array


def _widths(workload: Workload, hardware: MeasuredHardware, column: int) -> _Widths:
    bits = workload.bits[:, column]
    if workload.input_bits is not None:
        inputs = workload.input_bits[:, column]
    else:
        width = hardware.precision.I if workload.activation_bits is None else workload.activation_bits
        inputs = np.full(len(bits), float(width))
    return _Widths(bits, inputs, workload.density[:, column])


def _measured(layer: LayerShape, hardware: MeasuredHardware) -> list[tuple[str, Sequence[Form]]]:
    """Return the forms of a layer, all calls in one, or of each of its calls."""
    table = hardware.table
    if layer.name in table.by_layer:
        return [(f"layer {layer.name}", table.by_layer[layer.name])]
    found = []
    for call in layer.calls:
        shape = shape_text(layer, call)
        if shape not in table.by_shape:
            raise UserError(f"expected measurements of layer {layer.name} or shape {shape} in {table.file}, found none")
        found.append((f"layer {layer.name}, shape {shape}", table.by_shape[shape]))
    return found


def _costs(forms: Sequence[Form], widths: _Widths, between_bits: str) -> tuple[Array, Array]:
    """Return the milliseconds and millijoules of a layer, each of shape (n,); not finite where nothing serves."""
    every = [form.at(widths.density) for form in forms]
    ms, mj = np.stack([one[0] for one in every]), np.stack([one[1] for one in every])
    return _next(forms, widths, ms, mj) if between_bits == NEXT else _between(forms, widths, ms, mj)


def _next(forms: Sequence[Form], widths: _Widths, ms: Array, mj: Array) -> tuple[Array, Array]:
    """Return the costs in the form of fewest bits, first of weights and then of inputs, that is wide enough."""
    weight_bits = np.array([form.weight_bits for form in forms])[:, None]
    input_bits = np.array([form.activation_bits for form in forms])[:, None]
    serves = (weight_bits >= widths.weights) & (input_bits >= widths.inputs)
    # The forms are in ascending order.
    first, rows = serves.argmax(axis=0), np.arange(len(widths.weights))
    known = serves[first, rows]
    return np.where(known, ms[first, rows], np.inf), np.where(known, mj[first, rows], np.inf)


def _between(forms: Sequence[Form], widths: _Widths, ms: Array, mj: Array) -> tuple[Array, Array]:
    """Return the costs on lines between the measured widths, of the weights and then of the inputs."""
    weight_bits, input_bits = (
        sorted({getattr(form, name) for form in forms}) for name in ("weight_bits", "activation_bits")
    )
    costs = []
    for values in (ms, mj):
        # The forms are in ascending order: first of their weights, then of their inputs.
        grid = values.reshape(len(weight_bits), len(input_bits), -1)
        by_inputs = np.stack([_line(weight_bits, grid[:, place], widths.weights) for place in range(len(input_bits))])
        costs.append(_line(input_bits, by_inputs, widths.inputs))
    return costs[0], costs[1]


def _line(nodes: Sequence[int], values: Array, at: Array) -> Array:
    """Interpolate values of shape (nodes, n) at (n,): below the first node as there, above the last not finite."""
    upper = np.searchsorted(nodes, at)
    right = np.minimum(upper, len(nodes) - 1)
    left = np.maximum(right - 1, 0)
    places, rows = np.array(nodes, dtype=np.float64), np.arange(len(at))
    share = np.where(right > left, (at - places[left]) / np.maximum(places[right] - places[left], 1.0), 1.0)
    before, after = values[left, rows], values[right, rows]
    with np.errstate(invalid="ignore"):
        found = np.where(share == 1.0, after, before + share * (after - before))
    return np.where(upper < len(nodes), found, np.inf)


def _refuse(layer: LayerShape, name: str, forms: Sequence[Form], widths: _Widths, hardware: MeasuredHardware) -> None:
    """Say what the table lacks, for the first candidate that it does not serve."""
    costs = _costs(forms, widths, hardware.between_bits)[0]
    row = int(np.flatnonzero(~np.isfinite(costs))[0])
    bits, density = f"{widths.weights[row]:g} bits, inputs of {widths.inputs[row]:g} bits", widths.density[row]
    asked = f"weights of {bits} and density {density:.3g}"
    there = "; ".join(
        f"{form.weight_bits} and {form.activation_bits} bits"
        + ("" if np.isinf(form.densities[-1]) else f" up to density {form.densities[-1]:g}")
        for form in forms
    )
    raise UserError(f"expected a measurement of {name} in {hardware.table.file} for at least {asked}, found {there}")
