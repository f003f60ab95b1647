"""What the paper and its published code report for the trades that the experiments search."""

from __future__ import annotations

from benchmarks.common import reference_lenet5 as code

Front = list[tuple[float, float]]

CODE_FRONTS: dict[tuple[str, str, str], Front] = {
    ("lenet5_mnist", "energy", "xy"): list(code.ENERGY_XY_FRONT),
    ("lenet5_mnist", "size", "csr"): list(code.SIZE_CSR_FRONT),
}
"""(experiment, cost, variant) -> points (test accuracy in percent, mJ or KiB) of the published code's own run."""

CODE_UNCOMPRESSED = {"energy": code.UNCOMPRESSED_ENERGY_MJ, "size": code.UNCOMPRESSED_SIZE_KIB}
"""mJ and KiB of LeNet-5, the energy under X|Y."""

CODE_DENSE_PERCENT = code.TEST_ACCURACY_PERCENT[100]

PAPER = {
    ("vgg16_cifar10", "energy", "xy"): "1.7 mJ, 14.0x",
    ("vgg16_cifar10", "energy", "icoc"): "1.7 mJ, 12.2x",
    ("vgg16_cifar10", "energy", "fxfy"): "2.3 mJ, 10.4x",
    ("vgg16_cifar10", "energy", "xfx"): "2.6 mJ, 8.9x",
    ("vgg16_cifar10", "size", "normal"): "9.8 MB, 6.1x",
    ("vgg16_cifar10", "size", "csr"): "8.0 MB, 7.4x",
    ("vgg16_cifar10", "size", "coo"): "24.5 MB, 2.4x",
}
"""(experiment, cost, variant) -> the paper's text, at 0.3 % loss of accuracy.

Source: Wang et al., "Evolutionary Multi-Objective Model Compression for Deep Neural Networks", IEEE CIM 16(3), 2021.
Its uncompressed VGG-16 needs 20.7 to 24.4 mJ; its code's formulas give 13.0 to 15.3 mJ.
"""


def published_result(experiment: str, cost: str, variant: str, allowed_loss_points: float) -> str:
    """Return what was published of a trade: the paper's figures, or those of its code's run; ``-`` if nothing was."""
    key = (experiment, cost, variant)
    if key in CODE_FRONTS:
        least = CODE_DENSE_PERCENT - allowed_loss_points - 1e-9
        cheapest = min(amount for percent, amount in CODE_FRONTS[key] if percent >= least)
        return f"{cheapest:.4g} {'mJ' if cost == 'energy' else 'KiB'}, {CODE_UNCOMPRESSED[cost] / cheapest:.1f}x"
    return PAPER.get(key, "-")
