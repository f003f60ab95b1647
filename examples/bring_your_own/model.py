"""A network as any project has one: plain PyTorch, nothing of EMOMC in it."""

from torch import Tensor, nn


class SmallNet(nn.Module):
    """Six convolutions, one of them grouped, one reached by a shortcut, and a linear layer.

    EMOMC fills in ``in_channels`` and ``num_classes`` because the constructor names them; ``channels`` is the user's to
    set, with ``--network_args``.
    """

    def __init__(self, in_channels: int, num_classes: int, channels: int = 16) -> None:
        super().__init__()
        self.stem = block(in_channels, channels, 3, stride=2)
        self.body = nn.Sequential(block(channels, channels, 3), block(channels, channels, 3))
        self.depthwise = block(channels, channels, 5, stride=2, groups=channels)
        self.pointwise = block(channels, 2 * channels, 1)
        self.last = block(2 * channels, 2 * channels, 3, stride=2)
        self.classify = nn.Linear(2 * channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return scores of shape (n, num_classes) for images of shape (n, in_channels, height, width)."""
        maps = self.stem(images)
        maps = maps + self.body(maps)
        maps = self.last(self.pointwise(self.depthwise(maps)))
        return self.classify(maps.mean((2, 3)))


def block(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Return a convolution, its BatchNorm and a ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )
