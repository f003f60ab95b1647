"""Tracing a network into an ONNX graph in which the inputs of its layers are marked."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from emomc.common.errors import UserError, first_cause, first_line
from emomc.compression.activations import insert_before_layers
from emomc.export.onnx_editing import import_onnx
from emomc.export.onnx_interface import separate
from emomc.export.onnx_opset import LOWEST_TRACED, lower_opset
from emomc.networks.folding import FoldedNetwork
from emomc.networks.layers import LayerShape
from emomc.packed_file.network import NetworkDescription

MARK_DOMAIN, MARK = "emomc", "LayerInput"
"""The node that stands where a layer's input is rounded."""
_BATCH, _INPUT, _OUTPUT = "batch", "images", "logits"


class _Mark(nn.Module):
    """Becomes a node of the ONNX graph that passes its input on and has the name of a layer as an attribute."""

    def __init__(self, layer: LayerShape) -> None:
        super().__init__()
        self.layer = layer.name

    def forward(self, values: Tensor) -> Tensor:
        marked: Tensor = torch.onnx.ops.symbolic(
            f"{MARK_DOMAIN}::{MARK}",
            (values,),
            {"layer": self.layer},
            dtype=values.dtype,
            shape=values.shape,
            version=1,
        )
        return marked


def trace_onnx(
    folded: FoldedNetwork, description: NetworkDescription, *, opset: int, batch: int | None = None, marks: bool = False
) -> Any:
    """Return a network as an ONNX model with weights in float32.

    Args:
        folded: the network; it gets the marks.
        description: of the network.
        opset: ONNX opset, 13..21.
        batch: images of a forward pass; None: any number.
        marks: whether to put a node ``LayerInput`` before each call of a layer that has weights. It is no operation of
            ONNX, and has to be replaced.

    Raises:
        UserError: the extra ``export`` is not installed, or the network cannot be traced into ONNX or this opset.
    """
    import_onnx()
    if marks:
        insert_before_layers(folded, _Mark, "mark")
    # torch.export would treat a batch size of 1 as a constant.
    images = torch.zeros(batch or 2, *description.input_shape)
    dynamic = None if batch else ({0: torch.export.Dim.DYNAMIC},)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = torch.export.export(folded.module, (images,), dynamic_shapes=dynamic, strict=False)
            program = torch.onnx.export(
                traced,
                opset_version=max(opset, LOWEST_TRACED),
                dynamo=True,
                input_names=[_INPUT],
                output_names=[_OUTPUT],
                verbose=False,
            )
        model = program.model_proto  # type: ignore[union-attr]
    except Exception as error:
        raise UserError(
            f"expected a network that torch.onnx.export can trace, found that {description.network} fails: "
            f"{first_line(first_cause(error))}"
        ) from error
    _clean(model)
    if description.interface is not None:
        separate(model, description.interface)
    lower_opset(model, opset)
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
