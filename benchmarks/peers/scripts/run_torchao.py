"""PyTorch's torchao: post-training quantization of the exported graph (PT2E) for x86.

Its tutorial: "PyTorch 2 Export Quantization with X86 Backend through Inductor": the default configuration, weights
of 8 bits per channel, activations of 8 bits. Its configurations of fewer bits (``Int4WeightOnlyConfig``,
``IntxWeightOnlyConfig``) are of linear layers alone.
"""

import torch
import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as x86
from problem import Problem, run
from pt2e import read
from torch.fx import GraphModule
from torchao.quantization.pt2e import move_exported_model_to_eval
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e


def quantize(problem: Problem) -> GraphModule:
    images = problem.images("calibration")
    sizes = {0: torch.export.Dim("batch", min=2, max=4096)}
    exported = torch.export.export(problem.network(), (images[:32],), dynamic_shapes=(sizes,)).module()
    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(exported, quantizer)
    for batch in images.split(32):
        prepared(batch)
    return move_exported_model_to_eval(convert_pt2e(prepared))


run([quantize], read, {"quantize": [{}]})
