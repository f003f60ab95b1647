"""Run an ONNX file in tinygrad on the CPU: MODEL IMAGES.npy SCORES.npy."""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("DEV", "CPU")

import numpy as np
from tinygrad import Tensor
from tinygrad.nn.onnx import OnnxRunner


def main(model: Path, images: Path, scores: Path) -> None:
    runner = OnnxRunner(str(model))
    (name,) = runner.graph_inputs
    found = runner({name: Tensor(np.load(images))})
    np.save(scores, next(iter(found.values())).numpy())
    print(json.dumps({}))


main(*map(Path, sys.argv[1:]))
