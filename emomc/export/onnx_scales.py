"""Multiplying the sums of layers, instead of their weights, by the scales of the weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from emomc.export.onnx_editing import GraphEditor

_SUMS = ("Conv", "Gemm", "MatMul")


def scale_sums(editor: GraphEditor, weights: str, scale: NDArray[np.float32]) -> bool:
    """Put a Mul by the scale, and an Add of the bias, behind each call of a layer.

    Args:
        editor: of the graph.
        weights: name of the layer's weights, which then have to be codes.
        scale: one, or one for each output channel.

    Returns:
        False, and the graph as it was, if a call is no convolution or linear layer.
    """
    calls = [node for node in editor.nodes if weights in node.input]
    if any(node.op_type not in _SUMS for node in calls):
        return False
    for node in calls:
        behind = (-1, *[1] * (editor.value(weights).ndim - 2)) if node.op_type == "Conv" else (-1,)
        name = str(node.output[0])
        node.output[0] = f"{name}/sums"
        step = editor.constant(f"{weights}/step", scale.reshape(behind))
        if len(node.input) < 3:
            editor.replace(node, [node, editor.make("Mul", [f"{name}/sums", step], name)])
            continue
        numbers = editor.value(str(node.input[2]))
        bias = editor.constant(f"{name}/bias", numbers.reshape(behind))
        if node.op_type == "Gemm":
            # qonnx expects a Gemm to have one.
            node.input[2] = editor.constant(f"{name}/no_bias", np.zeros_like(numbers))
        else:
            del node.input[2]
        scaled = editor.make("Mul", [f"{name}/sums", step], f"{name}/scaled")
        editor.replace(node, [node, scaled, editor.make("Add", [f"{name}/scaled", bias], name)])
    return True
