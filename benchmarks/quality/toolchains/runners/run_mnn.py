"""Convert an ONNX file with MNN's converter and run the result: MODEL IMAGES.npy SCORES.npy."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import MNN
import numpy as np


def main(model: Path, images: Path, scores: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        converted = folder / "network.mnn"
        words = [
            "mnnconvert",
            "-f",
            "ONNX",
            "--modelFile",
            str(model),
            "--MNNModel",
            str(converted),
            "--bizCode",
            "emomc",
        ]
        # In a process of its own, since it may crash. The command mnnconvert would install a package for statistics.
        call = f"import _tools; _tools.mnnconvert({words!r})"
        done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True)
        if not converted.exists():
            sys.exit((done.stdout + done.stderr).strip() or "mnnconvert wrote nothing")
        network = MNN.nn.load_module_from_file(str(converted), ["images"], ["logits"])
        given = np.load(images)
        found = []
        for image in given:
            placed = MNN.expr.placeholder(list(image[None].shape), MNN.expr.NCHW)
            placed.write(image[None].tolist())
            result = MNN.expr.convert(network.forward(placed), MNN.expr.NCHW)
            found.append(np.array(result.read(), np.float32).reshape(-1))
        np.save(scores, np.stack(found))
    print(json.dumps({}))


main(*map(Path, sys.argv[1:]))
