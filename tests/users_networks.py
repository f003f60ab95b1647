"""Networks of the kinds that users bring, each small, for images of one channel and 32x32 pixels.

Named on a command line as ``users_networks.py:NAME``. ``EQUAL`` are those that every part of the project must run as
they are; ``REFUSED`` maps those that must be refused in one line to words of that line.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm


class Base(nn.Module):
    """Two convolutions with norms, and a linear layer over the mean of the map."""

    def __init__(self, in_channels: int = 1, num_classes: int = 10) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, 6, 3, stride=2, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.second_norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, num_classes)

    def stem(self, images: Tensor) -> Tensor:
        return self.first_norm(self.first(images)).relu()

    def body(self, maps: Tensor) -> Tensor:
        return self.second_norm(self.second(maps)).relu()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(self.stem(images)).mean((2, 3)))


class Viewed(Base):
    """``view`` on a map, which another memory format forbids."""

    def __init__(self, in_channels: int = 1, num_classes: int = 10) -> None:
        super().__init__(in_channels, num_classes)
        self.head = nn.Linear(8 * 8 * 8, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.body(self.stem(images))
        return self.head(maps.view(maps.size(0), -1))


class Strided(Viewed):
    """Reads a map's memory as it lies there, so another memory format gives other scores."""

    def forward(self, images: Tensor) -> Tensor:
        maps = self.body(self.stem(images))
        return self.head(maps.as_strided((maps.size(0), 512), (512, 1)))


class ActivatedNorm(Base):
    """A class of norm that holds the activation."""

    class _Norm(nn.BatchNorm2d):
        def forward(self, maps: Tensor) -> Tensor:
            return functional.silu(super().forward(maps))

    def __init__(self, in_channels: int = 1, num_classes: int = 10) -> None:
        super().__init__(in_channels, num_classes)
        self.second_norm = self._Norm(8)


class HookedNorm(Base):
    """A hook changes what a norm gives."""

    def __init__(self, in_channels: int = 1, num_classes: int = 10) -> None:
        super().__init__(in_channels, num_classes)
        self.second_norm.register_forward_hook(lambda module, given, maps: 3 * maps - 1)


class SharedNorm(nn.Module):
    """One norm after two convolutions."""

    def __init__(self, in_channels: int = 1, num_classes: int = 10) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(in_channels, 6, 3, 2), nn.Conv2d(6, 6, 3, 2)
        self.norm = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.norm(self.first(images)).relu()
        return self.head(self.norm(self.second(maps)).relu().mean((2, 3)))


class NormAsFunction(Base):
    """A norm of the network's own parameters."""

    def __init__(self, in_channels: int = 1, num_classes: int = 10) -> None:
        super().__init__(in_channels, num_classes)
        self.scale, self.shift = nn.Parameter(torch.full((8,), 1.5)), nn.Parameter(torch.full((8,), 0.1))
        self.register_buffer("mean", torch.full((8,), 0.2))
        self.register_buffer("variance", torch.full((8,), 0.7))

    def body(self, maps: Tensor) -> Tensor:
        normed = functional.batch_norm(
            self.second(maps), self.mean, self.variance, self.scale, self.shift, self.training
        )
        return normed.relu()


class WeightNormed(Base):
    """A parametrized weight."""

    def __init__(self, in_channels: int = 1, num_classes: int = 10) -> None:
        super().__init__(in_channels, num_classes)
        self.second = weight_norm(self.second)


class Standardized(Base):
    """A convolution whose weights are computed in every forward pass."""

    class _Convolution(nn.Conv2d):
        def forward(self, maps: Tensor) -> Tensor:
            weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
            weight = weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
            return functional.conv2d(maps, weight, self.bias, self.stride, self.padding)

    def __init__(self, in_channels: int = 1, num_classes: int = 10) -> None:
        super().__init__(in_channels, num_classes)
        self.second = self._Convolution(6, 8, 3, stride=2, padding=1)


class UsedTwice(Base):
    """A layer's weights are used again by a function."""

    def body(self, maps: Tensor) -> Tensor:
        again = functional.conv2d(maps, self.second.weight, stride=2, padding=1)
        return super().body(maps) + again


class ChangedInPlace(Base):
    """A map is changed in place between a convolution and its norm."""

    def body(self, maps: Tensor) -> Tensor:
        maps = self.second(maps)
        maps[:, 2:5] = 0.5
        return self.second_norm(maps).relu()


class SeveralNames(nn.Module):
    """One module under several names."""

    def __init__(self, in_channels: int = 1, num_classes: int = 10) -> None:
        super().__init__()
        layers = [nn.Conv2d(in_channels, 6, 3, 2), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3, 2), nn.ReLU()]
        self.whole = nn.Sequential(*layers)
        self.low, self.high = self.whole[:3], self.whole[3:]
        self.head = nn.Linear(8, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.high(self.low(images)).mean((2, 3)))


class Auxiliary(Base):
    """A second head while it trains."""

    def __init__(self, in_channels: int = 1, num_classes: int = 10) -> None:
        super().__init__(in_channels, num_classes)
        self.early = nn.Linear(6, num_classes)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        maps = self.stem(images)
        scores = self.head(self.body(maps).mean((2, 3)))
        return (scores, self.early(maps.mean((2, 3)))) if self.training else scores


class Other(Base):
    """A transposed convolution, one over one dimension, and groups of each."""

    def __init__(self, in_channels: int = 1, num_classes: int = 10) -> None:
        super().__init__(in_channels, num_classes)
        self.up = nn.ConvTranspose2d(6, 6, 2, stride=2, groups=3)
        self.gate = nn.Conv1d(1, 1, 3, padding=1)

    def stem(self, images: Tensor) -> Tensor:
        maps = super().stem(images)
        gate = self.gate(maps.mean((2, 3)).unsqueeze(1)).sigmoid().transpose(1, 2).unsqueeze(-1)
        return self.up(maps * gate)


class Volumes(Base):
    """A buffer of five dimensions, which torch cannot give the channels-last format, as the weights of Conv3d."""

    def __init__(self, in_channels: int = 1, num_classes: int = 10) -> None:
        super().__init__(in_channels, num_classes)
        self.register_buffer("shift", torch.linspace(-1, 1, 2).view(1, 2, 1, 1, 1))

    def body(self, maps: Tensor) -> Tensor:
        return (super().body(maps).unsqueeze(1) + self.shift).relu().mean(1)


class Attentive(Base):
    """Self-attention over the pixels of a map."""

    def __init__(self, in_channels: int = 1, num_classes: int = 10) -> None:
        super().__init__(in_channels, num_classes)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def body(self, maps: Tensor) -> Tensor:
        tokens = super().body(maps).flatten(2).transpose(1, 2)
        tokens = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return tokens.transpose(1, 2).unsqueeze(-1)


class Causal(Base):
    """Self-attention with a mask and with its weights, which torch computes as one sum of mask and product."""

    def __init__(self, in_channels: int = 1, num_classes: int = 10) -> None:
        super().__init__(in_channels, num_classes)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def body(self, maps: Tensor) -> Tensor:
        tokens = super().body(maps).flatten(2).transpose(1, 2)
        mask = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool).triu(1)
        tokens = self.attention(tokens, tokens, tokens, attn_mask=mask)[0]
        return tokens.transpose(1, 2).unsqueeze(-1)


class Twins(Base):
    """Two layers with equal weights, each over three dimensions."""

    def __init__(self, in_channels: int = 1, num_classes: int = 10) -> None:
        super().__init__(in_channels, num_classes)
        self.left, self.right = nn.Linear(8, 8), nn.Linear(8, 8)
        self.right.load_state_dict(self.left.state_dict())

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.body(self.stem(images)).flatten(2).transpose(1, 2)
        return self.head((self.left(tokens).relu() + self.right(tokens)).mean(1))


class OwnMatrix(Base):
    """A matrix of the network's own, inputs first, and one used as it is and transposed."""

    def __init__(self, in_channels: int = 1, num_classes: int = 10) -> None:
        super().__init__(in_channels, num_classes)
        self.mix = nn.Parameter(torch.randn(8, 8) / 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head((self.body(self.stem(images)).mean((2, 3)) @ self.mix).relu())


class Lazy(nn.Module):
    """Layers that learn their sizes when they are first used."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LazyConv2d(6, 3, 2), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(num_classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class Named(Base):
    """Scores by name."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = self.body(self.stem(images)).mean((2, 3))
        return {"features": features, "scores": self.head(features)}


EQUAL = (
    Viewed,
    Strided,
    ActivatedNorm,
    HookedNorm,
    SharedNorm,
    NormAsFunction,
    WeightNormed,
    Standardized,
    UsedTwice,
    ChangedInPlace,
    SeveralNames,
    Auxiliary,
    Other,
    Volumes,
    Attentive,
    Causal,
    Twins,
    OwnMatrix,
    Lazy,
)


class NoTensor(Base):
    def forward(self, images: Tensor) -> str:
        return str(super().forward(images))


class WrongClasses(Base):
    def __init__(self, in_channels: int = 1) -> None:
        super().__init__(in_channels, 7)


class OtherSize(Base):
    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(self.stem(images)).reshape(len(images), 8, 5, 5).mean((2, 3)))


class AlwaysDrops(Base):
    def body(self, maps: Tensor) -> Tensor:
        return functional.dropout(super().body(maps), 0.5, training=True)


class ChangesItself(Base):
    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            self.head.weight.mul_(1.01)
        return super().forward(images)


class Branches(Base):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images if images.mean() > 0 else -images)


class OtherNumbers(Base):
    def __init__(self, in_channels: int = 1, num_classes: int = 10) -> None:
        super().__init__(in_channels, num_classes)
        self.head.bfloat16()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(self.stem(images)).mean((2, 3)).bfloat16()).float()


REFUSED = {
    NoTensor: "one tensor of class scores",
    WrongClasses: "10 class scores",
    OtherSize: "fails on one",
    AlwaysDrops: "the same scores for the same image",
    ChangesItself: "running it changes head.weight",
    Branches: "cannot be exported",
    OtherNumbers: "head.weight of OtherNumbers in torch.bfloat16",
    Named: "--network_output",
}


def with_trained_norms(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give norms statistics and parameters as training leaves them; return the network in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.weight.data.normal_(1, 0.5, generator=generator)
            module.bias.data.normal_(0, 0.3, generator=generator)
    return network.eval()


NOT_IN_C = {
    "Strided": "aten.as_strided",
    "ChangedInPlace": "aten.fill_.Tensor",
    "Attentive": "aten.scaled_dot_product_attention",
    "Causal": "aten.bmm of two activations",
}
"""Names of networks with operations that are not written in C -> these."""
