"""Rescaling by integers against exact arithmetic."""

import shutil
import subprocess
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emomc.export.c.fixed_point import MOST_SUM, fixed_point, rescaling
from emomc.export.c.kernel_library import kernels
from emomc.export.c.toolchain import COMPILER, STANDARD

SANITIZERS = ("-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all")
FACTORS = st.floats(2.0**-31, 2.0**29) | st.floats(-(2.0**29), -(2.0**-31))


@given(FACTORS)
def test_a_factor_keeps_31_bits(factor):
    found = fixed_point(np.array([factor]))
    (multiplier,), (shift,) = found.multipliers.tolist(), found.shifts.tolist()
    assert 1 <= shift <= 62
    assert 1 << 30 <= abs(multiplier) < 1 << 31
    assert abs(Fraction(multiplier, 1 << shift) / Fraction(factor) - 1) <= Fraction(1, 1 << 31)


@pytest.mark.parametrize(
    ("factor", "multiplier", "shift"),
    [
        (1.0, 1 << 30, 30),
        (-0.5, -(1 << 30), 31),
        (0.0, 0, 31),
        (1 - 2.0**-40, 1 << 30, 30),  # a mantissa that is rounded up to 1
        (2.0**-70, 0, 62),
        (2.0**-40, 1 << 22, 62),
        (2.0**40, (1 << 31) - 1, 1),
    ],
)
def test_some_factors(factor, multiplier, shift):
    found = fixed_point(np.array([factor]))
    assert (found.multipliers.tolist(), found.shifts.tolist()) == ([multiplier], [shift])


@given(
    unit=st.floats(2.0**-40, 1.0) | st.floats(-1.0, -(2.0**-40)) | st.just(0.0),
    bias=st.floats(-1000, 1000),
    most=st.integers(0, MOST_SUM),
    part=st.floats(-1, 1),
    step=st.floats(2.0**-20, 1.0),
)
@settings(max_examples=500)
def test_outputs_are_the_rounded_sums(unit, bias, most, part, step):
    found = rescaling(np.array([unit]), np.array([bias]), np.array([most]), step)
    multiplier, shift = int(found.factors.multipliers[0]), int(found.factors.shifts[0])
    start, offset = int(found.biases[0]), int(found.offsets[0])
    # The products of codes, without and with the bias.
    products = int(most * part)
    total = start + products
    assert abs(start) + most <= MOST_SUM
    assert abs(total * multiplier) + abs(offset) < 1 << 63
    exact = (products * Fraction(unit) + Fraction(bias)) / Fraction(step)
    output = Fraction(total * multiplier + offset, 1 << shift)
    # A bias is one unit of the sums off, or half a bit; what is outside of 32 bits only has to stay there.
    allowed = Fraction(abs(unit)) / Fraction(step) / 2 + (abs(exact) + abs(Fraction(bias) / Fraction(step))) / (1 << 27)
    if abs(exact) < 1 << 31:
        assert abs(output - exact) <= allowed + Fraction(1, 1 << 20)
    else:
        assert abs(output) > 1 << 30


def test_a_bias_of_whole_units_is_exact():
    found = rescaling(np.array([0.25, 0.25]), np.array([1.75, -2.0]), np.array([10, 10]), 0.5)
    assert found.biases.tolist() == [7, -8]
    assert not found.offsets.any()


def test_a_channel_whose_scale_is_zero_gives_its_bias():
    found = rescaling(np.array([0.0]), np.array([1.25]), np.array([1000]), 0.25)
    assert found.factors.multipliers.tolist() == [0]
    assert found.offsets[0] / 2.0 ** found.factors.shifts[0] == 5.0


@pytest.fixture(scope="module")
def shift_in_c(tmp_path_factory):
    """A function that gives what ``rounded_shift`` gives in C."""
    if shutil.which(COMPILER) is None:
        pytest.skip(f"no C compiler ({COMPILER}) on this machine")
    folder = tmp_path_factory.mktemp("shift")
    main = """
int main(void) {
    int64_t product;
    int shift;
    while (scanf("%" SCNd64 " %d", &product, &shift) == 2) printf("%" PRId64 "\\n", rounded_shift(product, shift));
    return 0;
}
"""
    head = "#include <inttypes.h>\n#include <stdint.h>\n#include <stdio.h>\n"
    (folder / "shift.c").write_text(head + kernels()["rounded_shift"] + main)
    command = [COMPILER, *STANDARD, *SANITIZERS, "-o", folder / "shift", folder / "shift.c"]
    subprocess.run(command, check=True)

    def run(pairs):
        text = "\n".join(f"{product} {shift}" for product, shift in pairs)
        ran = subprocess.run([folder / "shift"], input=text, capture_output=True, text=True, check=True)
        return [int(line) for line in ran.stdout.split()]

    return run


def test_c_rounds_as_exact_arithmetic_does(shift_in_c):
    random = np.random.default_rng(0)
    pairs = [(0, 1), (1, 1), (-1, 1), (3, 1), (-3, 1), (2**63 - 1, 62), (-(2**63) + 1, 62), (2**62, 1), (-(2**62), 1)]
    for shift in range(1, 63):
        near = random.integers(-1000, 1000, 20) * (1 << shift - 1) + random.integers(-1, 2, 20)
        pairs += [(int(one), shift) for one in near if abs(int(one)) < 2**63]
        pairs += [(int(one), shift) for one in random.integers(-(2**62), 2**62, 20)]
    # Python rounds halves of fractions to the even integer.
    assert shift_in_c(pairs) == [round(Fraction(product, 1 << shift)) for product, shift in pairs]
