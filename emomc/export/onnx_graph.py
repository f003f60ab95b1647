"""Export of a packed network as an ONNX graph with integer weights."""

from __future__ import annotations

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
from emomc.export.loading import layer_weight, unpack_network
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
    model = _graph_of(packed, network, batch=None)
    # Find all weights before the first one is replaced.
    for layer, weight, transposed in [*_weights_of(model, packed)]:
        if layer.bits != UNCOMPRESSED_BITS:
            _quantize(model, layer, weight, transposed=transposed)
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
    model = onnx.shape_inference.infer_shapes(_graph_of(packed, network, batch=1), data_prop=True)
    layer_of = {weight.name: layer for layer, weight, _ in _weights_of(model, packed)}
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


def _graph_of(packed: PackedNetwork, network: nn.Module | None, *, batch: int | None) -> Any:
    """Trace the folded network; the batch size is dynamic if ``batch`` is None."""
    folded = unpack_network(packed, network)
    # torch.export would treat a batch size of 1 as a constant.
    images = torch.zeros(batch or 2, *packed.description.input_shape)
    dynamic = None if batch else ({0: torch.export.Dim.DYNAMIC},)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = torch.export.export(folded, (images,), dynamic_shapes=dynamic, strict=False)
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


def _weights_of(model: Any, packed: PackedNetwork) -> Iterable[tuple[PackedLayer, Any, bool]]:
    """Yield each layer, the initialiser that holds its weights, and whether they are transposed there."""
    from onnx import numpy_helper

    found = {tensor.name: tensor for tensor in model.graph.initializer}
    free = [tensor for name, tensor in found.items() if name not in {f"{layer.name}.weight" for layer in packed.layers}]
    for layer in packed.layers:
        tensor = found.get(f"{layer.name}.weight")
        transposed = tensor is None
        if tensor is None and layer.codes.ndim == 2:
            # For inputs of more than two dimensions the exporter transposes and renames the weights of a linear layer.
            transpose = layer_weight(layer).numpy().T
            tensor = next((one for one in free if _equal(numpy_helper.to_array(one), transpose)), None)
        if tensor is None:
            raise UserError(f"expected the weights of {layer.name} in the ONNX graph, found none of these values")
        yield layer, tensor, transposed


def _equal(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.shape == other.shape and bool((one == other).all())


def _quantize(model: Any, layer: PackedLayer, weight: Any, *, transposed: bool) -> None:
    """Replace an initialiser by integers and a DequantizeLinear node."""
    onnx = _onnx()
    codes, scale = _positive(layer)
    name, kind = weight.name, _integer_type(onnx, layer.bits)
    raw = _raw(codes.T if transposed else codes, layer.bits)
    integers = onnx.TensorProto(name=f"{name}/codes", data_type=kind, dims=weight.dims, raw_data=raw)
    one = len(scale) == 1
    step = onnx.numpy_helper.from_array(scale.reshape(()) if one else scale, f"{name}/scale")
    attributes = {} if one else {"axis": 1 if transposed else 0}
    inputs = [integers.name, step.name]
    node = onnx.helper.make_node("DequantizeLinear", inputs, [name], name=_DEQUANTIZED.format(layer.name), **attributes)
    kept = [tensor for tensor in model.graph.initializer if tensor.name != name]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, integers, step])
    model.graph.node.insert(0, node)


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
