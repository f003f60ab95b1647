"""Networks that know nothing of this package: torchvision's, and layers of unusual shape."""

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from emomc.hardware.dataflows import DATAFLOWS
from emomc.hardware.description import load_hardware
from emomc.hardware.energy import estimate_energy
from emomc.hardware.size import estimate_size
from emomc.hardware.workload import Workload
from emomc.networks.build import build_network
from emomc.networks.folding import FoldedNetwork
from emomc.networks.graph import trace_layers, trace_network

# Name -> (layers, the weights' entry in torchvision, which notes parameters and multiply-accumulates at 224x224).
TORCHVISION = {
    "resnet18": (21, torchvision.models.ResNet18_Weights.IMAGENET1K_V1),
    "mobilenet_v3_small": (54, torchvision.models.MobileNet_V3_Small_Weights.IMAGENET1K_V1),
    "vgg11": (11, torchvision.models.VGG11_Weights.IMAGENET1K_V1),
    "efficientnet_b0": (82, torchvision.models.EfficientNet_B0_Weights.IMAGENET1K_V1),
}
# The other blocks with squeezed maps are those of mobilenet_v3_small.
SOME_SLOW = [pytest.param(name, marks=pytest.mark.slow if name == "efficientnet_b0" else ()) for name in TORCHVISION]


def of_torchvision(name: str, num_classes: int) -> nn.Module:
    # Shapes are all that is asked for: no weights are drawn.
    with torch.device("meta"):
        return build_network(f"torchvision.models:{name}", in_channels=3, num_classes=num_classes)


@pytest.mark.parametrize("name", SOME_SLOW)
def test_torchvision_networks_at_64x64(name):
    layers, _ = TORCHVISION[name]
    network = of_torchvision(name, 5)
    trace = trace_network(network, (3, 64, 64))
    assert len(trace.layers) == layers
    assert trace.output_shape == (5,)
    assert trace.notes == ()
    assert len(trace.foldable) == sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    bits, density = np.full((1, layers), 8), np.full((1, layers), 0.5)
    for dataflow in DATAFLOWS:
        energy = estimate_energy(
            Workload(trace.layers, bits, density), dataflow=dataflow, hardware=load_hardware("emomc_fpga")
        )
        assert 0 < energy[0] < 100
    assert estimate_size(Workload(trace.layers, bits, density), coding="csr")[0] > 0
    operations = {node.target for node in FoldedNetwork(trace).module.graph.nodes}
    assert torch.ops.aten.batch_norm.default not in operations


@pytest.mark.parametrize("name", SOME_SLOW)
def test_weights_and_macs_are_those_that_torchvision_publishes(name):
    _, published = TORCHVISION[name]
    network = of_torchvision(name, 1000)
    layers = trace_layers(network, (3, 224, 224))
    others = sum(parameter.numel() for parameter in network.parameters() if parameter.ndim == 1)
    assert sum(layer.weights for layer in layers) + others == published.meta["num_params"]
    # Given in billions with three digits after the point; other operations are not counted there either.
    assert sum(layer.macs for layer in layers) / 1e9 == pytest.approx(published.meta["_ops"], abs=6e-4)


class Unusual(nn.Module):
    """One layer of each unusual kind."""

    def __init__(self) -> None:
        super().__init__()
        self.grouped = nn.Conv2d(4, 8, 3, groups=2, padding=1)
        self.dilated = nn.Conv2d(8, 6, 3, dilation=2)
        self.strided = nn.Conv2d(6, 5, 3, stride=(2, 3))
        self.oblong = nn.Conv2d(5, 7, (1, 5), padding=(0, 2))
        self.twice = nn.Conv2d(7, 7, 3, padding=1)
        self.tokens = nn.Linear(7, 3)
        self.spare = nn.Linear(2, 2)
        self.scale = nn.PReLU()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.oblong(self.strided(self.dilated(self.grouped(images))))
        maps = self.scale(self.twice(self.twice(maps)))
        return self.tokens(maps.flatten(2).transpose(1, 2)).mean(1)


def test_unusual_layers_are_measured_as_they_are():
    trace = trace_network(Unusual(), (4, 16, 20))
    layers = {layer.name: layer for layer in trace.layers}
    assert layers["grouped"].weights == 8 * 2 * 9
    assert layers["grouped"].macs == 8 * 2 * 9 * 16 * 20
    assert layers["dilated"].calls[0].output_size == (12, 16)
    assert layers["dilated"].dilation == (2, 2)
    assert layers["strided"].calls[0].output_size == (5, 5)
    assert layers["strided"].stride == (2, 3)
    assert layers["oblong"].kernel_size == (1, 5)
    assert layers["oblong"].macs == 5 * 7 * 5 * 25
    # Called twice: its weights once, its work twice.
    assert layers["twice"].weights == 7 * 7 * 9
    assert layers["twice"].macs == 2 * 7 * 7 * 9 * 25
    assert layers["tokens"].macs == 7 * 3 * 25
    assert trace.notes[0] == "layers that the answer does not depend on are left out: spare"
    assert "only bytes: scale.weight" in trace.notes[1]
    bits, density = np.full((1, len(layers)), 4), np.full((1, len(layers)), 0.3)
    for dataflow in DATAFLOWS:
        energy = estimate_energy(
            Workload(trace.layers, bits, density), dataflow=dataflow, hardware=load_hardware("emomc_fpga")
        )
        assert energy[0] > 0
