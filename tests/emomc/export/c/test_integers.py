"""Integer arithmetic gives what the search promised, and keeps in bytes what it can."""

import itertools
import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from emomc.common.errors import UserError
from emomc.compression.activation_grid import ActivationGrid
from emomc.compression.activations import integer_bias
from emomc.export.c.arithmetic import choose_arithmetic
from emomc.export.c.compiling import CompiledSource
from emomc.export.c.header import float_functions
from emomc.export.c.writing import c_program, header_of, write_c
from emomc.export.loading import unpack_network
from emomc.packed_file.network import PackedLayer, PackedNetwork

SHAPE = (3, 8, 8)


class Block(nn.Module):
    """An expansion, a depthwise convolution and a projection without activation function, as in MobileNetV2."""

    def __init__(self, channels, stride=1):
        super().__init__()
        wide = 2 * channels
        self.expand = nn.Conv2d(channels, wide, 1)
        self.depthwise = nn.Conv2d(wide, wide, 3, stride, 1, groups=wide)
        self.project = nn.Conv2d(wide, channels, 1)
        self.residual = stride == 1

    def forward(self, maps):
        found = self.project(F.relu6(self.depthwise(F.relu6(self.expand(maps)))))
        return maps + found if self.residual else found


class Downsampled(nn.Module):
    """Two branches, each with a convolution, and a sum, as in ResNet."""

    def __init__(self, channels):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1)
        self.shortcut = nn.Conv2d(channels, channels, 1, 2)

    def forward(self, maps):
        return F.relu(self.second(F.relu(self.norm(self.first(maps)))) + self.shortcut(maps))


class Fire(nn.Module):
    """A narrow layer, two wide ones and a concatenation, as in SqueezeNet."""

    def __init__(self, channels):
        super().__init__()
        self.squeeze = nn.Conv2d(channels, 4, 1)
        self.small, self.large = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, maps):
        maps = F.relu(self.squeeze(maps))
        return torch.cat([F.relu(self.small(maps)), F.relu(self.large(maps))], 1)


class Head(nn.Module):
    def forward(self, maps):
        return F.adaptive_avg_pool2d(maps, 1).flatten(1)


class Do(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, maps):
        return self.function(maps)


class Tokens(nn.Module):
    """A class token before a layer, which takes codes, and one that is added up, in 32 bits."""

    def __init__(self):
        super().__init__()
        self.token, self.other = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 1, 8))
        self.mix = nn.Linear(8, 8)

    def forward(self, maps):
        tokens = maps.flatten(2).transpose(1, 2)
        tokens = self.mix(torch.cat([self.token.expand(maps.shape[0], -1, -1), tokens], 1))
        return torch.cat([self.other.expand(maps.shape[0], -1, -1), 1 - tokens], 1).sum(1)


def moved(maps):
    maps = F.channel_shuffle(F.pixel_shuffle(maps, 2).repeat(1, 4, 1, 1), 4)
    return F.adaptive_max_pool2d(F.interpolate(maps, scale_factor=2), (9, 5))


def after(*parts, channels=8):
    """A convolution, other parts, an average and a linear layer."""
    first = nn.Conv2d(3, channels, 3, padding=1)
    return nn.Sequential(first, nn.ReLU(), *parts, Head(), nn.Linear(channels, 5))


def chain():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, (2, 3), padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.Hardtanh(-0.5, 0.75),
        nn.Flatten(),
        nn.Linear(8 * 4 * 3, 6),
        nn.ReLU6(),
        nn.Linear(6, 5),
    )


NETWORKS = {
    "chain": chain,
    "mobile blocks": lambda: after(Block(8), Block(8), Block(8, stride=2)),
    "residual blocks": lambda: after(Downsampled(8), Downsampled(8)),
    "fires": lambda: after(Fire(8), nn.MaxPool2d(3, 2, ceil_mode=True), Fire(8)),
    "averages": lambda: after(nn.AvgPool2d(3, 2, 1), nn.Conv2d(8, 8, 1), Do(lambda maps: maps.mean(3, keepdim=True))),
    "parts": lambda: after(
        Do(lambda maps: F.pad(torch.cat(maps.chunk(2, 1)[::-1], 1).transpose(2, 3), (1, 0, 0, 1))),
        nn.Conv2d(8, 8, 3, groups=2),
        Do(lambda maps: maps - 0.25),
        nn.ConvTranspose2d(8, 8, 3, stride=2, groups=4, bias=False),
    ),
    "moves": lambda: after(
        Do(moved), nn.Conv2d(8, 8, 1), Do(lambda maps: -maps.amax(2, keepdim=True) - torch.stack([maps], 0).sum(0))
    ),
    "tokens": lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), Tokens(), nn.Linear(8, 5)),
    "operations in floats": lambda: after(nn.Hardswish(), nn.Conv2d(8, 8, 1), nn.Sigmoid(), Block(8), nn.Tanh()),
    "rows": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(2), nn.Linear(36, 7), nn.Flatten(), nn.Linear(28, 5)),
}


def named(name):
    torch.manual_seed(list(NETWORKS).index(name))
    network = NETWORKS[name]().eval()
    for part in network.modules():
        if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            nn.init.kaiming_normal_(part.weight)
    return network


def check(found, expected):
    # An input half-way between two codes may go either way, which few images meet.
    tolerance = 1e-5 * float(expected.abs().max())
    close = torch.isclose(found, expected, rtol=1e-4, atol=tolerance).all(1)
    assert int(close.sum()) >= 0.9 * len(expected)
    # With inputs of 2 bits, the two largest scores are often equal: either class is right.
    largest, second = expected.topk(2).values.T
    others = (found.argmax(1) != expected.argmax(1)) & (largest - second > tolerance)
    assert int(others.sum()) <= 1


class Together(nn.Module):
    """Networks side by side: to compile takes longer than all else."""

    def __init__(self, names):
        super().__init__()
        self.parts = nn.ModuleList(named(name) for name in names)

    def forward(self, images):
        return torch.cat([part(images) for part in self.parts], 1)


def test_integers_give_what_the_search_promised(pack, run_both):
    network = Together(NETWORKS).eval()
    packed = pack(network, SHAPE, activation_bits=8)
    assert choose_arithmetic(packed.layers) == "int8"
    found, expected = run_both(packed, network, count=60)
    for own, promised in zip(found.split(5, 1), expected.split(5, 1), strict=True):
        check(own, promised)


@pytest.mark.slow
@pytest.mark.parametrize("activation_bits", [8, 5, 2])
@pytest.mark.parametrize("name", NETWORKS)
def test_each_kind_of_network(name, activation_bits, pack, run_both):
    network = named(name)
    check(*run_both(pack(network, SHAPE, activation_bits=activation_bits), network, count=100))


def types_of(program):
    return {values.buffer.type for call in program.calls for values in (*call.reads, call.output)}


@pytest.mark.parametrize(
    ("name", "floats"),
    [(name, []) for name in NETWORKS if name != "operations in floats"]
    + [("operations in floats", ["hardswish", "sigmoid", "combine", "hyperbolic_tangent", "pool_adaptive"])],
)
def test_floats_only_where_integers_are_not_known(name, floats, pack):
    network = named(name)
    program = c_program(pack(network, SHAPE, activation_bits=8), network)
    assert float_functions(program) == floats
    assert ("f32" in types_of(program)) == bool(floats)


def test_a_chain_of_layers_keeps_bytes_and_its_layers_clip(pack):
    program = c_program(pack(named("chain"), SHAPE, activation_bits=8), named("chain"))
    functions = [re.sub("_[us]8$", "", call.function) for call in program.calls]
    assert functions == ["convolve", "pool_max", "convolve", "linear", "linear"]
    outputs = [call.output.buffer.type for call in program.calls]
    assert all(type in ("u8", "s8") for type in outputs[:-1])
    assert outputs[-1] == "s32"
    assert program.image_grid is not None


def test_what_the_search_does_not_round_has_32_bits_on_one_step(pack):
    network = named("residual blocks")
    program = c_program(pack(network, SHAPE, activation_bits=8), network)
    # The layer that comes last adds to what the other branch left.
    adding = [call for call in program.calls if call.scratch is not None and call.arguments[-2] is not None]
    assert len(adding) == 2
    assert all(call.output.buffer.type == "s32" and call.in_place for call in adding)
    assert not any(call.function.startswith("combine") for call in program.calls)


def with_grids(packed, bits):
    """Give the layers in turn inputs of so many bits."""
    widths = itertools.cycle(bits)
    layers = []
    for layer in packed.layers:
        top = layer.inputs.highest * layer.inputs.step
        grid = ActivationGrid.of_range(next(widths), -top if layer.inputs.signed else 0.0, top)
        layers.append(PackedLayer(layer.name, layer.bits, layer.codes, layer.scale, grid))
    return with_layers(packed, layers)


def with_layers(packed, layers):
    """Give a network other layers, and the biases of integer arithmetic."""
    tensors = dict(packed.tensors)
    for layer in layers:
        if (bias := tensors.get(f"{layer.name}.bias")) is not None and len(layer.scale):
            rounded = integer_bias(torch.from_numpy(bias), torch.from_numpy(layer.scale), layer.inputs)
            tensors[f"{layer.name}.bias"] = rounded.numpy()
    return PackedNetwork(packed.description, tuple(layers), tensors)


def test_layers_may_have_inputs_of_different_widths(pack, run_both):
    network = named("fires")
    packed = with_grids(pack(network, SHAPE, activation_bits=8), (8, 4, 6, 5))
    found, expected = run_both(packed, network, count=60)
    check(found, expected)
    assert len({layer.inputs.bits for layer in packed.layers}) == 4


@pytest.mark.parametrize("bits", [(32, 8), (32,)])
def test_layers_of_float_weights(bits, pack, run_both):
    network = named("chain")
    packed = pack(network, SHAPE, activation_bits=8, bits=bits)
    assert choose_arithmetic(packed.layers) == ("float" if bits == (32,) else "int8")
    check(*run_both(packed, network, count=60))


def changed(packed, number, **fields):
    layers = list(packed.layers)
    known = {name: getattr(layers[number], name) for name in ("name", "bits", "codes", "scale", "inputs")}
    layers[number] = PackedLayer(**(known | fields))
    return with_layers(packed, layers)


def test_channels_without_scale_and_biases_beyond_32_bits(pack, run_both):
    network = named("chain")
    packed = pack(network, SHAPE, activation_bits=8)
    scale = np.broadcast_to(packed.layers[1].scale, (8,)).copy()
    scale[0], scale[1], scale[2] = 0, 1e-12, -scale[2]
    packed.tensors["3.bias"] = np.full(8, 0.3, np.float32)
    packed = changed(packed, 1, scale=scale)
    check(*run_both(packed, network, count=60))


def test_sums_that_might_overflow_are_refused(pack):
    network = named("chain")
    packed = pack(network, SHAPE, activation_bits=8)
    layer = packed.layers[2]
    wide = changed(packed, 2, bits=16, codes=np.full(layer.codes.shape, 1 << 14, np.int32) * 8 - 8)
    with pytest.raises(UserError, match=r"found 7 with sums up to .*: take --c_arithmetic float") as raised:
        c_program(changed(wide, 2, codes=np.full((6, 96), 1 << 20, np.int32)), network)
    assert "\n" not in str(raised.value)
    c_program(wide, network, "float")


@pytest.mark.parametrize(
    ("activation_bits", "bits", "found"),
    [
        (None, (8,), "0 with inputs of float32"),
        (9, (8,), "0 with inputs of 9 bits"),
        (8, (32,), "float32 weights in every"),
    ],
)
def test_int8_is_refused_where_it_cannot_be(activation_bits, bits, found, pack):
    network = named("chain")
    packed = pack(network, SHAPE, activation_bits=activation_bits, bits=bits)
    with pytest.raises(UserError, match=found):
        c_program(packed, network, "int8")
    assert "f32" in types_of(c_program(packed, network))


def test_pixels_become_the_codes_of_the_search(pack, tmp_path, run_both):
    network = named("chain")
    packed = pack(network, SHAPE, activation_bits=8)
    source = tmp_path / "chain.c"
    write_c(source, packed, network, name="chain", coding="best")
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (200, *SHAPE), np.uint8))
    with CompiledSource(source) as compiled:
        found = compiled.classes(pixels)
    expected = unpack_network(packed, network)((pixels / 255 - 0.5) / 0.25).argmax(1)
    assert int((found != expected).sum()) <= 1
    text, header = source.read_text(), header_of(source)
    assert "Arithmetic: int8" in header
    assert "There are no floats between the image and the scores" in " ".join(header.split())
    network_alone = text[: text.index("#ifdef CHAIN_MAIN")].replace(header, "")
    code = re.sub(r"/\*.*?\*/", "", network_alone, flags=re.DOTALL)
    assert not re.search(r"math\.h|\bnearbyintf|\bfloat\b(?! \*scales;| weight;)", code)
