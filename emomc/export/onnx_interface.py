"""Giving an ONNX graph of joined inputs and outputs those of its network."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from emomc.export.onnx_editing import GraphEditor
from emomc.networks.interface import NetworkInterface, Part, names_of

_WHOLE = "joined_"


def separate(model: Any, interface: NetworkInterface) -> None:
    """Give a graph the inputs and outputs of its network, which are joined until now, in place.

    Their names are keywords and keys as they are; what has a position alone is numbered after the name of the joined
    tensor, such as ``images_0``.
    """
    editor = GraphEditor(model)
    if interface.inputs:
        _separate_inputs(model, editor, interface)
    if interface.outputs:
        _separate_outputs(model, editor, interface.outputs)
    editor.write()


def _separate_inputs(model: Any, editor: GraphEditor, interface: NetworkInterface) -> None:
    (joined,) = model.graph.input
    values = _values(editor, joined, interface.inputs)
    whole, flat = f"{_WHOLE}{joined.name}", [f"{value.name}_flat" for value in values]
    nodes = [
        _reshaped(editor, value.name, name, [part.size])
        for value, name, part in zip(values, flat, interface.inputs, strict=True)
    ]
    nodes.append(editor.make("Concat", flat, f"{whole}_flat", axis=1))
    nodes.append(_reshaped(editor, f"{whole}_flat", whole, interface.input_shape))
    editor.rename_uses(joined.name, whole)
    editor.insert_first(nodes)
    del model.graph.input[:]
    model.graph.input.extend(values)


def _separate_outputs(model: Any, editor: GraphEditor, parts: Sequence[Part]) -> None:
    (joined,) = model.graph.output
    values = _values(editor, joined, parts)
    axis = editor.constant(f"{joined.name}_axis", np.array([1], np.int64))
    ends = itertools.accumulate(part.size for part in parts)
    for value, part, end in zip(values, parts, ends, strict=True):
        bounds = [
            editor.constant(f"{value.name}_{word}", np.array([place], np.int64))
            for word, place in (("first", end - part.size), ("end", end))
        ]
        flat = f"{value.name}_flat"
        editor.nodes.append(editor.make("Slice", [joined.name, *bounds, axis], flat))
        editor.nodes.append(_reshaped(editor, flat, value.name, part.shape))
    del model.graph.output[:]
    model.graph.output.extend(values)


def _reshaped(editor: GraphEditor, given: str, made: str, shape: Sequence[int]) -> Any:
    sides = editor.constant(f"{made}_shape", np.array([-1, *shape], np.int64))
    return editor.make("Reshape", [given, sides], made)


def _values(editor: GraphEditor, joined: Any, parts: Sequence[Part]) -> list[Any]:
    """Return the descriptions of inputs or outputs; the size of the batch is that of the joined tensor."""
    batch = joined.type.tensor_type.shape.dim[0]
    size = batch.dim_param or batch.dim_value
    kind = joined.type.tensor_type.elem_type
    make = editor.onnx.helper.make_tensor_value_info
    return [
        make(name, kind, [size, *part.shape]) for name, part in zip(names_of(parts, joined.name), parts, strict=True)
    ]
