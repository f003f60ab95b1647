"""Convert an ONNX file to ncnn with pnnx and run the result in ncnn: MODEL IMAGES.npy SCORES.npy."""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import ncnn
import numpy as np


def main(model: Path, images: Path, scores: Path) -> None:
    given = np.load(images)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "network.onnx"
        shutil.copy(model, path)
        converter = Path(sys.executable).with_name("pnnx")
        shape = ",".join(str(size) for size in (1, *given.shape[1:]))
        # float16 is for devices that compute with it.
        done = subprocess.run(
            [converter, path, f"inputshape=[{shape}]", "fp16=0"], capture_output=True, text=True, cwd=folder
        )
        param = folder / "network.ncnn.param"
        if done.returncode or not param.exists():
            sys.exit((done.stdout + done.stderr).strip()[-2000:] or "pnnx wrote nothing")
        network = ncnn.Net()
        network.opt.use_fp16_packed = network.opt.use_fp16_storage = network.opt.use_fp16_arithmetic = False
        network.opt.use_bf16_storage = False
        if network.load_param(str(param)) or network.load_model(str(param.with_suffix(".bin"))):
            sys.exit("ncnn does not load what pnnx wrote")
        found = []
        for image in given:
            with network.create_extractor() as run:
                run.input("in0", ncnn.Mat(np.ascontiguousarray(image)).clone())
                code, result = run.extract("out0")
                if code:
                    sys.exit(f"ncnn stops with code {code}")
                found.append(np.array(result).reshape(-1))
        np.save(scores, np.stack(found))
    print(json.dumps({}))


main(*map(Path, sys.argv[1:]))
