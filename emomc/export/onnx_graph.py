"""Export of a packed network as an ONNX graph."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from torch import nn

from emomc.common.errors import UserError, UserFact, first_line
from emomc.common.files import atomic_write
from emomc.compression.widths import FULL_ACTIVATION_BITS
from emomc.export.loading import input_grids, unpack_folded
from emomc.export.onnx_activations import round_marked
from emomc.export.onnx_editing import GraphEditor, import_onnx
from emomc.export.onnx_integers import use_integers
from emomc.export.onnx_pixels import take_pixels
from emomc.export.onnx_targets import OnnxOptions
from emomc.export.onnx_tracing import MARK_DOMAIN, trace_onnx
from emomc.export.onnx_weights import quantize_weights, weights_of
from emomc.packed_file.network import PackedNetwork


def write_onnx(
    path: Path,
    packed: PackedNetwork,
    network: nn.Module | None = None,
    *,
    options: OnnxOptions | None = None,
    activation_bits: int = FULL_ACTIVATION_BITS,
) -> int:
    """Write the network as ONNX: input ``images`` (batch, channels, height, width), normalised; output ``logits``.

    Where the options ask for it, the input is ``pixels`` instead, uint8 in 0..255; see ``take_pixels``.

    Weights are integers followed by DequantizeLinear, or float32; either way those of the packed file. The inputs of
    layers are rounded where the packed network rounds them. Mean, standard deviation and class names are metadata
    properties of the model.

    Args:
        path: the file to make or replace.
        packed: the network.
        network: as for ``load_compressed``: a user's network before folding.
        options: the toolchain and what it takes; None: onnxruntime.
        activation_bits: for ZigZag, bits of inputs that are not rounded.

    Returns:
        Bytes written.

    Raises:
        UserError: the extra ``export`` is not installed, the network cannot be traced into ONNX, or its integers are
            too wide for the opset.
    """
    options = options or OnnxOptions(int4=not input_grids(packed))
    options.check_weight_bits({layer.name: layer.bits for layer in packed.layers})
    if options.target.activations == "attributes":
        model = _with_widths(packed, network, options, activation_bits)
    else:
        model = _with_integers(packed, network, options)
    return _write(path, model)


def _with_integers(packed: PackedNetwork, network: nn.Module | None, options: OnnxOptions) -> Any:
    onnx, grids, target = import_onnx(), input_grids(packed), options.target
    folded = unpack_folded(packed, network)
    model = trace_onnx(folded, packed.description, opset=options.opset, marks=bool(grids))
    # Find all weights before the first one is replaced.
    places = list({place.tensor.name: place for place in weights_of(model, packed, folded)}.values())
    editor = GraphEditor(model)
    roundings = round_marked(editor, grids, target)
    if options.weights == "integers":
        quantize_weights(editor, places, options, narrow=grids)
        if roundings and target.activations == "operators":
            _tell_what_is_in_floats(use_integers(editor, places, roundings, target))
    if options.pixels is not None:
        take_pixels(editor, packed.description, options.pixels)
    editor.write()
    domains = [used for used in model.opset_import if used.domain != MARK_DOMAIN]
    del model.opset_import[:]
    model.opset_import.extend(domains)
    _describe(model, packed, options)
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        raise UserError(
            f"expected a valid ONNX graph of {packed.description.network}, found: {first_line(error)}"
        ) from error
    return model


def _tell_what_is_in_floats(layers: list[str]) -> None:
    if layers:
        note = (
            f"onnxruntime computes {len(layers)} layers in float32 ({', '.join(layers[:3])}"
            f"{', ...' if len(layers) > 3 else ''}): those with weights and inputs of at most 8 bits are "
            f"computed with integers, transposed convolutions apart"
        )
        warnings.warn(note, UserFact, stacklevel=2)


def _with_widths(packed: PackedNetwork, network: nn.Module | None, options: OnnxOptions, activation_bits: int) -> Any:
    """Return the network for ZigZag: batch of one, shapes inferred, weights in float32, widths as attributes.

    Every convolution and matrix product has the attributes ``weight_size`` and ``act_size``, in bits. ONNX does not
    define them, so only ZigZag reads the file.
    """
    onnx, grids = import_onnx(), input_grids(packed)
    folded = unpack_folded(packed, network)
    traced = trace_onnx(folded, packed.description, opset=options.opset, batch=1)
    model = onnx.shape_inference.infer_shapes(traced, data_prop=True)
    layer_of = {place.tensor.name: place.layer for place in weights_of(model, packed, folded)}
    for node in model.graph.node:
        layer = next((layer_of[name] for name in node.input if name in layer_of), None)
        if layer is not None:
            width = grids[layer.name].bits if layer.name in grids else activation_bits
            node.name = layer.name
            node.attribute.append(onnx.helper.make_attribute("weight_size", layer.bits))
            node.attribute.append(onnx.helper.make_attribute("act_size", width))
    return model


def _describe(model: Any, packed: PackedNetwork, options: OnnxOptions) -> None:
    description, target = packed.description, options.target.name
    model.producer_name = "emomc"
    values: dict[str, Any] = {"network": description.network, "class_names": description.class_names, "target": target}
    if description.mean:
        values |= {"mean": description.mean, "std": description.std}
    if options.pixels is not None:
        values["pixels"] = options.pixels
    for key, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        model.metadata_props.add(key=key, value=text)


def _write(path: Path, model: Any) -> int:
    data: bytes = model.SerializeToString(deterministic=True)
    with atomic_write(path) as partial:
        partial.write_bytes(data)
    return len(data)
