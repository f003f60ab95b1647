"""Rounding the inputs of layers in an ONNX graph, as the search simulates it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from emomc.compression.activation_grid import ActivationGrid
from emomc.export.onnx_editing import GraphEditor
from emomc.export.onnx_targets import CONTAINER_BITS, OnnxTarget
from emomc.export.onnx_tracing import MARK, MARK_DOMAIN


@dataclasses.dataclass(frozen=True)
class Integers:
    """The integers that hold the codes of a grid."""

    type: Any
    """Type of numpy: 8 bits for grids of up to 8 bits, else 16."""
    zero_point: int
    """The integer of code 0."""
    lowest: int
    """The integer of the smallest code."""
    highest: int
    """The integer of the largest code."""

    @classmethod
    def of(cls, grid: ActivationGrid, target: OnnxTarget) -> Integers:
        """Return those that a target takes: onnxruntime computes convolutions with unsigned ones."""
        narrow = grid.bits <= CONTAINER_BITS
        if target.signed_only or (grid.signed and target.activations != "operators"):
            kind = np.int8 if narrow else np.int16
        else:
            kind = np.uint8 if narrow else np.uint16
        zero = 2 ** (8 * np.dtype(kind).itemsize - 1) if grid.signed and np.dtype(kind).kind == "u" else 0
        return cls(kind, zero, grid.lowest + zero, grid.highest + zero)

    @property
    def has_more(self) -> bool:
        """Whether the type has more values than the grid, so that values have to be clipped."""
        limits = np.iinfo(self.type)
        return self.lowest > limits.min or self.highest < limits.max

    @property
    def clips_codes(self) -> bool:
        """Whether ONNX runtimes clip integers of this type."""
        return np.dtype(self.type).itemsize == 1


@dataclasses.dataclass(frozen=True)
class Rounding:
    """The nodes that round one value."""

    grid: ActivationGrid
    integers: Integers
    nodes: tuple[Any, ...]
    """QuantizeLinear, DequantizeLinear, and a Clip before or between them; or Clip, Div, Round and Mul."""

    @property
    def given(self) -> str:
        """Name of what is rounded."""
        return str(self.nodes[0].input[0])

    @property
    def codes(self) -> str:
        """Name of the integers."""
        return str(self.nodes[-1].input[0])

    @property
    def result(self) -> str:
        """Name of the rounded values."""
        return str(self.nodes[-1].output[0])


def round_marked(editor: GraphEditor, grids: Mapping[str, ActivationGrid], target: OnnxTarget) -> list[Rounding]:
    """Replace the marks in a graph by the rounding of the layers' inputs; return what rounds.

    Layers that take the same value and have the same grid share one. The inputs of a layer without a grid stay.

    Args:
        editor: of the graph.
        grids: layer name -> grid.
        target: that the graph is for.
    """
    made: dict[tuple[str, ActivationGrid], Rounding] = {}
    for mark in [node for node in editor.nodes if node.domain == MARK_DOMAIN and node.op_type == MARK]:
        layer = editor.attributes(mark)["layer"].decode()
        given, grid = str(mark.input[0]), grids.get(layer)
        if grid is None:
            editor.replace(mark, [])
            editor.rename_uses(str(mark.output[0]), given)
            continue
        known = made.get((given, grid))
        if known is None:
            # A layer that is called several times has one mark for each call.
            name = f"{layer}/input" if f"{layer}/input/scale" not in editor.constants else f"{mark.output[0]}/input"
            known = made[given, grid] = make_rounding(editor, given, grid, target, name)
            editor.replace(mark, known.nodes)
        else:
            editor.replace(mark, [])
        editor.rename_uses(str(mark.output[0]), known.result)
    return list(made.values())


def make_rounding(
    editor: GraphEditor, given: str, grid: ActivationGrid, target: OnnxTarget, name: str, *, on_grid: bool = False
) -> Rounding:
    """Return nodes that round a value; they are not in the graph yet.

    Args:
        editor: gets the constants.
        given: name of the value.
        grid: to which it is rounded.
        target: that the graph is for.
        name: what the names of nodes and constants start with.
        on_grid: whether the value is on the grid already, so that nothing has to be clipped.
    """
    if target.activations == "floats":
        return _round_in_floats(editor, given, grid, target, name)
    integers = Integers.of(grid, target)
    step = editor.constant(f"{name}/scale", np.float32(grid.step))
    zero = editor.constant(f"{name}/zero_point", np.array(integers.zero_point, integers.type))
    nodes, codes = [], f"{name}/codes"
    clipped = integers.has_more and not on_grid
    if clipped and (target.activations == "qdq" or not integers.clips_codes):
        bounds = [(code - integers.zero_point) * np.float32(grid.step) for code in (integers.lowest, integers.highest)]
        nodes.append(_clip(editor, given, f"{name}/clipped", bounds, np.float32))
        given = f"{name}/clipped"
        clipped = False
    nodes.append(editor.make("QuantizeLinear", [given, step, zero], codes))
    if clipped:
        nodes.append(_clip(editor, codes, f"{name}/clipped", [integers.lowest, integers.highest], integers.type))
        codes = f"{name}/clipped"
    nodes.append(editor.make("DequantizeLinear", [codes, step, zero], f"{name}/rounded"))
    return Rounding(grid, integers, tuple(nodes))


def _round_in_floats(editor: GraphEditor, given: str, grid: ActivationGrid, target: OnnxTarget, name: str) -> Rounding:
    step = np.float32(grid.step)
    scale = editor.constant(f"{name}/scale", step)
    nodes = (
        _clip(editor, given, f"{name}/clipped", [grid.lowest * step, grid.highest * step], np.float32),
        editor.make("Div", [f"{name}/clipped", scale], f"{name}/codes"),
        editor.make("Round", [f"{name}/codes"], f"{name}/whole"),
        editor.make("Mul", [f"{name}/whole", scale], f"{name}/rounded"),
    )
    return Rounding(grid, Integers.of(grid, target), nodes)


def _clip(editor: GraphEditor, given: str, name: str, bounds: list[Any], kind: Any) -> Any:
    ends = [
        editor.constant(f"{name}/{end}", np.array(bound, kind))
        for end, bound in zip(("lowest", "highest"), bounds, strict=True)
    ]
    return editor.make("Clip", [given, *ends], name)
