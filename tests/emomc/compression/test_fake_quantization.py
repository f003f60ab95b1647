"""Rounding in training: the values of the quantizer, the gradients of what is not rounded."""

from __future__ import annotations

import pytest
import torch

from emomc.compression.fake_quantization import fake_quantize
from emomc.compression.quantization import quantize_symmetric
from emomc.compression.quantizers import QUANTIZERS


@pytest.mark.parametrize("method", QUANTIZERS)
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("bits", [2, 5, 12])
def test_values_are_the_quantizers_and_gradients_pass_unchanged(method, per_channel, bits):
    weight = torch.randn(6, 3, 5, 5, generator=torch.Generator().manual_seed(bits)).requires_grad_(True)
    rounded = fake_quantize(weight, bits, method=method, per_channel=per_channel)
    expected = quantize_symmetric(weight, bits, method=method, per_channel=per_channel).dequantize()
    torch.testing.assert_close(rounded.detach(), expected, atol=1e-6, rtol=0)
    slope = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    (rounded * slope).sum().backward()
    assert torch.equal(weight.grad, slope)


def test_removed_weights_stay_zero():
    weight = torch.randn(4, 10, generator=torch.Generator().manual_seed(0)) * (torch.arange(10) % 2)
    assert not fake_quantize(weight, 3)[:, ::2].any()
