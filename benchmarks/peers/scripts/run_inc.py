"""Intel Neural Compressor for PyTorch: static quantization of the exported graph.

Its documentation: "PyTorch 2 Export" static quantization (``StaticQuantConfig`` by default: weights of 8 bits per
channel, activations of 8 bits). Its methods of fewer bits (GPTQ, AutoRound, HQQ, RTN) are of linear layers alone.
"""

import torch
from neural_compressor.torch.export import export
from neural_compressor.torch.quantization import convert, get_default_static_config, prepare
from problem import Problem, run
from pt2e import read
from torch.fx import GraphModule


def static(problem: Problem) -> GraphModule:
    images = problem.images("calibration")
    sizes = {0: torch.export.Dim("batch", min=2, max=4096)}
    exported = export(problem.network(), example_inputs=(images[:32],), dynamic_shapes=(sizes,))
    prepared = prepare(exported, get_default_static_config())
    for batch in images.split(32):
        prepared(batch)
    return convert(prepared)


run([static], read, {"static": [{}]})
