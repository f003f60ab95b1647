import numpy as np
import pytest
import torch
from torch import nn

from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.cost_model import CostModel
from emomc.candidates.genotype import Genotype
from emomc.candidates.packing import pack_candidate
from emomc.common.errors import UserError
from emomc.compression.codings import CODING_CHOICES
from emomc.compression.pruning import prune_by_magnitude
from emomc.compression.quantizers import Quantizer
from emomc.export.loading import dense_state, load_compressed
from emomc.hardware.description import load_hardware
from emomc.library.library import Library
from emomc.library.manifest import Manifest
from emomc.library.network_sources import library_graph
from emomc.networks.build import build_network
from emomc.networks.graph import trace_network
from emomc.packed_file.writer import write_packed

WIDTHS = {"lenet5": {}, "mobilenet": {"width": 0.125}, "vgg16": {"width": 0.0625}, "resnet18": {"width": 0.125}}


class Foreign(nn.Module):
    """Norms that fold, stay, and count; a layer without a bias and one left out of the compression."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 8, 3, groups=2, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.early = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 3, bias=False)

    def forward(self, images):
        maps = self.norm(self.first(images)).relu()
        return self.head(self.early(maps).mean((2, 3)))


def randomise(network):
    """Give norms statistics as if they were trained, one gamma negative and one zero."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.weight.data, module.bias.data):
                tensor.normal_()
            module.running_var.uniform_(0.5, 2)
            module.weight.data[0] = -0.5
            module.weight.data[1] = 0
    return network


def make_library(path, spec, network, input_shape, network_args, excluded=(), source=None):
    trace = trace_network(network, input_shape)
    manifest = Manifest(
        network=spec,
        network_args=network_args,
        network_source_sha256=source,
        data={"dataset": "digits"},
        input_shape=input_shape,
        class_names=tuple(f"class {label}" for label in range(trace.output_shape[0])),
        mean=(0.25,) * input_shape[0],
        std=(0.5,) * input_shape[0],
        layers=trace.layers,
        excluded_layers=excluded,
        evaluation_batch_size=8,
        settings={},
    )
    library = Library.create(path, manifest)
    for percent in (100, 30):
        weights = {layer.name: network.get_parameter(f"{layer.name}.weight") for layer in manifest.compressed_layers}
        masks = prune_by_magnitude(weights, percent)
        state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        for name, mask in masks.items():
            state[f"{name}.weight"] *= mask
        library.add_level(percent, state, masks, validation_accuracy=0.5, epochs=1)
    return library


@pytest.fixture(scope="module", params=WIDTHS)
def candidates(request, tmp_path_factory):
    torch.manual_seed(0)
    channels = 1 if request.param == "lenet5" else 3
    network = randomise(
        build_network(request.param, in_channels=channels, num_classes=10, network_args=WIDTHS[request.param])
    )
    excluded = (trace_network(network, (channels, 32, 32)).layers[0].name,)
    folder = tmp_path_factory.mktemp(request.param)
    library = make_library(folder, request.param, network, (channels, 32, 32), WIDTHS[request.param], excluded)
    scales = "float32" if request.param == "mobilenet" else "float16"
    quantizer = Quantizer("mse", per_channel=request.param == "vgg16", scales=scales)
    return CompressedNetworks(library, library_graph(library, network), quantizer)


def random_genotypes(networks, count):
    rng = np.random.default_rng(len(networks.layers))
    rows = rng.integers(2, 13, (count, len(networks.layers)))
    return [Genotype(int(rng.choice([100, 30])), tuple(row.tolist())) for row in rows]


# Every coding with one network, every network with one coding.
@pytest.mark.parametrize(
    ("candidates", "coding"),
    [*(("lenet5", coding) for coding in CODING_CHOICES), *((name, "best") for name in WIDTHS if name != "lenet5")],
    indirect=["candidates"],
)
def test_a_file_has_the_promised_size_and_gives_the_very_logits_that_were_evaluated(candidates, coding, tmp_path):
    genotypes = random_genotypes(candidates, 3)
    shape = candidates.library.manifest.input_shape
    images = torch.randn(8, *shape).contiguous(memory_format=torch.channels_last)
    costs = CostModel(candidates, load_hardware("emomc_fpga"), dataflow="xy", coding=coding).costs(genotypes)
    for genotype, size in zip(genotypes, costs["size_bytes"].tolist(), strict=True):
        path = tmp_path / "candidate.emomc"
        packed = pack_candidate(candidates, genotype)
        assert write_packed(path, packed, coding) == path.stat().st_size == size
        loaded = load_compressed(path).to(memory_format=torch.channels_last)
        assert not loaded.training
        assert torch.equal(loaded(images), candidates.load(genotype)(images))


def foreign_file(tmp_path, **changes):
    torch.manual_seed(0)
    network = randomise(Foreign())
    arguments = {"spec": "my/network.py:Foreign", "network_args": {}, "excluded": ("head",), "source": "0" * 64}
    arguments |= changes
    library = make_library(tmp_path / "library", network=network, input_shape=(2, 9, 7), **arguments)
    networks = CompressedNetworks(library, library_graph(library, network), Quantizer("absmax"))
    path = tmp_path / "foreign.emomc"
    write_packed(path, pack_candidate(networks, Genotype(30, (3,))), "best")
    return path, networks


def test_a_users_network_is_given_and_never_imported(tmp_path):
    path, networks = foreign_file(tmp_path)
    with pytest.raises(UserError, match=r"expected network=, an instance of network\.py:Foreign"):
        load_compressed(path)
    fresh = Foreign()
    before = {name: tensor.clone() for name, tensor in fresh.state_dict().items()}
    loaded = load_compressed(path, fresh).to(memory_format=torch.channels_last)
    images = torch.randn(4, 2, 9, 7)
    assert torch.equal(loaded(images), networks.load(Genotype(30, (3,)))(images))
    assert "early.weight" in loaded.state_dict()
    assert "norm.weight" not in loaded.state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in fresh.state_dict().items())


def test_a_network_that_does_not_fit_is_refused(tmp_path):
    path, _ = foreign_file(tmp_path)
    other = Foreign()
    other.head = nn.Linear(8, 4, bias=False)
    with pytest.raises(UserError, match=r"expected head\.weight of shape \(4, 8\)"):
        load_compressed(path, other)
    other.head = nn.Linear(8, 3)
    with pytest.raises(UserError, match=r"found head\.bias only in the network"):
        load_compressed(path, other)


def test_arguments_from_a_stranger_take_no_memory(tmp_path):
    # Some 10^17 weights, were they made.
    path, _ = foreign_file(tmp_path, spec="resnet18", network_args={"width": 1e5}, source=None)
    with pytest.raises(UserError, match="expected the file to hold the tensors of resnet18"):
        load_compressed(path)
    path, _ = foreign_file(tmp_path, spec="resnet18", network_args={"depth": 10}, source=None)
    with pytest.raises(UserError, match="expected to make the network resnet18 with depth=10"):
        load_compressed(path)


def test_the_dense_state_is_that_of_the_folded_network(tmp_path):
    _, networks = foreign_file(tmp_path)
    state = dense_state(pack_candidate(networks, Genotype(30, (3,))), Foreign())
    expected = networks.load(Genotype(30, (3,))).state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in state.items())
