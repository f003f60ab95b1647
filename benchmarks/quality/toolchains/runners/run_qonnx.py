"""Run an ONNX file in qonnx after its conversion from QCDQ to Quant nodes: MODEL IMAGES.npy SCORES.npy."""

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.qcdq_to_qonnx import QCDQToQuant
from qonnx.util.cleanup import cleanup_model


def main(model: Path, images: Path, scores: Path) -> None:
    given = np.load(images)
    network = ModelWrapper(str(model))
    (name,) = [value.name for value in network.graph.input]
    network.set_tensor_shape(name, list(given[:1].shape))
    network = cleanup_model(network).transform(QCDQToQuant())
    (name,), (result,) = ([value.name for value in side] for side in (network.graph.input, network.graph.output))
    found = [execute_onnx(network, {name: image[None]})[result].reshape(-1) for image in given]
    np.save(scores, np.stack(found))
    quants = [node for node in network.graph.node if node.op_type == "Quant"]
    widths = Counter(int(network.get_initializer(node.input[3])) for node in quants)
    note = "Quant of " + ", ".join(f"{bits} bits: {count}" for bits, count in sorted(widths.items()))
    print(json.dumps({"note": note}))


main(*map(Path, sys.argv[1:]))
