"""Export of a packed network as an ONNX graph with integer weights."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from emomc.common.errors import UserError
from emomc.common.files import atomic_write
from emomc.compression.widths import UNCOMPRESSED_BITS
from emomc.export.loading import layer_weight, unpack_folded
from emomc.networks.folding import FoldedNetwork
from emomc.networks.layers import LayerShape, as_stored
from emomc.packed_file.network import PackedLayer, PackedNetwork

OPSET = 21
"""The first ONNX opset whose DequantizeLinear takes 4-bit and 16-bit integers."""
ACTIVATION_BITS = 16

_BATCH, _INPUT, _OUTPUT = "batch", "images", "logits"
_DEQUANTIZED = "{}/dequantized"


def write_onnx(path: Path, packed: PackedNetwork, network: nn.Module | None = None) -> int:
    """Write the network as ONNX: input ``images`` (batch, channels, height, width), normalised; output ``logits``.

    Weights are integers followed by DequantizeLinear: INT4 for up to 4 bits, INT8 for up to 8, INT16 above. The
    dequantized weights equal those of the packed file. Mean, standard deviation and class names are metadata properties
    of the model.

    Args:
        path: the file to make or replace.
        packed: the network.
        network: as for ``load_compressed``: a user's network before folding.

    Returns:
        Bytes written.

    Raises:
        UserError: the extra ``export`` is not installed, or the network cannot be traced into ONNX.
    """
    onnx = _onnx()
    folded = unpack_folded(packed, network)
    model = _graph_of(packed, folded, batch=None)
    # Find all weights before the first one is replaced.
    places = {place.tensor.name: place for place in _weights_of(model, packed, folded)}
    for place in places.values():
        if place.layer.bits != UNCOMPRESSED_BITS:
            _quantize(model, place)
    _describe(model, packed)
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        raise UserError(
            f"expected a valid ONNX graph of {packed.description.network}, found: {_line(error)}"
        ) from error
    return _write(path, model)


def write_onnx_for_zigzag(
    path: Path, packed: PackedNetwork, network: nn.Module | None = None, *, activation_bits: int = ACTIVATION_BITS
) -> int:
    """Write the network as ONNX for the accelerator model ZigZag: batch of one, shapes inferred, bits as attributes.

    Every convolution and matrix product has the attributes ``weight_size`` and ``act_size``, in bits. ONNX does not
    define them, so only ZigZag reads the file. Weights are in float32.

    Args:
        path: the file to make or replace.
        packed: the network.
        network: as for ``load_compressed``: a user's network before folding.
        activation_bits: bits of an activation.

    Returns:
        Bytes written.

    Raises:
        UserError: as for ``write_onnx``.
    """
    onnx = _onnx()
    folded = unpack_folded(packed, network)
    model = onnx.shape_inference.infer_shapes(_graph_of(packed, folded, batch=1), data_prop=True)
    layer_of = {place.tensor.name: place.layer for place in _weights_of(model, packed, folded)}
    for node in model.graph.node:
        layer = next((layer_of[name] for name in node.input if name in layer_of), None)
        if layer is not None:
            node.name = layer.name
            node.attribute.append(onnx.helper.make_attribute("weight_size", layer.bits))
            node.attribute.append(onnx.helper.make_attribute("act_size", activation_bits))
    return _write(path, model)


def _onnx() -> Any:
    try:
        import onnx
        import onnx.checker
        import onnx.shape_inference
        import onnxscript  # noqa: F401  # torch's exporter needs it
    except ImportError as error:
        raise UserError(f"expected the packages of pip install 'emomc[export]', found no {error.name}") from None
    return onnx


def _graph_of(packed: PackedNetwork, folded: FoldedNetwork, *, batch: int | None) -> Any:
    """Trace the folded network; the batch size is dynamic if ``batch`` is None."""
    # torch.export would treat a batch size of 1 as a constant.
    images = torch.zeros(batch or 2, *packed.description.input_shape)
    dynamic = None if batch else ({0: torch.export.Dim.DYNAMIC},)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = torch.export.export(folded.module, (images,), dynamic_shapes=dynamic, strict=False)
            program = torch.onnx.export(
                traced, opset_version=OPSET, dynamo=True, input_names=[_INPUT], output_names=[_OUTPUT], verbose=False
            )
        model = program.model_proto  # type: ignore[union-attr]
    except Exception as error:
        raise UserError(
            f"expected a network that torch.onnx.export can trace, found that {packed.description.network} fails: "
            f"{_line(error)}"
        ) from error
    _clean(model)
    return model


def _clean(model: Any) -> None:
    """Remove the exporter's notes on this machine, and name the dynamic batch size."""
    graph = model.graph
    values = [*graph.input, *graph.output, *graph.value_info]
    for part in (model, graph, *graph.node, *graph.initializer, *values):
        del part.metadata_props[:]
        part.doc_string = ""
    symbol = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in values:
        for size in value.type.tensor_type.shape.dim:
            if symbol and symbol in size.dim_param:
                size.dim_param = size.dim_param.replace(symbol, _BATCH)


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where a layer's weights are in the ONNX graph."""

    layer: PackedLayer
    shape: LayerShape
    tensor: Any
    """The initialiser."""
    input_first: bool
    """Whether its input channels come first."""


def _weights_of(model: Any, packed: PackedNetwork, folded: FoldedNetwork) -> Iterable[_Place]:
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
        yield _Place(layer, shape, tensor, shape.input_first != turned)


def _equal(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.shape == other.shape and bool((one == other).all())


def _quantize(model: Any, place: _Place) -> None:
    """Replace an initialiser by integers and the node that multiplies them by their scale."""
    onnx = _onnx()
    layer, name = place.layer, place.tensor.name
    codes, scale = _positive(layer)
    kind = _integer_type(onnx, layer.bits)
    # The scales of a grouped layer with its inputs first are along two axes: such a layer is turned in the graph.
    turn_later = place.input_first and place.shape.groups > 1
    output_axis = 1 if place.input_first and not turn_later else 0
    stored = np.swapaxes(codes, 0, 1) if output_axis else codes
    integers = onnx.TensorProto(
        name=f"{name}/codes", data_type=kind, dims=stored.shape, raw_data=_raw(np.ascontiguousarray(stored), layer.bits)
    )
    result = f"{name}/output_first" if turn_later else name
    apart = any(node.op_type == "MatMul" and name in node.input for node in model.graph.node)
    nodes, constants = _dequantize(onnx, integers, scale, output_axis, result, apart=apart)
    nodes[0].name = _DEQUANTIZED.format(layer.name)
    if turn_later:
        more_nodes, more_constants = _turn(onnx, place, result)
        nodes, constants = nodes + more_nodes, constants + more_constants
    kept = [tensor for tensor in model.graph.initializer if tensor.name != name]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, *constants])
    for node in reversed(nodes):
        model.graph.node.insert(0, node)


def _dequantize(
    onnx: Any, integers: Any, scale: NDArray[np.float32], axis: int, result: str, *, apart: bool
) -> tuple[list[Any], list[Any]]:
    """Return the nodes and constants that multiply integers by their scale.

    Args:
        onnx: the package.
        integers: a tensor.
        scale: one, or one for each index of the axis.
        axis: of the output channels.
        result: name of the products.
        apart: whether to multiply in a node of its own. onnxruntime replaces a DequantizeLinear before a MatMul by a
            product that rounds the activations to 8 bits.
    """
    make, one = onnx.helper.make_node, len(scale) == 1
    shape = [1] * len(integers.dims)
    if apart and not one:
        shape[axis] = len(scale)
    values = scale.reshape(shape) if apart else scale.reshape(()) if one else scale
    step = onnx.numpy_helper.from_array(values, f"{result}/scale")
    if not apart:
        attributes = {} if one else {"axis": axis}
        return [make("DequantizeLinear", [integers.name, step.name], [result], **attributes)], [integers, step]
    unit = onnx.numpy_helper.from_array(np.float32(1).reshape(()), f"{result}/one")
    as_floats = f"{result}/as_floats"
    return [
        make("DequantizeLinear", [integers.name, unit.name], [as_floats]),
        make("Mul", [as_floats, step.name], [result]),
    ], [integers, unit, step]


def _turn(onnx: Any, place: _Place, given: str) -> tuple[list[Any], list[Any]]:
    """Return the nodes and constants that put the input channels of a grouped layer's weights first."""
    shape, name = place.shape, place.tensor.name
    kernel = place.layer.codes.shape[2:]
    split = (shape.groups, shape.out_channels // shape.groups, shape.in_channels // shape.groups, *kernel)
    first = (shape.in_channels, shape.out_channels // shape.groups, *kernel)
    sizes = [
        onnx.numpy_helper.from_array(np.array(values, np.int64), f"{name}/{key}")
        for key, values in (("groups", split), ("input_first", first))
    ]
    order = [0, 2, 1, *range(3, len(split))]
    make = onnx.helper.make_node
    nodes = [
        make("Reshape", [given, sizes[0].name], [f"{name}/split"]),
        make("Transpose", [f"{name}/split"], [f"{name}/turned"], perm=order),
        make("Reshape", [f"{name}/turned", sizes[1].name], [name]),
    ]
    return nodes, sizes


def _positive(layer: PackedLayer) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Return codes and scales with the same products, all scales above 0, as runtimes expect."""
    scale = layer.scale
    sign = np.where(scale < 0, -1, np.where(scale == 0, 0, 1)).astype(layer.codes.dtype)
    # Codes are symmetric around zero: -c fits the same bits as c.
    codes = layer.codes * sign.reshape(-1, *[1] * (layer.codes.ndim - 1))
    return codes, np.where(scale == 0, np.float32(1), np.abs(scale))


def _integer_type(onnx: Any, bits: int) -> int:
    kinds = onnx.TensorProto
    return int(kinds.INT4 if bits <= 4 else kinds.INT8 if bits <= 8 else kinds.INT16)


def _raw(codes: NDArray[Any], bits: int) -> bytes:
    if bits > 8:
        return codes.astype("<i2").tobytes()
    if bits > 4:
        return codes.astype(np.int8).tobytes()
    nibbles = codes.astype(np.uint8).reshape(-1) & 0xF
    nibbles = np.append(nibbles, np.uint8(0)) if len(nibbles) % 2 else nibbles
    return (nibbles[0::2] | (nibbles[1::2] << 4)).astype(np.uint8).tobytes()


def _describe(model: Any, packed: PackedNetwork) -> None:
    description = packed.description
    model.producer_name = "emomc"
    values: dict[str, Any] = {"network": description.network, "class_names": description.class_names}
    if description.mean:
        values |= {"mean": description.mean, "std": description.std}
    for key, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        model.metadata_props.add(key=key, value=text)


def _write(path: Path, model: Any) -> int:
    data: bytes = model.SerializeToString(deterministic=True)
    with atomic_write(path) as partial:
        partial.write_bytes(data)
    return len(data)


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
