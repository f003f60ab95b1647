"""Replacing the weights in an ONNX graph by integers and their scales."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emomc.common.errors import UserError
from emomc.compression.widths import UNCOMPRESSED_BITS
from emomc.export.loading import layer_weight
from emomc.export.onnx_editing import GraphEditor
from emomc.export.onnx_scales import scale_sums
from emomc.export.onnx_targets import OnnxOptions
from emomc.networks.folding import FoldedNetwork
from emomc.networks.layers import LayerShape, as_stored
from emomc.packed_file.network import PackedLayer, PackedNetwork

_DEQUANTIZED = "{}/dequantized"


@dataclasses.dataclass(frozen=True)
class WeightPlace:
    """Where a layer's weights are in the ONNX graph."""

    layer: PackedLayer
    shape: LayerShape
    tensor: Any
    """The initialiser."""
    input_first: bool
    """Whether its input channels come first."""


def weights_of(model: Any, packed: PackedNetwork, folded: FoldedNetwork) -> Iterator[WeightPlace]:
    """Yield each layer and where its weights are; layers of the same weights may be in one place."""
    from onnx import numpy_helper

    shapes = {layer.name: layer for layer in folded.layers}
    named = {layer.weight_key for layer in folded.layers}
    found = {tensor.name: tensor for tensor in model.graph.initializer}
    free = [tensor for name, tensor in found.items() if name not in named]
    for layer in packed.layers:
        shape = shapes[layer.name]
        tensor, turned = found.get(shape.weight_key), False
        if tensor is None and layer.codes.ndim == 2:
            # For inputs of more than two dimensions the exporter transposes and renames the weights of a linear layer.
            transpose = as_stored(layer_weight(layer), shape).numpy().T
            tensor, turned = next((one for one in free if _equal(numpy_helper.to_array(one), transpose)), None), True
        if tensor is None:
            same = as_stored(layer_weight(layer), shape).numpy()
            every = found.values()
            tensor, turned = next((one for one in every if _equal(numpy_helper.to_array(one), same)), None), False
        if tensor is None:
            raise UserError(f"expected the weights of {layer.name} in the ONNX graph, found none of these values")
        yield WeightPlace(layer, shape, tensor, shape.input_first != turned)


def _equal(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.shape == other.shape and bool((one == other).all())


def quantize_weights(
    editor: GraphEditor, places: list[WeightPlace], options: OnnxOptions, *, narrow: Container[str]
) -> None:
    """Replace initialisers by integers and the nodes that multiply them by their scale.

    Args:
        editor: of the graph.
        places: one for each initialiser.
        options: which integers.
        narrow: names of the layers whose inputs are rounded.
    """
    for place in places:
        if place.layer.bits != UNCOMPRESSED_BITS:
            _quantize(editor, place, options, narrow=place.layer.name in narrow)


def _quantize(editor: GraphEditor, place: WeightPlace, options: OnnxOptions, *, narrow: bool) -> None:
    onnx = editor.onnx
    layer, name = place.layer, place.tensor.name
    codes, scale = _positive(layer)
    kind = _integer_type(onnx, layer.bits, int4=options.int4)
    # The scales of a grouped layer with its inputs first are along two axes: such a layer is turned in the graph.
    turn_later = place.input_first and place.shape.groups > 1
    output_axis = 1 if place.input_first and not turn_later else 0
    stored = np.ascontiguousarray(np.swapaxes(codes, 0, 1) if output_axis else codes)
    result = f"{name}/output_first" if turn_later else name
    # onnxruntime replaces a DequantizeLinear before a MatMul by a product that rounds the activations to 8 bits.
    in_product = any(node.op_type == "MatMul" and name in node.input for node in editor.nodes)
    apart = in_product and options.target.activations == "operators" and not (narrow and layer.bits <= 8)
    if options.target.scales_sums and scale_sums(editor, name, scale):
        scale = np.ones(1, np.float32)
    del editor.constants[name]
    if options.target.activations == "qcdq":
        nodes = _round(editor, stored, layer.bits, scale, output_axis, result)
    else:
        integers = onnx.TensorProto(
            name=f"{name}/codes", data_type=kind, dims=stored.shape, raw_data=_raw(onnx, stored, kind)
        )
        editor.constants[integers.name] = integers
        nodes = _dequantize(editor, integers, scale, output_axis, result, apart=apart)
        nodes[0].name = _DEQUANTIZED.format(layer.name)
    if turn_later:
        nodes += _turn(editor, place, result)
    editor.insert_first(nodes)


def _dequantize(
    editor: GraphEditor, integers: Any, scale: NDArray[np.float32], axis: int, result: str, *, apart: bool
) -> list[Any]:
    """Return the nodes that multiply integers by their scale.

    Args:
        editor: gets the constants.
        integers: a tensor.
        scale: one, or one for each index of the axis.
        axis: of the output channels.
        result: name of the products.
        apart: whether to multiply in a node of its own.
    """
    one = len(scale) == 1
    shape = [1] * len(integers.dims)
    if apart and not one:
        shape[axis] = len(scale)
    values = scale.reshape(shape) if apart else scale.reshape(()) if one else scale
    step = editor.constant(f"{result}/scale", values)
    if not apart:
        attributes = {} if one else {"axis": axis}
        # Some tools want to be told that it is zero.
        zero = _zeros(editor, f"{result}/zero_point", integers.data_type, values.shape)
        return [editor.make("DequantizeLinear", [integers.name, step, zero], result, **attributes)]
    unit = editor.constant(f"{result}/one", np.float32(1).reshape(()))
    as_floats = f"{result}/as_floats"
    return [
        editor.make("DequantizeLinear", [integers.name, unit], as_floats),
        editor.make("Mul", [as_floats, step], result),
    ]


def _round(
    editor: GraphEditor, codes: NDArray[Any], bits: int, scale: NDArray[np.float32], axis: int, result: str
) -> list[Any]:
    """Return the nodes that round weights in float32, which changes none of them, and say their bits by a Clip."""
    one = len(scale) == 1
    shape = [1] * codes.ndim
    shape[axis] = len(scale)
    step = scale.reshape(()) if one else scale
    attributes = {} if one else {"axis": axis}
    values = editor.constant(f"{result}/values", codes * (step if one else scale.reshape(shape)).astype(np.float32))
    steps = editor.constant(f"{result}/scale", step)
    zero = editor.constant(f"{result}/zero_point", np.zeros(step.shape, np.int8))
    highest = 2 ** (bits - 1) - 1
    ends = [editor.constant(f"{result}/{end}", np.array(end, np.int8)) for end in (-highest, highest)]
    return [
        editor.make("QuantizeLinear", [values, steps, zero], f"{result}/codes", **attributes),
        editor.make("Clip", [f"{result}/codes", *ends], f"{result}/clipped"),
        editor.make("DequantizeLinear", [f"{result}/clipped", steps, zero], result, **attributes),
    ]


def _zeros(editor: GraphEditor, name: str, kind: int, shape: tuple[int, ...]) -> str:
    numbers = np.zeros(shape, np.int8)
    editor.constants[name] = editor.onnx.TensorProto(
        name=name, data_type=kind, dims=shape, raw_data=_raw(editor.onnx, numbers, kind)
    )
    return name


def _turn(editor: GraphEditor, place: WeightPlace, given: str) -> list[Any]:
    """Return the nodes that put the input channels of a grouped layer's weights first."""
    shape, name = place.shape, place.tensor.name
    kernel = place.layer.codes.shape[2:]
    split = (shape.groups, shape.out_channels // shape.groups, shape.in_channels // shape.groups, *kernel)
    first = (shape.in_channels, shape.out_channels // shape.groups, *kernel)
    groups = editor.constant(f"{name}/groups", np.array(split, np.int64))
    input_first = editor.constant(f"{name}/input_first", np.array(first, np.int64))
    order = [0, 2, 1, *range(3, len(split))]
    return [
        editor.make("Reshape", [given, groups], f"{name}/split"),
        editor.make("Transpose", [f"{name}/split"], f"{name}/turned", perm=order),
        editor.make("Reshape", [f"{name}/turned", input_first], name),
    ]


def _positive(layer: PackedLayer) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Return codes and scales with the same products, all scales above 0, as runtimes expect."""
    scale = layer.scale
    sign = np.where(scale < 0, -1, np.where(scale == 0, 0, 1)).astype(layer.codes.dtype)
    # Codes are symmetric around zero: -c fits the same bits as c.
    codes = layer.codes * sign.reshape(-1, *[1] * (layer.codes.ndim - 1))
    return codes, np.where(scale == 0, np.float32(1), np.abs(scale))


def _integer_type(onnx: Any, bits: int, *, int4: bool) -> int:
    kinds = onnx.TensorProto
    return int(kinds.INT4 if bits <= 4 and int4 else kinds.INT8 if bits <= 8 else kinds.INT16)


def _raw(onnx: Any, codes: NDArray[Any], kind: int) -> bytes:
    if kind == onnx.TensorProto.INT16:
        return codes.astype("<i2").tobytes()
    if kind == onnx.TensorProto.INT8:
        return codes.astype(np.int8).tobytes()
    nibbles = codes.astype(np.uint8).reshape(-1) & 0xF
    nibbles = np.append(nibbles, np.uint8(0)) if len(nibbles) % 2 else nibbles
    return (nibbles[0::2] | (nibbles[1::2] << 4)).astype(np.uint8).tobytes()
