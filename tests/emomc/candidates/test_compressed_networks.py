"""The compressed network of any genotype of a library."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.genotype import Genotype
from emomc.common.errors import UserError
from emomc.compression.quantization import quantize_symmetric
from emomc.compression.quantizers import Quantizer
from emomc.compression.widths import UNCOMPRESSED_BITS
from emomc.library.network_sources import library_graph
from emomc.networks.build import build_network


@pytest.fixture
def lenet(shared_library):
    return build_network("lenet5", in_channels=1, num_classes=10, network_args={})


@pytest.fixture
def images():
    return torch.randn(9, 1, 32, 32, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def logits(network, images):
    return network(images).clone()


@pytest.mark.parametrize("quantizer", [Quantizer("absmax"), Quantizer("mse"), Quantizer("mse", per_channel=True)])
def test_a_genotype_is_the_level_with_its_weights_quantized(shared_library, lenet, images, quantizer):
    networks = CompressedNetworks(shared_library, library_graph(shared_library, lenet), quantizer)
    genotype = Genotype(50, (2, 3, 4, 8, 12))
    own = logits(networks.load(genotype), images)

    state = shared_library.load_state(50)
    for name, bits in zip(networks.layers, genotype.bits, strict=True):
        key = f"{name}.weight"
        state[key] = quantize_symmetric(
            state[key], bits, method=quantizer.method, per_channel=quantizer.per_channel
        ).dequantize()
    plain = build_network("lenet5", in_channels=1, num_classes=10, network_args={}).eval()
    plain.load_state_dict(state)
    torch.testing.assert_close(own, logits(plain, images), atol=1e-5, rtol=1e-5)


def test_uncompressed_bits_leave_the_weights(shared_library, lenet, images):
    networks = CompressedNetworks(shared_library, library_graph(shared_library, lenet), Quantizer())
    own = logits(networks.load(Genotype(80, (UNCOMPRESSED_BITS,) * 5)), images)
    lenet.load_state_dict(shared_library.load_state(80))
    torch.testing.assert_close(own, logits(lenet.eval(), images), atol=1e-5, rtol=1e-5)


def test_the_order_of_loading_leaves_no_trace(shared_library, lenet, images):
    genotypes = [Genotype(level, (bits,) * 5) for level in (20, 80, 100) for bits in (2, 5, 32)]
    networks = CompressedNetworks(shared_library, library_graph(shared_library, lenet), Quantizer())
    forth = [logits(networks.load(genotype), images) for genotype in genotypes]
    back = [logits(networks.load(genotype), images) for genotype in reversed(genotypes)]
    assert all(torch.equal(a, b) for a, b in zip(forth, reversed(back), strict=True))


def test_a_cache_too_small_for_anything_gives_the_same_networks(shared_library, lenet, images):
    genotypes = [Genotype(level, (bits,) * 5) for bits in (2, 5) for level in (20, 80)]
    kept = CompressedNetworks(shared_library, library_graph(shared_library, lenet), Quantizer())
    dropped = CompressedNetworks(shared_library, library_graph(shared_library, lenet), Quantizer(), max_cache_bytes=1)
    for genotype in [*genotypes, *genotypes]:
        assert torch.equal(logits(kept.load(genotype), images), logits(dropped.load(genotype), images))


def test_a_level_is_read_once_and_a_layer_quantized_once(shared_library, lenet, monkeypatch):
    reads = []
    load_state = type(shared_library).load_state
    monkeypatch.setattr(
        type(shared_library), "load_state", lambda self, percent: reads.append(percent) or load_state(self, percent)
    )
    networks = CompressedNetworks(shared_library, library_graph(shared_library, lenet), Quantizer())
    for bits in (4, 5, 4, 5):
        networks.load(Genotype(50, (bits,) * 5))
    assert reads == [50]
    assert networks.quantized(50, "conv1", 4) is networks.quantized(50, "conv1", 4)


def test_removed_weights_are_zero_in_the_network(shared_library, lenet):
    networks = CompressedNetworks(shared_library, library_graph(shared_library, lenet), Quantizer())
    network = networks.load(Genotype(20, (8,) * 5))
    record = shared_library.record(20)
    for name in networks.layers:
        assert int(network.get_parameter(f"{name}.weight").count_nonzero()) <= record.remaining[name]


def test_nothing_learns(shared_library, lenet):
    networks = CompressedNetworks(shared_library, library_graph(shared_library, lenet), Quantizer())
    assert not any(parameter.requires_grad for parameter in networks.network.parameters())
    assert not networks.network.training


def test_another_network_is_refused_by_name(shared_library):
    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            self.only = nn.Linear(1024, 10)

        def forward(self, images):
            return self.only(images.flatten(1))

    with pytest.raises(UserError, match=r"layers conv1, .*, found Other with only"):
        library_graph(shared_library, Other())


def test_weights_that_are_not_finite_are_refused(library, lenet):
    state = library.load_state(50)
    masks = library.load_masks(50, state)
    state["conv1.weight"][0, 0, 0, 0] = float("nan")
    masks["conv1"][0, 0, 0, 0] = True
    library.add_level(50, state, masks, validation_accuracy=0.1, epochs=1)
    networks = CompressedNetworks(library, library_graph(library, lenet), Quantizer())
    with pytest.raises(UserError, match=r"finite weights in .*level_050\.safetensors"):
        networks.load(Genotype(50, (4,) * 5))
