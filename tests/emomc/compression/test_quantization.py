"""The quantizer: its grid, its error, and that quantizing twice changes nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emomc.compression.quantization import dequantize, quantize_symmetric, round_to_codes
from emomc.compression.quantizers import Quantizer
from emomc.compression.widths import MAX_BITS, MIN_BITS

SETTINGS = settings(max_examples=25, deadline=None)
BITS = st.integers(MIN_BITS, MAX_BITS)
METHODS = st.sampled_from(["absmax", "mse"])


@st.composite
def tensors(draw, min_channels=1):
    """Weights like those of layers: normally distributed, of any magnitude, some removed."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    shape = draw(
        st.sampled_from([(3, 5), (4, 2, 3, 3), (6, 1, 3, 3), (2, 40)])
        if min_channels > 1
        else st.sampled_from([(1, 7), (3, 5), (4, 2, 3, 3), (1, 1, 1, 1), (2, 40)])
    )
    weight = torch.randn(shape, generator=generator) * 10.0 ** draw(st.integers(-6, 4))
    return weight * (torch.rand(shape, generator=generator) < draw(st.sampled_from([0.1, 0.5, 1.0])))


def squared_error(weight, quantized):
    kept = weight != 0
    return float((weight.double() - quantized.dequantize().double())[kept].square().sum())


@SETTINGS
@given(tensors(), BITS, METHODS, st.booleans())
def test_codes_lie_on_the_symmetric_grid_and_scales_are_positive(weight, bits, method, per_channel):
    quantized = quantize_symmetric(weight, bits, method=method, per_channel=per_channel)
    top = 2 ** (bits - 1) - 1
    assert quantized.bits == bits
    assert quantized.codes.dtype is (torch.int8 if bits <= 8 else torch.int16)
    assert quantized.codes.shape == weight.shape
    assert int(quantized.codes.abs().max()) <= top
    assert quantized.scale.dtype is torch.float32
    assert quantized.scale.shape == ((weight.shape[0],) if per_channel else (1,))
    assert bool((quantized.scale > 0).all())
    assert torch.equal(quantized.dequantize(), dequantize(quantized.codes, quantized.scale))


@SETTINGS
@given(tensors(), BITS, METHODS, st.booleans())
def test_removed_weights_stay_zero_and_signs_stay(weight, bits, method, per_channel):
    codes = quantize_symmetric(weight, bits, method=method, per_channel=per_channel).codes
    assert bool((codes[weight == 0] == 0).all())
    assert bool((codes.float() * weight >= 0).all())


@SETTINGS
@given(tensors(), BITS, METHODS, st.booleans())
def test_negated_weights_give_negated_codes(weight, bits, method, per_channel):
    one = quantize_symmetric(weight, bits, method=method, per_channel=per_channel)
    other = quantize_symmetric(-weight, bits, method=method, per_channel=per_channel)
    assert torch.equal(one.codes, -other.codes)
    assert torch.equal(one.scale, other.scale)


@SETTINGS
@given(tensors(), BITS, st.booleans())
def test_absmax_reaches_the_largest_weight_and_errs_by_half_a_step(weight, bits, per_channel):
    quantized = quantize_symmetric(weight, bits, per_channel=per_channel)
    rows = weight.reshape(len(quantized.scale), -1).double()
    steps = quantized.scale.double()[:, None]
    error = (rows - quantized.dequantize().reshape(rows.shape).double()).abs()
    assert bool((error <= steps / 2 * (1 + 1e-5)).all())
    codes = quantized.codes.reshape(rows.shape)
    top = 2 ** (bits - 1) - 1
    assert all(int(code.abs().max()) == top for code, row in zip(codes, rows, strict=True) if bool(row.any()))


@SETTINGS
@given(tensors(), BITS, st.booleans())
def test_absmax_twice_is_absmax_once(weight, bits, per_channel):
    once = quantize_symmetric(weight, bits, per_channel=per_channel)
    twice = quantize_symmetric(once.dequantize(), bits, per_channel=per_channel)
    assert torch.equal(once.codes, twice.codes)
    torch.testing.assert_close(once.dequantize(), twice.dequantize(), rtol=3e-7, atol=0)


@SETTINGS
@given(tensors(), BITS, st.booleans())
def test_mse_twice_leaves_the_weights_of_once(weight, bits, per_channel):
    once = quantize_symmetric(weight, bits, method="mse", per_channel=per_channel).dequantize()
    twice = quantize_symmetric(once, bits, method="mse", per_channel=per_channel).dequantize()
    torch.testing.assert_close(once, twice, rtol=3e-7, atol=0)


@SETTINGS
@given(tensors(), BITS, st.booleans())
def test_mse_is_never_worse_than_absmax(weight, bits, per_channel):
    best = squared_error(weight, quantize_symmetric(weight, bits, method="mse", per_channel=per_channel))
    plain = squared_error(weight, quantize_symmetric(weight, bits, per_channel=per_channel))
    # The error is accumulated from sums in double precision, so equal errors may differ in their last digits.
    assert best <= plain * (1 + 1e-6)


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 7, 8, 9, 10, 12])
def test_mse_is_the_best_of_its_clips(bits):
    weight = torch.randn(20, 30, generator=torch.Generator().manual_seed(bits))
    top = 2 ** (bits - 1) - 1
    clips = [clip / 80 for clip in range(1, 81)] if bits <= 8 else [0.8 + 0.2 * clip / 9 for clip in range(10)]
    errors = []
    for clip in clips:
        step = weight.abs().max().double() * clip / top
        codes = (weight.double() / step).round().clamp(-top, top)
        errors.append(float((codes * step - weight.double()).square().sum()))
    quantized = quantize_symmetric(weight, bits, method="mse")
    assert squared_error(weight, quantized) == pytest.approx(min(errors), rel=1e-4)
    assert float(quantized.scale * top / weight.abs().max()) == pytest.approx(clips[errors.index(min(errors))])


@pytest.mark.parametrize(
    ("bits", "clip", "weights"),
    [(2, 1 / 80, 10_000), (8, 79 / 80, 2000), (9, 0.8, 60_000), (9, 0.8 + 0.2 / 9, 60_000)],
)
def test_mse_finds_the_clip_of_most_weights(bits, clip, weights):
    # So many weights on the grid of a clip that the largest weight does not count.
    top = 2 ** (bits - 1) - 1
    codes = torch.randint(1, top + 1, (1, weights), generator=torch.Generator().manual_seed(0))
    weight = codes * (clip / top)
    weight[0, 0] = 1
    assert float(quantize_symmetric(weight, bits, method="mse").scale) == pytest.approx(clip / top)


def test_mse_of_many_channels_at_many_bits():
    # More values of grids than are tried at a time: each channel is quantized as it would be alone.
    weight = torch.randn(130, 3, generator=torch.Generator().manual_seed(0))
    scales = quantize_symmetric(weight, 12, method="mse", per_channel=True).scale
    for channel in range(0, 130, 43):
        assert scales[channel] == quantize_symmetric(weight[channel : channel + 1], 12, method="mse").scale


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_mse_pays_at_few_bits(bits):
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(bits))
    best = squared_error(weight, quantize_symmetric(weight, bits, method="mse"))
    assert best < 0.7 * squared_error(weight, quantize_symmetric(weight, bits))


@SETTINGS
@given(tensors(), BITS, METHODS)
def test_one_channel_is_one_tensor(weight, bits, method):
    row = weight.reshape(1, *weight.shape)
    one = quantize_symmetric(row, bits, method=method, per_channel=True)
    other = quantize_symmetric(row, bits, method=method, per_channel=False)
    assert torch.equal(one.codes, other.codes)
    assert torch.equal(one.scale, other.scale)


@SETTINGS
@given(tensors(min_channels=2), BITS, METHODS)
def test_each_channel_is_quantized_alone(weight, bits, method):
    together = quantize_symmetric(weight, bits, method=method, per_channel=True)
    for index in range(len(weight)):
        alone = quantize_symmetric(weight[index : index + 1], bits, method=method)
        assert torch.equal(together.codes[index : index + 1], alone.codes)
        assert together.scale[index] == alone.scale[0]


@SETTINGS
@given(tensors(), METHODS, st.booleans())
def test_more_bits_err_less(weight, method, per_channel):
    errors = [
        squared_error(weight, quantize_symmetric(weight, bits, method=method, per_channel=per_channel))
        for bits in (2, 6, 12)
    ]
    # A code times its scale is rounded to float32, so an exact value may get an error in its last digit.
    rounding = 1e-12 * float(weight.double().square().sum())
    assert errors[2] <= errors[1] * (1 + 1e-6) + rounding
    assert errors[1] <= errors[0] * (1 + 1e-6) + rounding


@pytest.mark.parametrize("method", ["absmax", "mse"])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("bits", [2, 8, 9, 12])
def test_a_tensor_of_zeros_stays_one(method, per_channel, bits):
    quantized = quantize_symmetric(torch.zeros(3, 4), bits, method=method, per_channel=per_channel)
    assert not quantized.codes.any()
    assert bool((quantized.scale > 0).all())
    assert bool(quantized.scale.isfinite().all())


@pytest.mark.parametrize("method", ["absmax", "mse"])
def test_a_channel_of_zeros_among_others(method):
    weight = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    weight[1] = 0
    quantized = quantize_symmetric(weight, 4, method=method, per_channel=True)
    assert not quantized.codes[1].any()
    assert bool(quantized.codes[[0, 2]].any(1).all())


@SETTINGS
@given(tensors(), BITS, METHODS, st.booleans())
def test_codes_follow_from_weights_and_scale(weight, bits, method, per_channel):
    quantized = quantize_symmetric(weight, bits, method=method, per_channel=per_channel)
    assert torch.equal(round_to_codes(weight, quantized.scale, bits), quantized.codes)


def test_worked_by_hand():
    # Step max|w| / (2^(3-1) - 1) = 0.9 / 3 = 0.3: the paper's rule.
    quantized = quantize_symmetric(torch.tensor([[0.9, -0.31, 0.14, 0.0, 0.46]]), 3)
    assert quantized.codes.tolist() == [[3, -1, 0, 0, 2]]
    assert quantized.scale.tolist() == pytest.approx([0.3])


def test_weights_that_require_gradients_and_other_memory_formats():
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(3))
    plain = quantize_symmetric(weight, 5, method="mse", per_channel=True)
    parameter = torch.nn.Parameter(weight.contiguous(memory_format=torch.channels_last))
    other = quantize_symmetric(parameter, 5, method="mse", per_channel=True)
    assert torch.equal(plain.codes, other.codes)
    assert not other.scale.requires_grad


@pytest.mark.parametrize("bits", [1, 13, 0, 32])
def test_bits_out_of_range(bits):
    with pytest.raises(ValueError, match=r"expected 2\.\.12 bits, found"):
        quantize_symmetric(torch.ones(2, 2), bits)


def test_unknown_method():
    with pytest.raises(ValueError, match="found 'msee'"):
        quantize_symmetric(torch.ones(2, 2), 4, method="msee")


def test_plain_quantization_needs_no_images():
    assert Quantizer() == Quantizer("mse", per_channel=False, bias_correction=False, activation_bits=None)
    assert not Quantizer().needs_layer_inputs
    assert Quantizer(bias_correction=True).needs_layer_inputs
    assert Quantizer(activation_bits=8).needs_layer_inputs
