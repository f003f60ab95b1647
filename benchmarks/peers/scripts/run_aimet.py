"""Qualcomm's AIMET: uniform bits, learned rounding (AdaRound) and mixed precision.

Its documentation: "Quantization simulation", "Adaptive rounding" and "Automatic mixed precision" of aimet-torch 2:
the model is prepared, norms are folded, ranges by ``tf_enhanced``, rounding is learned over 512 images with the
default 10,000 iterations or, where those take too long, fewer; mixed precision lets the accuracy on validation
images fall by so much. Per-channel weights, activations of 8 bits.
"""

import tempfile
from typing import Any

import torch
from aimet_torch import QuantizationSimModel
from aimet_torch.adaround.adaround_weight import Adaround, AdaroundParameters
from aimet_torch.batch_norm_fold import fold_all_batch_norms
from aimet_torch.common.defs import CallbackFunc, QuantizationDataType, QuantScheme
from aimet_torch.mixed_precision import choose_mixed_precision
from problem import Compressed, Layer, Problem, run

Sim = QuantizationSimModel


def uniform(problem: Problem, bits: int) -> Sim:
    network, images = problem.network(), problem.images("calibration")
    fold_all_batch_norms(network, dummy_input=images[:1], input_shapes=images[:1].shape)
    sim = QuantizationSimModel(network, images[:1], QuantScheme.training_range_learning_with_tf_enhanced_init, 8, bits)
    sim.compute_encodings(lambda model: model(images))
    return sim


def adaround(problem: Problem, bits: int, iterations: int) -> Sim:
    network, images = problem.network(), problem.images("calibration")
    fold_all_batch_norms(network, dummy_input=images[:1], input_shapes=images[:1].shape)
    batches = images.split(32)
    parameters = AdaroundParameters(batches, len(batches), iterations, forward_fn=lambda model, batch: model(batch))
    with tempfile.TemporaryDirectory() as folder:
        rounded = Adaround.apply_adaround(network, images[:1], parameters, folder, "rounded", bits)
        sim = QuantizationSimModel(rounded, images[:1], "tf_enhanced", 8, bits)
        sim.set_and_freeze_param_encodings(f"{folder}/rounded.encodings")
    sim.compute_encodings(lambda model: model(images))
    return sim


def mixed_precision(problem: Problem, allowed_drop: float) -> Sim:
    sim, images = uniform(problem, 8), problem.images("calibration")
    codes = QuantizationDataType.int
    candidates = [((8, codes), (bits, codes)) for bits in (8, 4, 3, 2)]
    accuracy = CallbackFunc(lambda model, _: problem.accuracy(model), None)
    calibrate = CallbackFunc(lambda model, _: model(images), None)
    with tempfile.TemporaryDirectory() as folder:
        choose_mixed_precision(sim, images[:1], candidates, accuracy, accuracy, allowed_drop, folder, True, calibrate)
    return sim


def read(problem: Problem, sim: Sim) -> Compressed:
    layers, grids = {}, 0
    for name, part in sim.model.named_modules():
        quantizer = dict(getattr(part, "param_quantizers", {})).get("weight")
        if quantizer is not None:
            weights = quantizer(part.weight).dequantize().as_subclass(torch.Tensor).detach()
            scales = quantizer.get_scale().numel()
            groups = getattr(part, "groups", 1)
            layers[name] = Layer(weights, quantizer.bitwidth, scales, groups=groups)
        for key in ("input_quantizers", "output_quantizers"):
            grids += sum(one is not None for one in getattr(part, key, ()))
    return Compressed(sim.model, layers, activation_bits=8, activation_grids=grids)


BITS = (8, 6, 4, 3, 2)
SETTINGS: dict[str, Any] = {
    "uniform": [{"bits": bits} for bits in BITS],
    "adaround": [{"bits": bits, "iterations": 2000} for bits in (4, 3, 2)],
    "mixed_precision": [{"allowed_drop": drop} for drop in (0.001, 0.005, 0.02)],
}

run([uniform, adaround, mixed_precision], read, SETTINGS)
