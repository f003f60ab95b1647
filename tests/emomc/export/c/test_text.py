import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emomc.export.c.text import WIDTH, float_text, identifier, lines_of


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_number_in_c_is_the_very_float32(number):
    text = float_text(number)
    assert re.fullmatch(r"-?\d+\.\d+(e[+-]\d+)?f", text)
    assert np.float32(text.removesuffix("f")) == np.float32(number)


def test_infinity_has_a_name():
    assert [float_text(number) for number in (np.inf, -np.inf)] == ["INFINITY", "-INFINITY"]


@given(st.text(st.characters(max_codepoint=0x2FF), max_size=20))
def test_names_of_functions(name):
    assert re.fullmatch(r"[a-z][a-z0-9_]*", identifier(name))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("LeNet-5 (digits)", "lenet_5_digits"), ("5", "network_5"), ("", "network"), ("é", "network")],
)
def test_names_of_files_become_names_of_functions(name, expected):
    assert identifier(name) == expected


@given(st.lists(st.integers(0, 255).map(str), min_size=1, max_size=200))
def test_lines_hold_every_item_in_order(items):
    text = lines_of(items)
    assert [item.strip() for item in text.replace("\n", "").split(",") if item.strip()] == items
    assert all(len(line) <= WIDTH + 4 for line in text.splitlines())
