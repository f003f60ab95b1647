"""Sony's Model Compression Toolkit: mixed precision of 8, 4 and 2 bits within a memory, and with gradient-based
rounding.

Its tutorials: "Mixed-precision post-training quantization" and "GPTQ" in the tutorials of SonySemiconductorSolutions/
mct-model-optimization: the target platform ``imx500``, a memory as ``ResourceUtilization``, 20 epochs or more over
the representative images, hessian-based weights of the loss. Activations of 8 bits.
"""

from typing import Any

import model_compression_toolkit as mct
from problem import Compressed, Layer, Problem, run
from torch import nn


def representative(problem: Problem) -> Any:
    batches = [[images] for images, _ in problem.batches("calibration", 32)]
    return lambda: iter(batches)


def mixed_precision(problem: Problem, memory: float) -> nn.Module:
    network, images = problem.network(), representative(problem)
    platform = mct.get_target_platform_capabilities("1.0", "imx500")
    core = mct.core.CoreConfig(mixed_precision_config=mct.core.MixedPrecisionQuantizationConfig())
    whole = mct.core.pytorch_resource_utilization_data(network, images, core, platform)
    wanted = mct.core.ResourceUtilization(weights_memory=memory * whole.weights_memory)
    return mct.ptq.pytorch_post_training_quantization(
        network, images, wanted, core_config=core, target_platform_capabilities=platform
    )[0]


def gptq(problem: Problem, memory: float) -> nn.Module:
    network, images = problem.network(), representative(problem)
    platform = mct.get_target_platform_capabilities("1.0", "imx500")
    core = mct.core.CoreConfig(mixed_precision_config=mct.core.MixedPrecisionQuantizationConfig())
    whole = mct.core.pytorch_resource_utilization_data(network, images, core, platform)
    wanted = mct.core.ResourceUtilization(weights_memory=memory * whole.weights_memory)
    tuning = mct.gptq.get_pytorch_gptq_config(n_epochs=20, use_hessian_based_weights=True)
    return mct.gptq.pytorch_gradient_post_training_quantization(
        network, images, wanted, core_config=core, gptq_config=tuning, target_platform_capabilities=platform
    )[0]


def read(problem: Problem, network: nn.Module) -> Compressed:
    layers, grids = {}, 0
    for part in network.modules():
        if hasattr(part, "weights_quantizers") and "weight" in part.weights_quantizers:
            quantizer, weights = part.weights_quantizers["weight"], part.get_quantized_weights()["weight"]
            scales = len(weights) if quantizer.per_channel else 1
            groups = getattr(part.layer, "groups", 1)
            layers[problem.name_of(weights)] = Layer(weights, quantizer.num_bits, scales, groups=groups)
        grids += hasattr(part, "activation_holder_quantizer")
    return Compressed(network, layers, activation_bits=8, activation_grids=grids)


MEMORIES = [{"memory": share} for share in (1.0, 0.75, 0.5, 0.4, 0.34, 0.3, 0.27, 0.25)]

run([mixed_precision, gptq], read, {"mixed_precision": MEMORIES, "gptq": MEMORIES})
