"""Every operation that is written in C gives what torch gives, under the sanitizers."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import emomc.export.c
from emomc.common.errors import UserError
from emomc.compression.codings import CODINGS
from emomc.export.c.kernel_library import kernels
from emomc.export.c.lowering import lower_network
from emomc.export.loading import unpack_network

SAME_PADDING = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
FOLDER = Path(emomc.export.c.__file__).parent


class Maps(nn.Module):
    """A convolution, what is to be tested on its maps, and a linear layer."""

    def __init__(self, between, channels=8):
        super().__init__()
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.between = between
        with torch.no_grad():
            size = between(self.first(torch.zeros(2, 3, 9, 7))).flatten(1).shape[1]
        self.head = nn.Linear(size, 5)

    def forward(self, images):
        return self.head(self.between(self.first(images)).flatten(1))


class Do(nn.Module):
    def __init__(self, function, *parts):
        super().__init__()
        self.function = function
        self.parts = nn.ModuleList(parts)

    def forward(self, maps):
        return self.function(maps, *self.parts)


def chain(*functions):
    def run(maps):
        for function in functions:
            maps = function(maps)
        return maps

    return Do(run)


def shuffled(maps):
    n, c, h, w = maps.shape
    left, right = maps.chunk(2, 1)
    maps = torch.cat([left.relu(), right], 1)
    return maps.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


def squeezed(maps, narrow, wide):
    weight = wide(F.silu(narrow(F.adaptive_avg_pool2d(maps, 1))))
    return maps * torch.sigmoid(weight)


def written_over(maps):
    before = maps + 1
    before.mul_(2)
    kept = before.clone()
    F.relu_(before)
    return before + maps + kept


def repeated(maps):
    means = maps.mean((2, 3), keepdim=True)
    return torch.cat([means.expand_as(maps), maps.repeat(1, 2, 1, 1), maps.repeat_interleave(2, 1)[:, :3]], 1)


def variances(maps):
    spread = maps.var(1, unbiased=False, keepdim=True) + maps.std((2, 3), keepdim=True)
    return F.normalize(maps, dim=1) + spread + maps.amin((1, 3), keepdim=True)


class Tokens(nn.Module):
    """A class token and positions, as in ViT, and norms of rows."""

    def __init__(self):
        super().__init__()
        self.token, self.end = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 1, 8))
        self.norm = nn.RMSNorm(8)

    def forward(self, maps):
        tokens = maps.flatten(2).transpose(1, 2)
        first, last = self.token.expand(maps.shape[0], -1, -1), self.end.repeat(maps.shape[0], 1, 1)
        return self.norm(torch.cat([first, tokens, last], 1)) + F.rms_norm(tokens.sum(1, keepdim=True), (8,), eps=1e-3)


class Computed(nn.Module):
    """A layer whose weights are computed, and a factor for each channel."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 8, 3, 3))
        self.factor = nn.Parameter(torch.randn(4, 1, 1))

    def forward(self, maps):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(maps, weight, stride=2) * self.factor - 0.5


NETWORKS = {
    "activations in turn": chain(
        F.relu6, F.hardswish, F.leaky_relu, F.elu, F.selu, F.celu, F.hardtanh, F.hardsigmoid, F.silu, F.mish
    ),
    "more activations": chain(
        F.gelu, lambda maps: F.gelu(maps, approximate="tanh"), F.softplus, torch.tanh, lambda maps: maps.clamp(max=0.9)
    ),
    "slopes": nn.PReLU(8),
    "one slope": nn.PReLU(),
    "convolutions": nn.Sequential(
        nn.Conv2d(8, 8, (3, 2), (2, 1), (2, 1), groups=8),
        nn.Conv2d(8, 4, 3, padding=2, dilation=2, groups=2, bias=False),
        nn.Conv2d(4, 6, (2, 3), padding="same"),
        nn.Conv2d(6, 6, 1, stride=3),
    ),
    "transposed convolutions": nn.Sequential(
        nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1, groups=2), nn.ConvTranspose2d(6, 4, (2, 3))
    ),
    "one dimension": nn.Sequential(
        nn.Flatten(2),
        nn.Conv1d(8, 6, 5, stride=2, padding=2),
        nn.ConvTranspose1d(6, 4, 4, stride=2),
        nn.MaxPool1d(3),
        nn.AvgPool1d(2),
        nn.AdaptiveAvgPool1d(3),
    ),
    "pooling": nn.Sequential(
        nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        nn.AvgPool2d(2, 1, 1),
        nn.AvgPool2d(3, 2, 1, True, False),
        nn.AdaptiveAvgPool2d((2, 3)),
    ),
    "dilated pooling": nn.Sequential(nn.MaxPool2d(2, 1, dilation=2), nn.AvgPool2d(2, divisor_override=3)),
    "norms that stay": nn.Sequential(
        nn.ReLU(), nn.BatchNorm2d(8), nn.GroupNorm(2, 8), nn.InstanceNorm2d(8, affine=True), nn.LayerNorm([9, 7])
    ),
    "residual sum": Do(lambda maps, inner: maps + inner(maps).relu(), nn.Conv2d(8, 8, 3, padding=1)),
    "squeeze and excitation": Do(squeezed, nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)),
    "parts and turns": Do(shuffled),
    "slices": Do(lambda maps: torch.cat([maps[:, 1:4, ::2], maps[:, ::3, :5] / 2], 1).permute(0, 3, 1, 2).softmax(2)),
    "padding": Do(lambda maps: F.pad(F.pad(maps, (1, 2, 0, 1), value=0.5), (0, 0, 1, 0))),
    "means": Do(
        lambda maps: maps.mean(1, keepdim=True) * maps.mean((2, 3), keepdim=True) + maps.mean((1, 2, 3), keepdim=True)
    ),
    "logarithm of softmax": Do(lambda maps: maps.log_softmax(1) - 3 * maps),
    "signs and powers": chain(
        lambda maps: 1 - maps.abs(),
        lambda maps: (maps**2 + 1).sqrt() - (maps.square() + 1).rsqrt(),
        lambda maps: (-maps).exp() + maps.clamp_min(0.5) ** 1.5,
        lambda maps: 1 / (maps + 1) + (maps + 1).log().clamp_max(0.75),
    ),
    "largest and sums": Do(
        lambda maps: maps * maps.amax((2, 3), keepdim=True) - maps.sum(1, keepdim=True) / maps.max(3, keepdim=True)[0]
    ),
    "variances": Do(variances),
    "writing over": Do(written_over),
    "computed weights": Computed(),
    "the same layer twice": Do(lambda maps, inner: inner(inner(maps).relu()), nn.Conv2d(8, 8, 3, padding=1)),
    "repetition": Do(repeated),
    "stack and gate": Do(lambda maps: F.glu(torch.stack([maps, maps + 1, maps.neg()], 2).max(2).values, 1)),
    "pixels and channels": Do(
        lambda maps: torch.cat(
            [F.pixel_shuffle(maps, 2)[..., 1:], F.channel_shuffle(F.interpolate(maps, (18, 14)), 4)[:, :3, :, 1:]], 1
        )
    ),
    "enlarged": nn.Sequential(nn.Upsample(scale_factor=(2, 3)), nn.PixelUnshuffle(3), nn.AdaptiveMaxPool2d((4, 3))),
    "tokens": Tokens(),
    "rows": Do(lambda maps, inner: inner(maps.flatten(2)).transpose(1, 2), nn.Linear(63, 6)),
}


CHANGES_SIZE = {
    "convolutions",
    "transposed convolutions",
    "one dimension",
    "pooling",
    "dilated pooling",
    "slices",
    "padding",
    "computed weights",
    "repetition",
    "stack and gate",
    "pixels and channels",
    "enlarged",
    "tokens",
    "rows",
}
# To compile takes longer than all else: those that keep the size of the maps follow one another, the others are
# beside one another.
TOGETHER = {
    "in turn": nn.Sequential(*(NETWORKS[name] for name in NETWORKS if name not in CHANGES_SIZE)),
    "side by side": Do(
        lambda maps, *parts: torch.cat([part(maps).flatten(1) for part in parts], 1),
        *(NETWORKS[name] for name in sorted(CHANGES_SIZE)),
    ),
}


def check(between, pack, run_both):
    torch.manual_seed(0)
    network = Maps(between).eval()
    found, expected = run_both(pack(network, (3, 9, 7), bits=(8, 32, 5)), network)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@SAME_PADDING
@pytest.mark.parametrize("name", TOGETHER)
def test_c_gives_the_scores_of_torch(name, pack, run_both):
    check(TOGETHER[name], pack, run_both)


@SAME_PADDING
@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_each_operation_gives_the_scores_of_torch(name, pack, run_both):
    check(NETWORKS[name], pack, run_both)


@SAME_PADDING
def test_inputs_are_rounded(pack, run_both):
    torch.manual_seed(0)
    network = Maps(nn.Sequential(NETWORKS["the same layer twice"], NETWORKS["convolutions"])).eval()
    wide, narrow = pack(network, (3, 9, 7)), pack(network, (3, 9, 7), activation_bits=4)
    found, expected = run_both(narrow, network, count=30)
    with torch.no_grad():
        images = torch.randn(30, 3, 9, 7, generator=torch.Generator().manual_seed(2))
        unrounded = unpack_network(wide, network)(images)
    assert not torch.allclose(expected, unrounded, rtol=0.01, atol=0.01)
    # An input half-way between two codes may go either way.
    close = torch.isclose(found, expected, rtol=1e-4, atol=1e-5).all(1)
    assert int(close.sum()) >= 27


@pytest.mark.parametrize(
    "coding",
    [pytest.param(coding, marks=pytest.mark.slow if coding in ("normal", "coo") else ()) for coding in CODINGS],
)
def test_weights_in_every_coding(coding, pack, run_both):
    torch.manual_seed(0)
    network = Maps(NETWORKS["computed weights"]).eval()
    found, expected = run_both(pack(network, (3, 9, 7), bits=(2, 5)), network, coding=coding)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("between", "message"),
    [
        (
            Do(lambda maps: maps.flip(1).sort(1)[0]),
            r"found aten\.flip, aten\.sort\.default|found aten\.flip, aten\.sort",
        ),
        (Do(lambda maps: maps @ maps.transpose(2, 3)), "of two activations"),
        (Do(lambda maps: F.pad(maps, (1, 1, 1, 1), mode="replicate")), "replicate"),
        (Do(lambda maps: maps.add(maps, alpha=2)), "with a factor"),
        (Do(lambda maps: torch.cat([maps, maps.max(1, keepdim=True)[1]], 1)), r"found aten\.max\.dim$"),
        (Do(lambda maps: F.interpolate(maps, scale_factor=1.5)), "whole factors.* by 1.5 x 1.5"),
        (Do(lambda maps: torch.linalg.vector_norm(maps, 1, 1)), "of order 1$"),
        pytest.param(
            Do(lambda maps: maps[:, :1].var(1)),
            r"of more than one number in C, found aten\.var\.dim of 1$",
            marks=pytest.mark.filterwarnings("ignore:var.*degrees of freedom"),
        ),
    ],
)
def test_what_cannot_be_written_is_named(between, message, pack):
    network = Maps(between).eval()
    with pytest.raises(UserError, match=message) as raised:
        lower_network(pack(network, (3, 9, 7)), network)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("part", [lambda maps: maps[:, :2], lambda maps: maps.transpose(2, 3)])
def test_a_write_over_a_part_is_refused(part, pack):
    def run(maps):
        part(maps).mul_(3)
        return maps

    network = Maps(Do(run)).eval()
    with pytest.raises(UserError, match="on part of a tensor"):
        lower_network(pack(network, (3, 9, 7)), network)


def test_every_kernel_is_used():
    texts = [path.read_text() for path in FOLDER.glob("*.py")]
    texts += [re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL) for text in kernels().values()]
    words = [set(re.findall(r"\w+", text)) for text in texts]
    generated = {f"next_{coding}" for coding in (*CODINGS, "float32")}
    # The ending of a name is the type of its numbers.
    called = {name: re.sub("_(u8|s8|s32)$", "", name) for name in kernels().keys() - generated}
    used = [
        name for name in called if sum({name, called[name], f"{called[name]}_"} & found != set() for found in words) > 1
    ]
    assert sorted(used) == sorted(called)
    assert generated <= kernels().keys()
