"""onnxruntime: static quantization of the ONNX file, weights of 8 or 4 bits.

Its documentation: "Quantize ONNX models": ``quant_pre_process``, then ``quantize_static`` in the QDQ format, per
channel, with activations of 8 bits; weights of 4 bits (``QInt4``) as its documentation of 4-bit types allows.
"""

import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from problem import Compressed, Layer, Problem, run
from torch import Tensor


class Images(CalibrationDataReader):
    def __init__(self, images: Tensor) -> None:
        self.left = iter([{"images": batch.numpy()} for batch in images.split(32)])

    def get_next(self) -> dict:
        return next(self.left, None)


def static(problem: Problem, weights: str) -> bytes:
    images = problem.images("calibration")
    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, quantized = (f"{folder}/{name}.onnx" for name in ("plain", "prepared", "quantized"))
        sizes = ({0: torch.export.Dim("batch")},)
        torch.onnx.export(problem.network(), (images[:32],), plain, input_names=["images"], dynamic_shapes=sizes)
        quant_pre_process(plain, prepared)
        quantize_static(prepared, quantized, Images(images), per_channel=True, weight_type=QuantType[weights])
        return Path(quantized).read_bytes()


def read(problem: Problem, file: bytes) -> Compressed:
    model = onnx.load_from_string(file)
    values = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    groups = {
        node.input[1]: next((part.i for part in node.attribute if part.name == "group"), 1)
        for node in model.graph.node
        if node.op_type == "Conv"
    }
    transposed = {
        node.input[1]
        for node in model.graph.node
        if node.op_type == "Gemm" and not any(part.name == "transB" and part.i for part in node.attribute)
    } | {node.input[1] for node in model.graph.node if node.op_type == "MatMul"}
    layers, grids = {}, 0
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear":
            continue
        if node.input[0] not in values:
            grids += 1
            continue
        codes = values[node.input[0]]
        if codes.ndim < 2:
            continue
        bits = 4 if "int4" in str(codes.dtype) else 8
        axis = next((part.i for part in node.attribute if part.name == "axis"), 1) % codes.ndim
        scale, zero = (values[name].astype(np.float32).reshape(-1) for name in node.input[1:3])
        shape = [-1 if place == axis else 1 for place in range(codes.ndim)]
        weights = torch.from_numpy((codes.astype(np.float32) - zero.reshape(shape)) * scale.reshape(shape))
        if node.output[0] in transposed:
            weights = weights.T
        zeros = len(zero) if zero.any() else 0
        name = problem.name_of(weights)
        layers[name] = Layer(weights, bits, len(scale), zeros, groups=groups.get(node.output[0], 1))
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return Compressed(
        lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0]),
        layers,
        activation_bits=8,
        activation_grids=grids,
        file_bytes=len(file),
    )


run([static], read, {"static": [{"weights": "QInt8"}, {"weights": "QInt4"}]})
