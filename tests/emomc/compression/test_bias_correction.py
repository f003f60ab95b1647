"""Bias correction: the mean output error becomes zero, and the corrected biases are evaluated, exported and counted."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from emomc.candidates.calibration import calibrate, open_calibration
from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.cost_model import CostModel
from emomc.candidates.genotype import Genotype
from emomc.candidates.packing import pack_candidate
from emomc.compression.bias_correction import mean_output_error
from emomc.compression.layer_inputs import measure_inputs
from emomc.compression.quantization import quantize_symmetric
from emomc.compression.quantizers import Quantizer
from emomc.data.config import DataConfig
from emomc.data.splits import load_some
from emomc.export.loading import unpack_network
from emomc.hardware.description import load_hardware
from emomc.library.data_sources import build_data
from emomc.library.library import Library
from emomc.library.manifest import Manifest
from emomc.library.network_sources import library_graph
from emomc.networks.folding import FoldedNetwork
from emomc.networks.graph import trace_network
from emomc.packed_file.writer import write_packed

SETTINGS = settings(max_examples=15, deadline=None)


@SETTINGS
@given(st.integers(0, 1000), st.sampled_from([1, 2]), st.sampled_from([2, 3, 8]))
def test_the_mean_output_error_is_what_it_says(seed, groups, bits):
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Conv2d(4, 6, 3, padding=1, groups=groups).double()
    images = torch.rand(5, 4, 7, 7, generator=generator).double()
    quantized = quantize_symmetric(layer.weight, bits, method="mse").dequantize()
    network = FoldedNetwork(trace_network(nn.Sequential(layer), (4, 7, 7)))
    patch = measure_inputs(network, [images])["0"].mean_patch
    with torch.no_grad():
        before = layer(images).mean((0, 2, 3))
        error = mean_output_error(patch, layer.weight, quantized)
        layer.weight.copy_(quantized)
        layer.bias -= error
        torch.testing.assert_close(layer(images).mean((0, 2, 3)), before, rtol=1e-9, atol=1e-9)


@pytest.fixture(scope="module")
def inputs(shared_library, one_fabric):
    data = build_data(DataConfig(**shared_library.manifest.data))
    return calibrate(
        shared_library,
        library_graph(shared_library),
        data,
        one_fabric,
        shared_library.levels,
    )


@pytest.fixture(scope="module")
def one_fabric():
    from lightning_fabric import Fabric
    from pytorch_lightning.plugins.environments import LightningEnvironment

    return Fabric(accelerator="cpu", devices=1, plugins=[LightningEnvironment()])


def corrected(library, inputs):
    return CompressedNetworks(library, library_graph(library), Quantizer("mse", bias_correction=True), inputs=inputs)


def test_calibration_is_read_back(shared_library, inputs):
    again = open_calibration(shared_library, inputs.digest)
    for percent in shared_library.levels:
        assert again.level(percent).keys() == {layer.name for layer in shared_library.manifest.layers}


def first_outputs(networks, genotype, images):
    """The mean output of each channel of the first layer."""
    network, name = networks.load(genotype), networks.layers[0]
    weight, bias = network.get_parameter(f"{name}.weight"), network.get_parameter(f"{name}.bias")
    return nn.functional.conv2d(images, weight, bias).mean((0, 2, 3))


def test_the_first_layers_mean_output_is_that_of_the_level(shared_library, inputs):
    data = build_data(DataConfig(**shared_library.manifest.data))
    images, _ = load_some(data, "train", 512)
    networks = corrected(shared_library, inputs)
    whole, low = (Genotype(50, (bits,) * len(networks.layers)) for bits in (32, 2))
    means = [first_outputs(networks, genotype, images) for genotype in (whole, low)]
    torch.testing.assert_close(means[1], means[0], rtol=1e-4, atol=1e-5)
    plain = CompressedNetworks(shared_library, library_graph(shared_library), Quantizer("mse"))
    uncorrected = first_outputs(plain, low, images)
    assert float((uncorrected - means[0]).abs().max()) > 100 * float((means[1] - means[0]).abs().max())


def test_a_correction_depends_on_level_layer_and_bits_alone(shared_library, inputs):
    networks = corrected(shared_library, inputs)
    names = networks.layers
    one = networks.rest(Genotype(50, (3, *[2] * (len(names) - 1))))
    other = networks.rest(Genotype(50, (3, *[9] * (len(names) - 1))))
    assert torch.equal(one[f"{names[0]}.bias"], other[f"{names[0]}.bias"])
    assert not torch.equal(one[f"{names[1]}.bias"], other[f"{names[1]}.bias"])


def test_uncompressed_layers_keep_their_bias(shared_library, inputs):
    networks = corrected(shared_library, inputs)
    rest = networks.rest(Genotype(50, (32,) * len(networks.layers)))
    assert all(torch.equal(rest[name], tensor) for name, tensor in networks.level(50).rest.items())


def test_what_is_exported_is_what_was_evaluated(shared_library, inputs, check_export):
    networks = corrected(shared_library, inputs)
    check_export(networks)


class NoBias(nn.Module):
    """Two layers, neither with a bias nor with a BatchNorm to fold."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, bias=False)
        self.head = nn.Linear(4, 3, bias=False)

    def forward(self, images):
        return self.head(self.conv(images).relu().mean((2, 3)))


def test_a_layer_without_a_bias_gets_one_and_pays_for_it(tmp_path, one_fabric):
    network = NoBias()
    manifest = Manifest(
        network="net.py:NoBias",
        network_args={},
        network_source_sha256="0" * 64,
        data={"dataset": "data.py:Data"},
        input_shape=(1, 8, 8),
        class_names=("a", "b", "c"),
        mean=None,
        std=None,
        layers=trace_network(network, (1, 8, 8)).layers,
        excluded_layers=(),
        evaluation_batch_size=4,
        settings={},
    )
    library = Library.create(tmp_path / "library", manifest)
    library.add_level(100, network.state_dict(), {}, validation_accuracy=0.5, epochs=1)
    images = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    store = open_calibration(library, "here")
    store.write(100, measure_inputs(FoldedNetwork(trace_network(network, (1, 8, 8))), [images]))
    networks = CompressedNetworks(
        library, library_graph(library, network), Quantizer("mse", bias_correction=True), inputs=store
    )
    genotype = Genotype(100, (2, 2))
    packed = pack_candidate(networks, genotype)
    assert packed.tensors.keys() == {"conv.bias", "head.bias"}
    assert packed.tensors["conv.bias"].any()
    written = write_packed(tmp_path / "net.emomc", packed, "normal")
    cost = CostModel(networks, load_hardware("emomc_fpga"), dataflow="xy", coding="normal").costs([genotype])
    assert written == int(cost["size_bytes"][0])
    # Another candidate in between changes nothing: the level's own biases are still zero.
    before = networks.load(genotype)(images).clone()
    networks.load(Genotype(100, (3, 4)))
    assert not networks.level(100).rest["conv.bias"].any()
    assert torch.equal(networks.load(genotype)(images), before)
    loaded = unpack_network(packed, NoBias())
    torch.testing.assert_close(loaded(images), networks.load(genotype)(images))


def test_bias_correction_needs_inputs(shared_library):
    with pytest.raises(ValueError, match="expected inputs="):
        CompressedNetworks(
            shared_library,
            library_graph(shared_library),
            Quantizer(bias_correction=True),
        )
