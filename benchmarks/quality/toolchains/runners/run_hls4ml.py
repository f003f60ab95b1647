"""Convert an ONNX file to C++ for FPGAs with qonnx and hls4ml, compile it and run it: MODEL IMAGES.npy SCORES.npy."""

import json
import sys
import tempfile
from pathlib import Path

import hls4ml
import numpy as np
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean
from qonnx.transformation.gemm_to_matmul import GemmToMatMul
from qonnx.transformation.qcdq_to_qonnx import QCDQToQuant
from qonnx.util.cleanup import cleanup_model

# Wide enough for whatever is not rounded by the file itself.
PRECISION = "fixed<48,16>"


def main(model: Path, images: Path, scores: Path) -> None:
    given = np.load(images)
    network = ModelWrapper(str(model))
    (name,) = [value.name for value in network.graph.input]
    network.set_tensor_shape(name, list(given[:1].shape))
    network = cleanup_model(network).transform(QCDQToQuant())
    network = network.transform(ConvertToChannelsLastAndClean(make_input_channels_last=True))
    network = cleanup_model(network.transform(GemmToMatMul()))
    # hls4ml counts no dimension for the batch.
    for node in network.graph.node:
        constant = network.get_initializer(node.input[1]) if node.op_type in ("Mul", "Add") else None
        if constant is not None and constant.ndim == given.ndim:
            network.set_initializer(node.input[1], constant[0])
    how = {"backend": "Vitis", "io_type": "io_parallel"}
    settings = hls4ml.utils.config.config_from_onnx_model(
        network, granularity="name", backend="Vitis", default_precision=PRECISION
    )
    with tempfile.TemporaryDirectory() as folder:
        project = str(Path(folder) / "project")
        converted = hls4ml.converters.convert_from_onnx_model(network, output_dir=project, hls_config=settings, **how)
        converted.compile()
        found = converted.predict(np.ascontiguousarray(given.transpose(0, 2, 3, 1)))
        np.save(scores, found.reshape(len(given), -1))
        layers = len(list(converted.get_layers()))
    print(json.dumps({"note": f"{layers} layers of C++, compiled for this machine, not synthesised"}))


main(*map(Path, sys.argv[1:]))
