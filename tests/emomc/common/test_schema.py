"""Values from files become dataclasses of the right types, or one line."""

from __future__ import annotations

import dataclasses
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emomc.common.errors import UserError, require
from emomc.common.json_values import parse_json
from emomc.common.schema import checked


@dataclasses.dataclass(frozen=True)
class Inner:
    size: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Outer:
    name: str
    share: float
    inner: tuple[Inner, ...]
    note: str | None = None

    def __post_init__(self) -> None:
        require(self.share <= 1, "a share of at most 1", self.share)


GOOD = {"name": "a", "share": 1, "inner": [{"size": [1, 2]}]}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def test_lists_become_tuples_and_dataclasses():
    assert checked(Outer, {**GOOD, "unknown": 1}, "an outer") == Outer("a", 1.0, (Inner((1, 2)),))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], "expected an outer, found a list"),
        ({"name": "a"}, "expected an outer with an entry share, found none"),
        ({**GOOD, "share": "1"}, "expected an outer with a number as share, found '1'"),
        ({**GOOD, "share": True}, "with a number as share, found True"),
        ({**GOOD, "share": 2}, "expected a share of at most 1, found 2.0"),
        ({**GOOD, "inner": [{"size": [1, 2.5]}]}, "with a whole number as inner[0].size[1], found 2.5"),
        ({**GOOD, "inner": [{"size": [1, 10**400]}]}, "a whole number of 401 digits"),
        ({**GOOD, "share": float("nan")}, "a number that is not finite"),
        ({**GOOD, "name": {1, 2}}, "found values that are not plain"),
        ({**GOOD, "name": "x" * 500, "note": 5 * ["y" * 500]}, "with a text as note, found ["),
    ],
)
def test_a_wrong_value_is_named_in_one_line(values, words):
    with pytest.raises(UserError) as caught:
        checked(Outer, values, "an outer")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_unknown_names_are_refused_where_a_person_writes():
    with pytest.raises(UserError, match="expected an outer, found the unknown entry 'nmae'"):
        checked(Outer, {**GOOD, "nmae": "b"}, "an outer", known_only=True)


@settings(max_examples=300, deadline=None)
@given(key=st.sampled_from(["name", "share", "inner", "note"]), value=JSON)
def test_any_value_in_any_place_fits_or_is_one_line(key, value):
    try:
        found = checked(Outer, {**GOOD, key: value}, "an outer")
    except UserError as error:
        message = str(error)
    else:
        message = ""
        assert isinstance(found.name, str)
        assert isinstance(found.share, float)
    assert "\n" not in message


@pytest.mark.parametrize(
    "text",
    ['"\x1b"', '{"\\u0007": 1}', "1e999", "-Infinity", "NaN", "9" * 19, "[" * (20 * sys.getrecursionlimit()), "{", ""],
)
def test_numbers_of_a_file_are_bounded(text):
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


def test_usual_numbers_are_read():
    assert parse_json("[1, -2.5, 1e-300, 999999999999999999]") == [1, -2.5, 1e-300, 999999999999999999]
