"""The tools that are tried, by name: what is installed for each, and which file it gets.

To add one, add an entry to ``TOOLS`` and a script ``runners/run_NAME.py``.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

RUNNERS = Path(__file__).parent / "runners"


@dataclasses.dataclass(frozen=True)
class Tool:
    """A tool, alone in its environment."""

    name: str
    title: str
    """On the page."""
    target: str
    """The ``--target`` of the file that it gets."""
    packages: tuple[str, ...]
    """What is installed, the tool first, each of one version."""
    activation_bits: int = 8
    gives_scores: bool = True
    """Whether it runs the network; else it only reads the file."""
    not_tried: str = ""
    """Why it is never run here."""

    @property
    def runner(self) -> Path:
        """The script that runs a file in the tool's environment."""
        return RUNNERS / f"run_{self.name}.py"


TOOLS = {
    tool.name: tool
    for tool in (
        Tool("onnxruntime", "onnxruntime", "onnxruntime", ("onnxruntime==1.32.0", "numpy==2.4.6")),
        Tool("openvino", "OpenVINO", "openvino", ("openvino==2026.4.1", "numpy==2.4.6")),
        Tool("onnxsim", "onnxsim", "onnxruntime", ("onnxsim==0.8.1", "onnx==1.23.2", "onnxruntime==1.32.0")),
        Tool("tract", "tract", "openvino", ("tract==0.23.9", "numpy==2.4.6")),
        Tool("tinygrad", "tinygrad", "openvino", ("tinygrad==0.14.0", "numpy==2.4.6")),
        Tool("onnx2tf", "LiteRT, through onnx2tf", "tflite", ("onnx2tf==1.29.24", "ai-edge-litert==2.1.0")),
        Tool("ncnn", "ncnn, through pnnx", "ncnn", ("ncnn==1.0.20261020", "pnnx==20261020")),
        Tool("mnn", "MNN", "ncnn", ("MNN==3.6.1", "numpy==2.4.6")),
        Tool("qonnx", "qonnx", "qonnx", ("qonnx==1.0.0", "onnxruntime==1.32.0")),
        Tool("hls4ml", "hls4ml, through qonnx", "hls4ml", ("hls4ml==1.3.0", "qonnx==1.0.0", "onnx==1.23.2")),
        Tool("zigzag", "ZigZag", "zigzag", ("zigzag-dse==3.9.1", "six==1.17.0"), gives_scores=False),
        Tool("tensorrt", "TensorRT", "tensorrt", (), activation_bits=7, not_tried="it needs an NVIDIA GPU"),
    )
}
"""Name -> tool."""
