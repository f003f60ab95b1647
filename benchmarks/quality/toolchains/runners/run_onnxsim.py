"""Simplify an ONNX file with onnxsim and run the result in onnxruntime: MODEL IMAGES.npy SCORES.npy."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import onnxsim


def main(model: Path, images: Path, scores: Path) -> None:
    given = onnx.load(str(model))
    simplified, checked = onnxsim.simplify(given)
    session = onnxruntime.InferenceSession(simplified.SerializeToString(), providers=["CPUExecutionProvider"])
    np.save(scores, session.run(None, {session.get_inputs()[0].name: np.load(images)})[0])
    kept = [sum(node.op_type == "DequantizeLinear" for node in one.graph.node) for one in (given, simplified)]
    note = f"{len(given.graph.node)} nodes -> {len(simplified.graph.node)}, DequantizeLinear {kept[0]} -> {kept[1]}"
    print(json.dumps({"note": note + ("" if checked else ", its own check failed")}))


main(*map(Path, sys.argv[1:]))
