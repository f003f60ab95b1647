"""Making onnxruntime compute layers with integers.

onnxruntime fuses a convolution between a DequantizeLinear and a QuantizeLinear to QLinearConv. A layer whose output is
not rounded at once becomes ConvInteger or MatMulInteger here, whose sums are exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from emomc.compression.widths import UNCOMPRESSED_BITS
from emomc.export.onnx_activations import Rounding, make_rounding
from emomc.export.onnx_editing import GraphEditor
from emomc.export.onnx_targets import CONTAINER_BITS, OnnxTarget
from emomc.export.onnx_weights import WeightPlace

# Rounding each value and then moving or comparing values is the same as the other way round.
_COMMUTING = {"MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Concat"}
# How much a bias may be rounded, in steps of the output, and its largest code, which leaves room for the sum.
_MOST_BIAS_ERROR, _MOST_BIAS_CODE = 1e-4, 2.0**30


def use_integers(
    editor: GraphEditor, places: list[WeightPlace], roundings: list[Rounding], target: OnnxTarget
) -> list[str]:
    """Rewrite the calls of layers so that onnxruntime computes them with integers, in place.

    Args:
        editor: of a graph whose weights are integers and whose layer inputs are rounded.
        places: of the weights.
        roundings: of the inputs.
        target: that the graph is for.

    Returns:
        Names of the layers that are computed in float32: those with weights or inputs of more than 8 bits, and
        transposed convolutions.
    """
    roundings = roundings + [above for rounding in roundings for above in _round_above(editor, rounding, target)]
    for rounding in roundings:
        _drop_clipped_activation(editor, rounding)
    rounded = {rounding.result: rounding for rounding in roundings}
    by_given = {rounding.given: rounding for rounding in roundings}
    in_floats = []
    for place in places:
        calls = [node for node in editor.nodes if place.tensor.name in node.input]
        narrow = place.layer.bits <= CONTAINER_BITS and place.layer.bits != UNCOMPRESSED_BITS
        for node in calls:
            given = rounded.get(str(node.input[0]))
            if (
                given is None
                or given.grid.bits > CONTAINER_BITS
                or not narrow
                or node.op_type not in ("Conv", "Gemm", "MatMul")
            ):
                in_floats.append(place.layer.name)
                continue
            call = _Call(editor, place, node, given)
            after = by_given.get(str(node.output[0]))
            fused = node.op_type == "Conv" and after is not None and editor.only_consumer(str(node.output[0]))
            if not (fused and after is not None and call.quantize_bias(after.grid.step)):
                call.compute_with_integers()
    return sorted(set(in_floats))


def _round_above(editor: GraphEditor, rounding: Rounding, target: OnnxTarget) -> list[Rounding]:
    """Round what a value is only moved or chosen from, too, so that the layer before is followed by a rounding."""
    node = editor.producer(rounding.given)
    if node is None or node.op_type not in _COMMUTING or editor.only_consumer(rounding.given) is None:
        return []
    sources = list(node.input) if node.op_type == "Concat" else [node.input[0]]
    made = []
    for index, source in enumerate(sources):
        name = f"{rounding.result}/{index}"
        above = make_rounding(editor, source, rounding.grid, target, name)
        editor.insert_before(node, above.nodes)
        node.input[index] = above.result
        made += [above, *_round_above(editor, above, target)]
    _drop_clip(editor, rounding)
    return made


def _drop_clip(editor: GraphEditor, rounding: Rounding) -> None:
    """Take the Clip out of a rounding whose input is on its grid."""
    for node in rounding.nodes:
        if node.op_type == "Clip":
            editor.rename_uses(str(node.output[0]), str(node.input[0]))
            editor.replace(node, [])


def _drop_clipped_activation(editor: GraphEditor, rounding: Rounding) -> None:
    """Take out a ReLU, or a Clip such as ReLU6, whose limits the rounding has anyway, so that it follows its layer."""
    node = editor.producer(rounding.given)
    if rounding.grid.signed or node is None or editor.only_consumer(rounding.given) is None:
        return
    if node.op_type == "Clip":
        limits = [editor.constants.get(name) for name in node.input[1:]]
        if len(limits) != 2 or None in limits:
            return
        low, high = (float(editor.value(name)) for name in node.input[1:])
        if low > 0 or high < rounding.grid.highest * rounding.grid.step * (1 - 1e-6):
            return
    elif node.op_type != "Relu":
        return
    rounding.nodes[0].input[0] = node.input[0]
    editor.replace(node, [])


class _Call:
    """One call of a layer whose weights are 8-bit integers and whose input is rounded."""

    def __init__(self, editor: GraphEditor, place: WeightPlace, node: Any, given: Rounding) -> None:
        self._editor = editor
        self._node = node
        self._given = given
        weights = editor.producer(place.tensor.name)
        self._codes = str(weights.input[0]) if weights is not None else ""
        scale = editor.value(str(weights.input[1])) if weights is not None else np.ones(())
        self._step: NDArray[np.float32] = np.float32(given.grid.step) * scale
        """Of the sums: one, or one for each output channel."""
        self._name = str(node.output[0])

    def quantize_bias(self, output_step: float) -> bool:
        """Make the bias integers, as QLinearConv takes it; return False if they are not exact enough, or too large."""
        editor, node = self._editor, self._node
        if len(node.input) < 3:
            return True
        bias = editor.value(str(node.input[2]))
        codes = np.rint(bias.astype(np.float64) / self._step)
        error = np.abs(codes * self._step - bias).max(initial=0)
        if error > _MOST_BIAS_ERROR * output_step or np.abs(codes).max(initial=0) > _MOST_BIAS_CODE:
            return False
        name = f"{self._name}/bias"
        inputs = [
            editor.constant(f"{name}/codes", codes.astype(np.int32)),
            editor.constant(f"{name}/scale", self._step),
            editor.constant(f"{name}/zero_point", np.zeros(self._step.shape, np.int32)),
        ]
        attributes = {"axis": 0} if self._step.ndim else {}
        editor.insert_first([editor.make("DequantizeLinear", inputs, name, **attributes)])
        node.input[2] = name
        return True

    def compute_with_integers(self) -> None:
        """Replace the call by sums of integers, their scale and the bias."""
        editor, node, name = self._editor, self._node, self._name
        attributes = editor.attributes(node)
        convolution = node.op_type == "Conv"
        codes = self._codes
        if node.op_type == "Gemm" and attributes.pop("transB", 0):
            codes = editor.constant(f"{codes}/turned", editor.value(codes).T.copy())
        channels = (-1, *[1] * (editor.value(codes).ndim - 2)) if convolution else (-1,)
        step = self._step.reshape(channels) if self._step.ndim else self._step
        operation = "ConvInteger" if convolution else "MatMulInteger"
        inputs = [self._given.codes, codes, f"{name}/input/zero_point"]
        editor.constant(inputs[2], np.array(self._given.integers.zero_point, self._given.integers.type))
        kept = attributes if convolution else {}
        last = f"{name}/scaled" if len(node.input) > 2 else name
        nodes = [
            editor.make(operation, inputs, f"{name}/sums", **kept),
            editor.make("Cast", [f"{name}/sums"], f"{name}/floats", to=editor.onnx.TensorProto.FLOAT),
            editor.make("Mul", [f"{name}/floats", editor.constant(f"{name}/scale", step)], last),
        ]
        if len(node.input) > 2:
            bias = editor.value(str(node.input[2])).reshape(channels)
            nodes.append(editor.make("Add", [last, editor.constant(f"{name}/bias", bias)], name))
        editor.replace(node, nodes)
