"""Run an ONNX file in onnxruntime, and count the kernels that ran: MODEL IMAGES.npy SCORES.npy."""

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime

INTEGERS = ("QLinearConv", "ConvInteger", "QGemm", "MatMulInteger", "MatMulIntegerToFloat", "QLinearMatMul")
FLOATS = ("Conv", "FusedConv", "NhwcFusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "ConvTranspose")


def main(model: Path, images: Path, scores: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options.profile_file_prefix = str(folder / "profile")
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        (given,) = session.get_inputs()
        np.save(scores, session.run(None, {given.name: np.load(images)})[0])
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    names = {event["name"]: event["args"]["op_name"] for event in events if event["name"].endswith("_kernel_time")}
    ran = Counter(name for name in names.values() if name in INTEGERS + FLOATS)
    integers = sum(ran[name] for name in INTEGERS)
    note = ", ".join(f"{count} {name}" for name, count in sorted(ran.items()))
    print(json.dumps({"integer_layers": integers, "layers": sum(ran.values()), "note": note}))


main(*map(Path, sys.argv[1:]))
