"""Run an ONNX file in tract: MODEL IMAGES.npy SCORES.npy."""

import json
import sys
from pathlib import Path

import numpy as np
import tract


def main(model: Path, images: Path, scores: Path) -> None:
    runnable = tract.onnx().load(str(model)).into_model().into_runnable()
    np.save(scores, runnable.run([np.load(images)])[0].to_numpy())
    print(json.dumps({}))


main(*map(Path, sys.argv[1:]))
