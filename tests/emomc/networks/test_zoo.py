from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from emomc.common.errors import UserError
from emomc.hardware.dataflows import DATAFLOWS
from emomc.hardware.description import load_hardware
from emomc.hardware.energy import estimate_energy
from emomc.hardware.size import estimate_size
from emomc.hardware.workload import Workload
from emomc.networks.build import build_network, network_source_sha256
from emomc.networks.graph import trace_layers, trace_network
from emomc.networks.zoo import NETWORKS

# Input channels, layers, KiB at 32 bits, and mJ of the dense network at 32 bits under X|Y, IC|OC, Fx|Fy and X|Fx: what
# the reference implementation computes for its own networks with 10 classes.
TABLE = {
    "lenet5": (1, 5, 240.117, (0.018, 0.022, 0.018, 0.017)),
    "mobilenet": (3, 28, 12_481.75, (1.948, 2.291, 2.466, 2.569)),
    "vgg16": (3, 14, 57_482.75, (13.045, 15.287, 13.452, 13.345)),
    "resnet18": (3, 21, 43_610.75, (22.909, 27.126, 23.697, 23.252)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_layer_table_size_and_energy_are_the_reference_s(name):
    in_channels, layers, size_kib, energies_mj = TABLE[name]
    network = build_network(name, in_channels=in_channels, num_classes=10)
    shapes = trace_layers(network, (in_channels, 32, 32))
    assert len(shapes) == layers
    bits, density = np.full((1, layers), 32), np.ones((1, layers))
    assert estimate_size(Workload(shapes, bits, density), coding="normal")[0] == pytest.approx(size_kib, abs=5e-4)
    hardware = load_hardware("emomc_fpga")
    for dataflow, energy_mj in zip(DATAFLOWS, energies_mj, strict=True):
        found = estimate_energy(Workload(shapes, bits, density), dataflow=dataflow, hardware=hardware)[0]
        assert found == pytest.approx(energy_mj, abs=6e-4)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("in_channels", "num_classes"), [(4, 13), pytest.param(1, 2, marks=pytest.mark.slow)])
def test_any_number_of_channels_and_classes(name, in_channels, num_classes):
    network = build_network(name, in_channels=in_channels, num_classes=num_classes)
    trace = trace_network(network, (in_channels, 32, 32))
    assert trace.output_shape == (num_classes,)
    assert trace.notes == ()
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert len(trace.foldable) == norms


@pytest.mark.parametrize("name", NETWORKS)
def test_fresh_weights_keep_the_scale_of_activations(name):
    torch.manual_seed(0)
    in_channels = TABLE[name][0]
    arguments = {} if name == "lenet5" else {"width": 0.25}
    network = build_network(name, in_channels=in_channels, num_classes=10, network_args=arguments).train()
    logits = network(torch.randn(32, in_channels, 32, 32))
    assert 0.1 < logits.std().item() < 10


def test_width_scales_every_layer():
    full = trace_layers(build_network("mobilenet", in_channels=3, num_classes=10), (3, 32, 32))
    half = trace_layers(
        build_network("mobilenet", in_channels=3, num_classes=10, network_args={"width": 0.5}), (3, 32, 32)
    )
    assert [shape.out_channels // 2 for shape in full[:-1]] == [shape.out_channels for shape in half[:-1]]


def test_the_seed_decides_the_weights():
    def weights(seed: int) -> np.ndarray:
        torch.manual_seed(seed)
        return build_network("lenet5", in_channels=1, num_classes=10).conv1.weight.detach().numpy()

    assert np.array_equal(weights(3), weights(3))
    assert not np.array_equal(weights(3), weights(4))


@pytest.mark.parametrize("name", ["mobilenet", "vgg16", "resnet18"])
def test_larger_images_are_fine(name):
    network = build_network(name, in_channels=3, num_classes=10, network_args={"width": 0.05})
    assert trace_network(network, (3, 64, 48)).output_shape == (10,)


def test_lenet5_names_the_size_it_takes():
    network = build_network("lenet5", in_channels=1, num_classes=10)
    with pytest.raises(UserError, match="32x32 pixels for LeNet-5, found 28x28"):
        trace_layers(network, (1, 28, 28))


FOREIGN = """
from torch import nn
from blocks import HIDDEN

class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(16, 5))
    def forward(self, images):
        return self.body(images)

class Sized(nn.Module):
    def __init__(self, num_classes, hidden=HIDDEN, *, in_channels):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(in_channels, hidden, 3), nn.Flatten(), nn.LazyLinear(num_classes))

def make(**kwargs):
    return strict(**kwargs)

def strict(num_classes):
    return nn.Linear(4, num_classes)

class NoNetwork:
    pass

def no_network():
    return 3

value = 5
"""


@pytest.fixture
def foreign(tmp_path: Path) -> str:
    (tmp_path / "blocks.py").write_text("HIDDEN = 7\n")
    file = tmp_path / "foreign.py"
    file.write_text(FOREIGN)
    return str(file)


def test_sizes_go_only_where_the_signature_takes_them(foreign):
    assert build_network(f"{foreign}:Plain", in_channels=1, num_classes=5).body[1].out_features == 5
    sized = build_network(f"{foreign}:Sized", in_channels=2, num_classes=6)
    assert (sized.body[0].in_channels, sized.body[0].out_channels) == (2, 7)
    sized = build_network(f"{foreign}:Sized", in_channels=2, num_classes=6, network_args={"hidden": 3})
    assert sized.body[0].out_channels == 3
    assert build_network(f"{foreign}:make", in_channels=2, num_classes=6).out_features == 6
    own = build_network(f"{foreign}:make", in_channels=2, num_classes=6, network_args={"num_classes": 9})
    assert own.out_features == 9


def test_the_class_of_a_file_is_the_same_at_every_call(foreign):
    first, second = (build_network(f"{foreign}:Plain", in_channels=1, num_classes=5) for _ in range(2))
    assert type(first) is type(second)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("NoNetwork", {}, "to be a torch.nn.Module class .* found the class NoNetwork"),
        ("value", {}, "to be a torch.nn.Module class .* found a value of type int"),
        ("no_network", {}, "to make a torch.nn.Module, found int"),
        ("Missing", {}, "named Missing in .*foreign.py, found no such name"),
        ("Sized", {"depth": 3}, "with depth=3, found: .*unexpected keyword argument 'depth'"),
    ],
)
def test_a_wrong_choice_gets_one_line(foreign, name, arguments, message):
    with pytest.raises(UserError, match=message) as raised:
        build_network(f"{foreign}:{name}", in_channels=1, num_classes=5, network_args=arguments)
    assert "\n" not in str(raised.value)


def test_unknown_network_names_the_choices():
    with pytest.raises(UserError, match=r"among lenet5, mobilenet, vgg16, resnet18.* found 'lenet'"):
        build_network("lenet", in_channels=1, num_classes=5)


def test_source_hash_follows_the_file_s_content(foreign):
    before = network_source_sha256(f"{foreign}:Plain")
    assert before is not None
    assert len(before) == 64
    assert network_source_sha256(f"{foreign}:Sized") == before
    Path(foreign).write_text(FOREIGN + "\n# edited\n")
    assert network_source_sha256(f"{foreign}:Plain") != before
    assert network_source_sha256("lenet5") is None


def test_torchvision_s_networks_need_no_edit():
    network = build_network("torchvision.models:resnet18", in_channels=3, num_classes=7)
    assert network.fc.out_features == 7
    assert network_source_sha256("torchvision.models:resnet18") is not None
