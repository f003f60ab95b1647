"""NVIDIA's ModelOpt: ``auto_quantize`` chooses 8, 4 or 3 bits for each layer within an average of bits.

Its guide: "PyTorch quantization" and "AutoQuantize": formats as configurations with weights per channel and inputs of 8
bits, the loss of labelled images, half of the given batches for the scores. It may leave a layer unquantized (32 bits).
"""

import copy
from typing import Any

import modelopt.torch.quantization as mtq
import torch
from modelopt.torch.quantization.nn import TensorQuantizer
from problem import Compressed, Layer, Problem, run
from torch import nn


def auto_quantize(problem: Problem, effective_bits: float) -> nn.Module:
    formats = []
    for bits in (8, 4, 3):
        weights = {"quantizer_name": "*weight_quantizer", "cfg": {"num_bits": bits, "axis": 0}}
        inputs = {"quantizer_name": "*input_quantizer", "cfg": {"num_bits": 8, "axis": None}}
        rest = {"quantizer_name": "*", "enable": False}
        formats.append({"quant_cfg": [rest, weights, inputs], "algorithm": "max"})
    batches = problem.batches("calibration", 32)
    network, _ = mtq.auto_quantize(
        problem.network(),
        constraints={"effective_bits": effective_bits},
        quantization_formats=formats,
        data_loader=batches,
        forward_step=lambda model, batch: model(batch[0]),
        loss_func=lambda scores, batch: nn.functional.cross_entropy(scores, batch[1]),
        num_calib_steps=len(batches),
        num_score_steps=len(batches),
    )
    return network


def read(problem: Problem, network: nn.Module) -> Compressed:
    layers: dict[str, Any] = {}
    grids = 0
    for name, part in network.named_modules():
        quantizer = getattr(part, "weight_quantizer", None)
        if isinstance(quantizer, TensorQuantizer) or type(part) in (nn.Conv2d, nn.Linear):
            on = quantizer is not None and quantizer.is_enabled
            weights = quantizer(part.weight) if on else part.weight
            scales = (quantizer.amax.numel(), quantizer.num_bits) if on else (0, 32)
            layers[name] = Layer(weights.detach(), scales[1], scales[0], groups=getattr(part, "groups", 1))
            grids += on and part.input_quantizer.is_enabled
    for name, factor in norm_factors(network).items():
        layers[name] = scaled(layers[name], factor)
    return Compressed(network, layers, activation_bits=8, activation_grids=grids)


def norm_factors(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return layer -> what folding the norm behind it multiplies its channels with."""
    factors, before = {}, ""
    for name, part in network.named_modules():
        if isinstance(part, nn.BatchNorm2d):
            factors[before] = (part.weight / (part.running_var + part.eps).sqrt()).detach()
        elif hasattr(part, "weight") and isinstance(part, (nn.Conv2d, nn.Linear)):
            before = name
    return factors


def scaled(layer: Layer, factor: torch.Tensor) -> Layer:
    layer = copy.copy(layer)
    weights = layer.weights * factor.reshape(-1, *[1] * (layer.weights.ndim - 1))
    return Layer(weights, layer.bits, len(factor) if layer.bits < 32 else 0, groups=layer.groups)


SETTINGS = {"auto_quantize": [{"effective_bits": bits} for bits in (8.0, 6.0, 4.5, 4.0, 3.5, 3.0)]}

run([auto_quantize], read, SETTINGS)
