"""NNCF: post-training quantization to 8 bits.

Its documentation: "Post-training quantization": ``nncf.quantize`` with its defaults (fast bias correction), here
over all given images; weights of 8 bits per channel, activations of 8 bits. Its weights of fewer bits
(``nncf.compress_weights``) are of linear layers alone: with all of them at 4 bits, LeNet-5 still takes 22.8 % of its
bytes.
"""

import os

# Compiling its extension, once, can take longer than the minute that it waits.
os.environ["NNCF_EXTENSION_LOAD_TIMEOUT"] = "0"

import nncf
from problem import Compressed, Layer, Problem, run
from torch import nn


def quantize(problem: Problem) -> nn.Module:
    images = [images for images, _ in problem.batches("calibration", 1)]
    return nncf.quantize(problem.network(), nncf.Dataset(images), subset_size=len(images))


def read(problem: Problem, network: nn.Module) -> Compressed:
    hooks, parts = network.get_submodule("__nncf_hooks"), dict(network.named_modules())
    layers, grids = {}, 0
    for place, quantizers in [*hooks.pre_hooks.items(), *hooks.post_hooks.items()]:
        # The second input of an operation is its weights.
        name = place.split("/")[0].replace(":", ".")
        for quantizer in quantizers.values():
            if place.endswith("__1") and hasattr(parts.get(name), "weight"):
                weights = quantizer(parts[name].weight).detach()
                groups = getattr(parts[name], "groups", 1)
                layers[name] = Layer(weights, quantizer.num_bits, quantizer.scale.numel(), groups=groups)
            else:
                grids += 1
    return Compressed(network, layers, activation_bits=8, activation_grids=grids)


run([quantize], read, {"quantize": [{}]})
