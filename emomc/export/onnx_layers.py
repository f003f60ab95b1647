"""One layer alone as an ONNX model, with random weights, for measuring what it takes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emomc.export.onnx_editing import import_onnx
from emomc.export.onnx_targets import CONTAINER_BITS, NARROW_OPSET
from emomc.networks.layers import LayerCall, LayerKind, LayerShape

Values = NDArray[Any]
_IR_VERSION = 10
_SCALE = 1.0 / 128
_MIDDLE = 128
"""The code of an input of 0."""


@dataclasses.dataclass(frozen=True)
class OnnxForm:
    """How a layer lies in an ONNX file that ``emomc-export`` writes for onnxruntime."""

    weight_bits: int
    """Of the integers that hold its weights, 8 or 16; 32: its weights are floats."""
    activation_bits: int
    """Of the integers that hold its inputs and outputs, 8; 32: they are floats."""


_FULL = OnnxForm(32, 32)
_WEIGHTS_ALONE = (OnnxForm(8, 32), OnnxForm(16, 32))


def forms_of(kind: LayerKind) -> tuple[OnnxForm, ...]:
    """Return the forms that layers of a kind have in files: products have no weights, transposed ones run in floats."""
    if kind == "product":
        return (_FULL,)
    integers = (OnnxForm(8, 8), OnnxForm(16, 8)) if kind in ("conv", "linear") else ()
    return (*integers, *_WEIGHTS_ALONE, _FULL)


def layer_model(layer: LayerShape, call: LayerCall, form: OnnxForm) -> tuple[bytes, dict[str, Values]]:
    """Return one call of a layer on one image as a model, and its inputs.

    Weights of integers are behind a DequantizeLinear. Inputs of integers, too, and a QuantizeLinear follows the layer:
    with weights of 8 bits onnxruntime fuses all of it to one kernel of integers.

    Args:
        layer: the layer. The padding follows from the sizes of its maps.
        call: which of its calls.
        form: one of ``forms_of`` its kind.

    Raises:
        UserError: the extra ``export`` is not installed.
    """
    onnx = import_onnx()
    helper = onnx.helper
    operation, sizes, attributes = _operation(layer, call)
    random = np.random.default_rng(0)
    numbers = {name: random.uniform(-0.5, 0.5, size).astype(np.float32) for name, size in sizes.items()}
    codes = _codes(numbers, form)
    scales = {name: f"{name}_scale" for name in codes}
    nodes = [
        helper.make_node("DequantizeLinear", [name, scales[name], f"{name}_zero"], [f"{name}_float"]) for name in codes
    ]
    operands = [f"{name}_float" if name in codes else name for name in numbers]
    rounded = "images" in codes
    nodes.append(helper.make_node(operation, operands, ["sums" if rounded else "answer"], **attributes))
    if rounded:
        nodes.append(helper.make_node("QuantizeLinear", ["sums", "images_scale", "images_zero"], ["answer"]))
    values = {**numbers, **{name: pair[0] for name, pair in codes.items()}}
    image = values.pop("images")
    for name, (_, zero, scale) in codes.items():
        values |= {f"{name}_zero": zero, scales[name]: scale}
    kind = onnx.TensorProto.UINT8 if rounded else onnx.TensorProto.FLOAT
    ends = [
        helper.make_tensor_value_info(name, kind, shape) for name, shape in (("images", image.shape), ("answer", None))
    ]
    return _serialized(nodes, ends, values), {"images": image}


def _codes(numbers: Mapping[str, Values], form: OnnxForm) -> dict[str, tuple[Values, Values, Values]]:
    """Return what lies in the file as integers: name -> codes, zero point, scale."""
    kinds: dict[str, tuple[type, int, float]] = {}
    if form.activation_bits < _FULL.activation_bits:
        kinds["images"] = (np.uint8, _MIDDLE, _SCALE)
    if form.weight_bits < _FULL.weight_bits:
        kinds["weights"] = (np.int8 if form.weight_bits == CONTAINER_BITS else np.int16, 0, _SCALE)
    if {"images", "weights"} <= kinds.keys() and form.weight_bits == CONTAINER_BITS and "bias" in numbers:
        kinds["bias"] = (np.int32, 0, _SCALE * _SCALE)
    found: dict[str, tuple[Values, Values, Values]] = {}
    for name, (kind, zero, scale) in kinds.items():
        whole = np.rint(numbers[name] / scale) + zero
        codes = np.clip(whole, np.iinfo(kind).min, np.iinfo(kind).max).astype(kind)
        found[name] = (codes, np.array(zero, kind), np.array(scale, np.float32))
    return found


def empty_model() -> tuple[bytes, dict[str, Values]]:
    """Return a model that does nothing, and its input: what any run takes besides its layers."""
    onnx = import_onnx()
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (1, 1)) for name in ("images", "answer")]
    nodes = [onnx.helper.make_node("Identity", ["images"], ["answer"])]
    return _serialized(nodes, ends, {}), {"images": np.zeros((1, 1), np.float32)}


def _serialized(nodes: Sequence[Any], ends: Sequence[Any], constants: Mapping[str, Values]) -> bytes:
    """Return a model of nodes between an input and an output."""
    onnx = import_onnx()
    tensors = [onnx.numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()]
    graph = onnx.helper.make_graph(nodes, "layer", ends[:1], ends[1:], tensors)
    opset = [onnx.helper.make_opsetid("", NARROW_OPSET)]
    model: bytes = onnx.helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION).SerializeToString()
    return model


def _operation(layer: LayerShape, call: LayerCall) -> tuple[str, dict[str, tuple[int, ...]], dict[str, Any]]:
    """Return the operation of a layer, the sizes of what it takes, and its attributes."""
    inputs, outputs, groups = layer.in_channels, layer.out_channels, layer.groups
    positions = math.prod(call.input_size)
    if layer.kind == "product":
        each, made = (inputs // groups, outputs // groups)
        return "MatMul", {"images": (groups, positions, each), "weights": (groups, each, made)}, {}
    if layer.kind == "linear":
        return "Gemm", {"images": (positions, inputs), "weights": (outputs, inputs), "bias": (outputs,)}, {"transB": 1}
    transposed = layer.kind == "conv_transpose"
    first, second = (inputs, outputs // groups) if transposed else (outputs, inputs // groups)
    sizes = {
        "images": (1, inputs, *call.input_size),
        "weights": (first, second, *layer.kernel_size),
        "bias": (outputs,),
    }
    attributes: dict[str, Any] = {"group": groups, "strides": layer.stride, "dilations": layer.dilation}
    if transposed:
        # onnxruntime finds the padding itself.
        return "ConvTranspose", sizes, {**attributes, "output_shape": call.output_size}
    return "Conv", sizes, {**attributes, "pads": _padding(layer, call)}


def _padding(layer: LayerShape, call: LayerCall) -> list[int]:
    """Return the padding above, to the left, below and to the right that makes the output map of its size."""
    wanted = [
        max(0, stride * (made - 1) + dilation * (kernel - 1) + 1 - given)
        for stride, dilation, kernel, given, made in zip(
            layer.stride, layer.dilation, layer.kernel_size, call.input_size, call.output_size, strict=True
        )
    ]
    return [*(one // 2 for one in wanted), *(one - one // 2 for one in wanted)]
