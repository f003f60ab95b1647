"""Estimate the energy and latency of one image of an ONNX file with ZigZag: MODEL IMAGES.npy SCORES.npy."""

import json
import sys
import tempfile
from pathlib import Path

import zigzag
from zigzag.api import get_hardware_performance_zigzag

INPUTS = Path(zigzag.__file__).parent / "inputs"


def main(model: Path, images: Path, scores: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        energy, latency, _ = get_hardware_performance_zigzag(
            workload=str(model),
            accelerator=str(INPUTS / "hardware" / "gemm_l1_l3.yaml"),
            mapping=str(INPUTS / "mapping" / "default.yaml"),
            opt="energy",
            dump_folder=folder,
            pickle_filename=str(Path(folder) / "result.pickle"),
        )
    print(json.dumps({"note": f"{energy:.3g} pJ and {latency:,.0f} cycles for an image on gemm_l1_l3"}))


main(*map(Path, sys.argv[1:]))
