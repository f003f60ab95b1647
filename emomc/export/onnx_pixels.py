"""ONNX files that take pixels: the normalisation of images as the first operations of the graph."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emomc.export.onnx_editing import GraphEditor
from emomc.export.onnx_targets import PixelLayout
from emomc.packed_file.network import NetworkDescription

PIXELS = "pixels"
"""Name of the graph's input."""
_TO_NCHW, _TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)


def take_pixels(editor: GraphEditor, description: NetworkDescription, layout: PixelLayout) -> None:
    """Replace a graph's input of normalised images by uint8 pixels of the network's size.

    The numbers that the network gets are (pixel / 255 - mean) / deviation, computed as they are in training.

    Args:
        editor: of a graph whose only input is the images, (batch, channels, height, width).
        description: of the network; it has a mean and a deviation.
        layout: of the pixels.
    """
    helper, kinds = editor.onnx.helper, editor.onnx.TensorProto
    (images,) = editor.inputs
    name = images.name
    batch = images.type.tensor_type.shape.dim[0]
    channels, height, width = description.input_shape
    sizes = (channels, height, width) if layout == "nchw" else (height, width, channels)
    editor.replace_input(
        helper.make_tensor_value_info(PIXELS, kinds.UINT8, [batch.dim_param or batch.dim_value, *sizes])
    )
    factor, offset = _factor_and_offset(description)
    nodes, current = [], PIXELS
    if layout == "nhwc":
        current = f"{PIXELS}_{layout}"
        nodes.append(editor.make("Transpose", [PIXELS], current, perm=_TO_NCHW))
    nodes += [
        editor.make("Cast", [current], f"{PIXELS}_float", to=kinds.FLOAT),
        editor.make("Mul", [f"{PIXELS}_float", editor.constant(f"{PIXELS}_factor", factor)], f"{PIXELS}_scaled"),
        editor.make("Sub", [f"{PIXELS}_scaled", editor.constant(f"{PIXELS}_offset", offset)], name),
    ]
    editor.insert_first(nodes)


def _factor_and_offset(description: NetworkDescription) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what pixels are multiplied by, and what is then subtracted, (channels, 1, 1) each."""
    std, mean = (torch.tensor(values).view(-1, 1, 1) for values in (description.std, description.mean))
    return (1 / (255 * std)).numpy(), (mean / std).numpy()


def as_pixels(images: Tensor, properties: dict[str, str]) -> NDArray[np.uint8]:
    """Return the pixels that normalised images were made of.

    Args:
        images: float, (n, channels, height, width).
        properties: metadata of the ONNX file: ``mean``, ``std`` and ``pixels``, its layout.
    """
    std, mean = (torch.tensor(json.loads(properties[key])).view(-1, 1, 1) for key in ("std", "mean"))
    pixels = ((images * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    turned = pixels if properties["pixels"] == "nchw" else pixels.permute(_TO_NHWC)
    array: NDArray[np.uint8] = turned.contiguous().numpy()
    return array


def properties_of(session: Any) -> dict[str, str]:
    """Return the metadata of the ONNX file of an onnxruntime session."""
    found: dict[str, str] = session.get_modelmeta().custom_metadata_map
    return found
