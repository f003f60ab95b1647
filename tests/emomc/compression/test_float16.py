import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emomc.common.errors import UserError
from emomc.compression.float16 import EXPONENTS, join_scales, round_bias, round_scales, split_scales

numbers = st.floats(2**-20, 1, width=32) | st.just(0.0)
scales = st.builds(
    lambda values, exponent: np.ldexp(np.array(values, np.float32), exponent),
    st.lists(numbers | numbers.map(lambda value: -value), min_size=1, max_size=8),
    st.integers(-95, 127),
)


@given(scales)
def test_scales_are_rounded_by_at_most_half_of_float16s_last_digit(given_scales):
    rounded = round_scales(torch.from_numpy(given_scales)).numpy()
    assert rounded.dtype == np.float32
    assert (np.abs(rounded.astype(np.float64) - given_scales) <= np.abs(given_scales.astype(np.float64)) / 2048).all()
    np.testing.assert_array_equal(np.sign(rounded), np.sign(given_scales))


@given(scales)
def test_rounded_scales_are_rounded_once_and_kept_exactly(given_scales):
    rounded = round_scales(torch.from_numpy(given_scales))
    assert torch.equal(round_scales(rounded), rounded)
    exponent, halves = split_scales(rounded.numpy())
    assert exponent in EXPONENTS
    assert np.abs(halves).max() == 0 or 2**14 <= np.abs(halves).max() < 2**15
    np.testing.assert_array_equal(join_scales(exponent, halves), rounded.numpy())


def test_the_largest_may_become_a_power_of_two():
    almost = torch.tensor([np.nextafter(np.float32(1), np.float32(0)), 2**-29 * 1.4])
    rounded = round_scales(almost)
    assert rounded[0] == 1
    assert split_scales(rounded.numpy())[0] == -14


def test_what_is_far_below_the_largest_loses_digits_not_its_size():
    rounded = round_scales(torch.tensor([1.0, 1.1 * 2**-32]))
    assert rounded[1] == pytest.approx(1.1 * 2**-32, rel=0.05)


def test_scales_that_were_not_rounded_are_refused():
    with pytest.raises(
        UserError, match="expected scales that are float16 numbers times one power of two, found others"
    ):
        split_scales(np.array([1, 1 / 3], np.float32))


@pytest.mark.parametrize("exponent", [-116, 115])
def test_powers_of_two_that_float32_cannot_hold_are_refused(exponent):
    with pytest.raises(UserError, match=f"expected a power of two of -115 to 114, found {exponent}"):
        join_scales(exponent, np.ones(2, np.float16))


def test_biases_are_float16_numbers():
    bias = torch.tensor([0.1, -3.3, 65504.0])
    assert torch.equal(round_bias(bias, "conv"), bias.half().float())
    with pytest.raises(UserError, match="expected biases of conv of at most 65504, found 70000: use --scales float32"):
        round_bias(torch.tensor([1.0, -70000.0]), "conv")
