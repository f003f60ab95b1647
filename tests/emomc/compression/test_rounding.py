"""Learned rounding: outputs change less than with the nearest codes, zeros stay, and the result is always the same."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emomc.compression import rounding
from emomc.compression.quantization import quantize_symmetric, round_to_codes, weight_of_codes
from emomc.compression.rounding import MOST_LEARNED_BITS, learn_rounding

SETTINGS = settings(max_examples=25, deadline=None)
BITS = st.sampled_from(range(2, MOST_LEARNED_BITS + 1))


def learned_for(weight, nearest, products, **options):
    """The learned codes for one number of bits."""
    return learn_rounding(weight, [nearest], products, **options)[0]


def problem(seed, *, outputs=6, inputs=20, blocks=1, density=1.0):
    """Weights with zeros, and inputs that depend on each other: (blocks, n, samples), and their mean products."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, generator=generator)
    weight *= torch.rand(weight.shape, generator=generator) < density
    n = inputs // blocks
    mix = torch.randn(blocks, n, n, generator=generator, dtype=torch.float64)
    samples = mix @ torch.randn(blocks, n, 50, generator=generator, dtype=torch.float64).relu()
    return weight, samples, samples @ samples.mT / 50


def output_error(weight, quantized, products):
    """The mean squared change of the outputs, all channels together."""
    error = (quantized.dequantize() - weight).double()
    blocks = error.reshape(len(error), len(products), -1).transpose(0, 1)
    return float((blocks @ products * blocks).sum())


@SETTINGS
@given(st.integers(0, 10_000), BITS, st.sampled_from(["absmax", "mse"]), st.booleans(), st.sampled_from([1, 4]))
def test_outputs_change_no_more_than_with_the_nearest_codes(seed, bits, method, per_channel, blocks):
    weight, _, products = problem(seed, blocks=blocks, density=0.6)
    nearest = quantize_symmetric(weight, bits, method=method, per_channel=per_channel)
    learned = learned_for(weight, nearest, products, price=0)
    # What is minimised has a hundredth of the mean curvature added; and sums are of whole numbers.
    damping = torch.eye(products.shape[1]) * products.diagonal(dim1=1, dim2=2).mean() / 100
    found, allowed = (output_error(weight, codes, products + damping) for codes in (learned, nearest))
    assert found <= allowed * 1.001


def test_outputs_change_much_less_where_inputs_depend_on_each_other():
    weight, _, products = problem(0, outputs=16, inputs=64)
    nearest = quantize_symmetric(weight, 3, method="mse", per_channel=True)
    learned = learned_for(weight, nearest, products, price=0)
    assert output_error(weight, learned, products) < 0.5 * output_error(weight, nearest, products)


@SETTINGS
@given(st.integers(0, 10_000), BITS, st.booleans(), st.sampled_from([0, 0.2, 3]))
def test_zeros_stay_zero_and_codes_are_in_range(seed, bits, per_channel, price):
    weight, _, products = problem(seed, density=0.4)
    nearest = quantize_symmetric(weight, bits, per_channel=per_channel)
    learned = learned_for(weight, nearest, products, price=price)
    assert not learned.codes[weight == 0].any()
    assert int(learned.codes.abs().max()) <= 2 ** (bits - 1) - 1
    assert (learned.codes.dtype, learned.bits) == (torch.int8, bits)
    assert learned.scale.shape == nearest.scale.shape
    assert (learned.scale > 0).all()


@SETTINGS
@given(st.integers(0, 10_000), BITS, st.sampled_from(["absmax", "mse"]))
def test_inputs_that_do_not_depend_on_each_other_give_the_nearest_codes(seed, bits, method):
    weight, _, _ = problem(seed, density=0.7)
    products = torch.eye(weight.shape[1], dtype=torch.float64)[None]
    learned = learned_for(weight, quantize_symmetric(weight, bits, method=method, per_channel=True), products, price=0)
    # A weight between two codes, to within the fraction of a code that targets are rounded to, may take either.
    off = (learned.dequantize() - weight).abs() / learned.scale[:, None]
    inside = weight.abs() <= learned.scale[:, None] * (2 ** (bits - 1) - 1)
    assert float(off[inside].max()) <= 0.5 + 1 / 1024


def test_weights_on_the_grid_stay_as_they_are():
    codes = torch.randint(-7, 8, (5, 12), generator=torch.Generator().manual_seed(0))
    codes[:, 0] = 7
    weight = codes * torch.tensor([0.5, 0.25, 1.0, 2.0, 4.0])[:, None]
    _, _, products = problem(1, inputs=12)
    nearest = quantize_symmetric(weight, 4, per_channel=True)
    learned = learned_for(weight, nearest, products, price=0)
    assert torch.equal(learned.dequantize(), weight)


def test_each_group_is_rounded_by_its_own_inputs():
    weight, _, products = problem(3, outputs=8, inputs=6)
    both = torch.stack([products[0], problem(4, inputs=6)[2][0] * products.amax()])
    both = both / both.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
    nearest = quantize_symmetric(weight, 3, method="mse", per_channel=True)
    whole = learned_for(weight, nearest, both, groups=2, price=0)
    for group, rows in enumerate((slice(0, 4), slice(4, 8))):
        part = quantize_symmetric(weight[rows], 3, method="mse", per_channel=True)
        alone = learned_for(weight[rows], part, both[group : group + 1], price=0)
        error = output_error(weight[rows], alone, both[group : group + 1])
        mine = type(alone)(whole.codes[rows], whole.scale[rows], 3)
        assert output_error(weight[rows], mine, both[group : group + 1]) == pytest.approx(error, rel=0.02)


def test_blocks_are_a_matrix_whose_other_products_are_zero():
    weight, _, products = problem(5, inputs=24, blocks=3)
    nearest = quantize_symmetric(weight, 3, per_channel=True)
    split = learned_for(weight, nearest, products)
    whole = learned_for(weight, nearest, torch.block_diag(*products)[None])
    assert torch.equal(split.codes, whole.codes)
    assert torch.allclose(split.scale, whole.scale, rtol=1e-6)


@pytest.mark.parametrize("panel", [1, 7, 1000])
def test_the_result_is_the_same_to_the_bit_in_any_order_of_summation(panel, monkeypatch):
    weight, _, products = problem(6, outputs=32, inputs=240, blocks=2, density=0.5)
    nearest = quantize_symmetric(weight, 3, method="mse", per_channel=True)
    first = learned_for(weight, nearest, products)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        monkeypatch.setattr(rounding, "_PANEL", panel)
        again = learned_for(weight, nearest, products)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(first.codes, again.codes)
    assert torch.equal(first.scale, again.scale)


@SETTINGS
@given(st.integers(0, 10_000), BITS)
def test_all_sums_are_whole_numbers_that_floats_hold(seed, bits):
    """The largest block, the largest products and codes that are as wrong as they can be."""
    n = 256
    bound = n * rounding._LARGEST_PRODUCT * 1.01 * rounding._FRACTION * (rounding._FARTHEST + 2 ** (bits - 1))
    assert bound < 2**53
    weight, _, products = problem(seed, inputs=n)
    whole = rounding._whole_numbers(products)
    assert torch.equal(whole, whole.round())
    assert torch.equal(whole, whole.mT)
    assert rounding._LARGEST_PRODUCT / 2 <= float(whole.abs().max()) <= rounding._LARGEST_PRODUCT * 1.01
    target = rounding._targets(weight.double(), torch.full_like(weight, 1e-9).double())
    assert torch.equal(target, target.round())
    assert float(target.abs().max()) == rounding._FARTHEST * rounding._FRACTION


def test_a_higher_price_leaves_fewer_nonzero_codes():
    weight, _, products = problem(7, outputs=32, inputs=60)
    nearest = quantize_symmetric(weight, 3, method="mse", per_channel=True)
    counts = [
        int(learned_for(weight, nearest, products, price=price).codes.count_nonzero()) for price in (0, 0.3, 1, 1e9)
    ]
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) == 4
    assert counts[-1] == 0


@pytest.mark.parametrize("largest", [0.0, 1e-320])
def test_inputs_that_are_always_zero_say_nothing(largest):
    weight, _, products = problem(8)
    nearest = quantize_symmetric(weight, 3)
    assert learned_for(weight, nearest, torch.full_like(products, largest)) is nearest


def test_an_input_that_never_varies_costs_nothing():
    """With the bias corrected for its mean, its weights have no effect: they become zero."""
    weight, _, products = problem(9)
    products[:, 3] = products[:, :, 3] = 0
    learned = learned_for(weight, quantize_symmetric(weight, 3, per_channel=True), products)
    assert not learned.codes[:, 3].any()
    assert learned.codes[:, 4].any()


@SETTINGS
@given(st.integers(0, 10_000), BITS)
def test_weights_to_train_start_at_the_codes_and_else_as_they_were(seed, bits):
    weight, _, products = problem(seed, density=0.7)
    learned = learned_for(weight, quantize_symmetric(weight, bits, per_channel=True), products)
    start = weight_of_codes(weight, learned)
    assert torch.equal(round_to_codes(start, learned.scale, bits), learned.codes)
    kept = round_to_codes(weight, learned.scale, bits) == learned.codes
    assert torch.equal(start[kept], weight[kept])


@SETTINGS
@given(st.integers(0, 10_000), st.lists(BITS, min_size=1, max_size=5, unique=True), st.booleans())
def test_several_numbers_of_bits_at_once_give_what_each_gives_alone(seed, widths, per_channel):
    weight, _, products = problem(seed, blocks=2, density=0.7)
    starts = [quantize_symmetric(weight, bits, method="mse", per_channel=per_channel) for bits in widths]
    together = learn_rounding(weight, starts, products)
    for start, found in zip(starts, together, strict=True):
        alone = learned_for(weight, start, products)
        assert found.bits == start.bits
        assert torch.equal(found.codes, alone.codes)
        assert torch.equal(found.scale, alone.scale)
