"""Networks, packed as a search packs them, and the compiler that runs them."""

from __future__ import annotations

import shutil

import pytest
import torch

from emomc.compression.activation_grid import ActivationGrid
from emomc.compression.activations import integer_bias
from emomc.compression.layer_inputs import measure_inputs
from emomc.compression.quantization import quantize_symmetric
from emomc.export.c.compiling import CompiledSource
from emomc.export.c.writing import write_c
from emomc.export.loading import unpack_network
from emomc.networks.folding import FoldedNetwork
from emomc.networks.graph import trace_network
from emomc.networks.preparation import plain_copy
from emomc.packed_file.network import NetworkDescription, PackedLayer, PackedNetwork

SANITIZERS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@pytest.fixture(scope="session")
def pack():
    """A function that quantizes a network and, with activation bits, the inputs of its layers."""

    def packed_network(network, shape, *, activation_bits=None, bits=(8, 4, 6), spec="mine.py:Net", network_args=None):
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for _ in range(3):
                network.train()(torch.randn(8, *shape, generator=generator))
        trace = trace_network(plain_copy(network.eval(), shape), shape)
        folded = FoldedNetwork(trace)
        state = folded.fold(network.state_dict())
        folded.load(state)
        inputs = measure_inputs(folded, [torch.randn(16, *shape, generator=generator)])
        layers, rest = [], {name: tensor.detach() for name, tensor in state.rest.items()}
        for index, layer in enumerate(folded.layers):
            width = bits[index % len(bits)]
            grid = activation_bits and ActivationGrid.of_range(activation_bits, *inputs[layer.name].range)
            if width == 32:
                weight = state.full_precision(layer.name).detach().numpy()
                layers.append(PackedLayer(layer.name, 32, weight, torch.zeros(0).numpy(), grid))
                continue
            quantized = quantize_symmetric(state.weights[layer.name], width, per_channel=index % 2 == 0)
            scale = state.scale(layer.name, quantized.scale)
            if grid is not None and layer.name in folded.bias_keys:
                key = folded.bias_keys[layer.name]
                rest[key] = integer_bias(rest[key], scale, grid)
            layers.append(PackedLayer(layer.name, width, quantized.codes.numpy(), scale.detach().numpy(), grid))
        classes = tuple(str(index) for index in range(trace.output_shape[-1]))
        known = (0.5,) * shape[0], (0.25,) * shape[0]
        description = NetworkDescription(spec, network_args or {}, None, shape, classes, *known)
        return PackedNetwork(description, tuple(layers), {name: tensor.numpy() for name, tensor in rest.items()})

    return packed_network


@pytest.fixture(scope="session")
def run_both(tmp_path_factory):
    """A function that gives the scores of a packed network in C, under the sanitizers, and in Python."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc) on this machine")

    def scores(packed, network=None, *, coding="best", count=4, flags=SANITIZERS):
        source = tmp_path_factory.mktemp("c") / "net.c"
        write_c(source, packed, network, name="net", coding=coding)
        images = torch.randn(count, *packed.description.input_shape, generator=torch.Generator().manual_seed(2))
        with torch.no_grad():
            expected = unpack_network(packed, network)(images)
        with CompiledSource(source, flags) as compiled:
            return compiled.scores(images), expected

    return scores
