"""Run an ONNX file in OpenVINO on the CPU, and count the types its layers ran in: MODEL IMAGES.npy SCORES.npy."""

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import openvino


def main(model: Path, images: Path, scores: Path) -> None:
    core = openvino.Core()
    # Without the hint a CPU that has bfloat16 would take it.
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(str(model)), "CPU", settings)
    given = np.load(images)
    np.save(scores, compiled(given)[compiled.output(0)])
    layers = Counter()
    for node in compiled.get_runtime_model().get_ordered_ops():
        about = node.get_rt_info()
        kind, precision = str(about["layerType"].value), str(about["runtimePrecision"].value)
        if kind in ("Convolution", "FullyConnected", "MatMul", "Deconvolution"):
            layers[f"{kind} {precision}"] += 1
    integers = sum(count for name, count in layers.items() if name.endswith(("i8", "u8")))
    note = ", ".join(f"{count} {name}" for name, count in sorted(layers.items()))
    print(json.dumps({"integer_layers": integers, "layers": sum(layers.values()), "note": note}))


main(*map(Path, sys.argv[1:]))
