"""Rewriting an ONNX graph for an older opset.

The converter of the package onnx fails on the graphs that torch makes (1.23: averages over axes that are constants, and
Shape), so the few operations that networks for images use are rewritten here.
"""

from __future__ import annotations

from typing import Any

from emomc.common.errors import UserError
from emomc.export.onnx_editing import import_onnx

LOWEST_TRACED = 18
"""The first opset that torch traces into."""

# Opset -> the newest version of the file format that tools of its time read.
_FORMAT_VERSIONS = ((21, 10), (19, 9), (15, 8), (13, 7))
_AXES_AS_INPUT = {"ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare"}
# What changed in these between opset 13 and 18 are further types of numbers, and attributes that are handled below.
_SAME = {
    "Add", "Sub", "Mul", "Div", "Pow", "Relu", "LeakyRelu", "PRelu", "Reshape", "Identity", "Where", "Equal",
    "GreaterOrEqual", "LessOrEqual", "BatchNormalization", "Shape", "Pad", "Split", "ScatterElements", "ScatterND",
}  # fmt: skip
# Attributes that these opsets brought, and the value with which they change nothing.
_NEW_ATTRIBUTES = {"Reshape": {"allowzero": 0}, "Shape": {"start": 0}, "BatchNormalization": {"training_mode": 0}}


def lower_opset(model: Any, opset: int) -> None:
    """Rewrite a model for an opset, in place; for one that it has already, only the format's version is set.

    Args:
        model: of opset 18 or more.
        opset: 13..21.

    Raises:
        UserError: an operation has no equal in the opset.
    """
    onnx = import_onnx()
    model.ir_version = next(version for least, version in _FORMAT_VERSIONS if opset >= least)
    if opset >= LOWEST_TRACED:
        return
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            continue
        since = onnx.defs.get_schema(node.op_type, LOWEST_TRACED).since_version
        if since > opset and not _lower(onnx, node, constants, opset):
            raise UserError(
                f"expected --onnx_opset of at least {since} for a network with the operation {node.op_type}, "
                f"found {opset}"
            )
    for used in model.opset_import:
        if used.domain in ("", "ai.onnx"):
            used.version = opset


def _lower(onnx: Any, node: Any, constants: dict[str, Any], opset: int) -> bool:
    """Rewrite one node; return whether it could be."""
    if node.op_type in _AXES_AS_INPUT:
        axes = constants.get(node.input[1]) if len(node.input) > 1 else None
        if axes is not None:
            del node.input[1]
            node.attribute.append(onnx.helper.make_attribute("axes", onnx.numpy_helper.to_array(axes).tolist()))
        keep = [attribute for attribute in node.attribute if attribute.name != "noop_with_empty_axes"]
        del node.attribute[:]
        node.attribute.extend(keep)
        return axes is not None or len(node.input) == 1
    if node.op_type not in _SAME:
        return False
    harmless = _NEW_ATTRIBUTES.get(node.op_type, {})
    known = onnx.defs.get_schema(node.op_type, opset).attributes
    new = [attribute for attribute in node.attribute if attribute.name not in known]
    shape = constants.get(node.input[1]) if node.op_type == "Reshape" else None
    # How zeros in a new shape are read does not matter without any.
    without_zeros = shape is not None and bool(onnx.numpy_helper.to_array(shape).all())
    if not without_zeros and any(onnx.helper.get_attribute_value(one) != harmless.get(one.name) for one in new):
        return False
    keep = [attribute for attribute in node.attribute if attribute.name in known]
    del node.attribute[:]
    node.attribute.extend(keep)
    # Before opset 18 Pad had no axes, and Split no number of outputs.
    return len(node.input) <= onnx.defs.get_schema(node.op_type, opset).max_input
