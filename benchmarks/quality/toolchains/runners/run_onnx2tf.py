"""Convert an ONNX file to an int8 LiteRT file with onnx2tf, calibrated on images, and run it: MODEL IMAGES SCORES.

The images for calibration are in ``calibration.npy`` beside the images.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

SAMPLE = "calibration_image_sample_data_20x128x128x3_float32.npy"
LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def convert(model: Path, of_training: np.ndarray, folder: Path) -> Path:
    calibration, mean, deviation = folder / "calibration.npy", "[[[[0]]]]", "[[[[1]]]]"
    np.save(calibration, of_training.transpose(0, 2, 3, 1))
    # It compares its operations with those of onnxruntime on images that it would download.
    np.save(folder / SAMPLE, np.random.default_rng(0).random((20, 128, 128, 3), np.float32))
    tools = Path(sys.executable).parent
    words = [tools / "onnx2tf", "-i", model.resolve(), "-o", folder, "-b", "1", "-n"]
    words += ["-oiqt", "-cind", "images", calibration, mean, deviation]
    variables = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(words, capture_output=True, text=True, env=variables, cwd=folder, check=False)
    converted = folder / f"{model.stem}_integer_quant.tflite"
    if not converted.exists():
        sys.exit((done.stdout + done.stderr)[-4000:])
    return converted


def main(model: Path, images: Path, scores: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        converted = convert(model, np.load(images.with_name("calibration.npy")), Path(folder))
        size = converted.stat().st_size
        network = Interpreter(str(converted))
        network.allocate_tensors()
        (taken,), (result,) = network.get_input_details(), network.get_output_details()
        found = []
        for image in np.load(images).transpose(0, 2, 3, 1):
            network.set_tensor(taken["index"], image[None])
            network.invoke()
            found.append(network.get_tensor(result["index"]).reshape(-1))
        np.save(scores, np.stack(found))
        kinds = {tensor["index"]: np.dtype(tensor["dtype"]).name for tensor in network.get_tensor_details()}
        types = Counter(
            kinds[operation["inputs"][1]] for operation in network._get_ops_details() if operation["op_name"] in LAYERS
        )
    print(json.dumps({"integer_layers": types["int8"], "layers": sum(types.values()), "note": f"{size:,} bytes"}))


main(*map(Path, sys.argv[1:]))
