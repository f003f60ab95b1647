"""The built-in networks, in plain ``torch.nn``, by name.

Every network takes float images of shape (n, in_channels, height, width) and returns logits of shape (n, num_classes).
To add one, write its class and add an entry to ``NETWORKS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn


class LeNet5(nn.Module):
    """LeNet-5 for images of 32x32 pixels, with ReLU and max pooling: 5 compressible layers.

    Source: LeCun et al., "Gradient-based learning applied to document recognition", Proc. IEEE 86(11), 1998, figure 2.
    """

    def __init__(self, in_channels: int = 1, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.conv3 = nn.Conv2d(16, 120, 5)
        self.linear1 = nn.Linear(120, 84)
        self.linear2 = nn.Linear(84, num_classes)
        self.pool = nn.MaxPool2d(2)
        self.relu = nn.ReLU()
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of shape (n, classes) for images of shape (n, channels, 32, 32)."""
        if images.shape[-2:] != (32, 32):
            height, width = images.shape[-2:]
            raise ValueError(f"expected images of 32x32 pixels for LeNet-5, found {height}x{width}")
        maps = self.pool(self.relu(self.conv1(images)))
        maps = self.pool(self.relu(self.conv2(maps)))
        features = self.relu(self.conv3(maps)).flatten(1)
        return self.linear2(self.relu(self.linear1(features)))


class MobileNet(nn.Module):
    """MobileNet v1 with a stem for small images (no stride): 28 compressible layers.

    Args:
        in_channels: channels of an image.
        num_classes: number of logits.
        width: factor on every number of channels; 1 is the published network.

    Source: Howard et al., "MobileNets", arXiv:1704.04861, table 1 (its first and last strides are for 224x224 pixels).
    """

    BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
    """(output channels, stride) of each depthwise-separable block."""

    def __init__(self, in_channels: int = 3, num_classes: int = 10, width: float = 1.0) -> None:
        super().__init__()
        channels = _scaled(32, width)
        self.stem = _conv_norm_relu(in_channels, channels, 3)
        blocks = []
        for base, stride in self.BLOCKS:
            out_channels = _scaled(base, width)
            depthwise = _conv_norm_relu(channels, channels, 3, stride, groups=channels)
            pointwise = _conv_norm_relu(channels, out_channels, 1)
            blocks.append(nn.Sequential(depthwise, pointwise))
            channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(channels, num_classes)
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of shape (n, classes) for images of at least 16x16 pixels."""
        return self.linear(self.pool(self.blocks(self.stem(images))).flatten(1))


class VGG16(nn.Module):
    """VGG-16 with BatchNorm and one linear layer in place of three: 14 compressible layers.

    Args:
        in_channels: channels of an image.
        num_classes: number of logits.
        width: factor on every number of channels; 1 is the published network.

    Source: Simonyan and Zisserman, "Very deep convolutional networks", arXiv:1409.1556, table 1, column D.
    """

    STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
    """(output channels, convolutions) of each stage; max pooling ends a stage."""

    def __init__(self, in_channels: int = 3, num_classes: int = 10, width: float = 1.0) -> None:
        super().__init__()
        stages = []
        channels = in_channels
        for base, convolutions in self.STAGES:
            stage = []
            for _ in range(convolutions):
                stage.append(_conv_norm_relu(channels, _scaled(base, width), 3))
                channels = _scaled(base, width)
            stages.append(nn.Sequential(*stage, nn.MaxPool2d(2)))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(channels, num_classes)
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of shape (n, classes) for images of at least 32x32 pixels."""
        return self.linear(self.pool(self.stages(images)).flatten(1))


class ResNet18(nn.Module):
    """ResNet-18 with a stem for small images (3x3, no stride, no pooling): 21 compressible layers.

    Args:
        in_channels: channels of an image.
        num_classes: number of logits.
        width: factor on every number of channels; 1 is the published network.

    Source: He et al., "Deep residual learning for image recognition", arXiv:1512.03385, table 1 and section 4.2.
    """

    STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))
    """(output channels, stride of the first block) of each stage of two blocks."""

    def __init__(self, in_channels: int = 3, num_classes: int = 10, width: float = 1.0) -> None:
        super().__init__()
        channels = _scaled(64, width)
        self.stem = _conv_norm_relu(in_channels, channels, 3)
        stages = []
        for base, stride in self.STAGES:
            out_channels = _scaled(base, width)
            first = _ResidualBlock(channels, out_channels, stride)
            stages.append(nn.Sequential(first, _ResidualBlock(out_channels, out_channels, 1)))
            channels = out_channels
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(channels, num_classes)
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of shape (n, classes) for images of any size."""
        return self.linear(self.pool(self.stages(self.stem(images))).flatten(1))


class _ResidualBlock(nn.Module):
    """Two 3x3 convolutions, added to the input or, where the shape changes, to its 1x1 projection."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.shortcut.add_module("conv", nn.Conv2d(in_channels, out_channels, 1, stride, bias=False))
            self.shortcut.add_module("norm", nn.BatchNorm2d(out_channels))
        self.relu = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.relu(self.norm1(self.conv1(maps)))
        return self.relu(self.norm2(self.conv2(inner)) + self.shortcut(maps))


def _conv_norm_relu(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    block = nn.Sequential()
    convolution = nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, groups=groups, bias=False
    )
    block.add_module("conv", convolution)
    block.add_module("norm", nn.BatchNorm2d(out_channels))
    block.add_module("relu", nn.ReLU())
    return block


def _scaled(channels: int, width: float) -> int:
    if not width > 0:
        raise ValueError(f"expected a width factor above 0, found {width}")
    return max(1, round(channels * width))


def _initialise(network: nn.Module) -> None:
    """Draw weights with the variance that keeps the scale of activations through ReLUs; set biases to zero.

    Source: He et al., "Delving deep into rectifiers", arXiv:1502.01852, equation 10.
    """
    for name, module in network.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            # No ReLU follows the last layer.
            last = isinstance(module, nn.Linear) and name in ("linear", "linear2")
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear" if last else "relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


NETWORKS: Mapping[str, Callable[..., nn.Module]] = {
    "lenet5": LeNet5,
    "mobilenet": MobileNet,
    "vgg16": VGG16,
    "resnet18": ResNet18,
}
"""Network name on the command line -> its class."""
