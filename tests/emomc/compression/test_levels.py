"""Names of levels: what they are called is what they are, and nothing else is a level."""

from __future__ import annotations

import pytest

from emomc.common.errors import UserError
from emomc.compression.levels import Level, check_pattern, kind_of, patterned

NAMED = [
    (Level(80), 80, "80 %", "080"),
    (Level(50, "2:4"), "2:4", "2:4", "2-4"),
    (Level(6, "1:16"), "1:16", "1:16", "1-16"),
    (Level(50, "block:4x1"), "block:4x1:50", "block 4x1 50 %", "block-4x1-050"),
    (Level(5, "channel"), "channel:5", "channel 5 %", "channel-005"),
]


@pytest.mark.parametrize(("level", "name", "label", "slug"), NAMED)
def test_a_level_and_its_names(level, name, label, slug):
    assert (level.name, level.label, level.slug) == (name, label, slug)
    assert Level.of(name) == level


def test_levels_without_a_pattern_are_called_by_their_percentage():
    assert [Level.of(percent).name for percent in (1, 100)] == [1, 100]
    assert not patterned([100, 80])
    assert patterned([100, "2:4"])


def test_all_n_m_are_one_chain_and_each_other_pattern_is_its_own():
    assert Level.of("2:4").chain == Level.of("1:4").chain
    assert len({Level.of(name).chain for name in (50, "2:4", "block:4x1:50", "block:2x2:50", "channel:50")}) == 5
    assert [kind_of(pattern) for pattern in ("unstructured", "1:2", "block:2x2", "channel")] == [
        *("unstructured", "n:m", "block", "channel")
    ]


@pytest.mark.parametrize("name", [0, 101, "50", "4:2", "2:2", "0:4", "channel", "channel:0", "channel:1000"])
def test_other_names_are_refused(name):
    with pytest.raises(UserError, match="expected"):
        Level.of(name)


@pytest.mark.parametrize(
    "name", ["unstructured:50", "block:4:50", "block:0x4:50", "block:1x1:50", "channel:+5", "2:4:50", "", "1:\u0665"]
)
def test_what_only_looks_like_one(name):
    with pytest.raises(UserError, match="expected"):
        Level.of(name)


@pytest.mark.parametrize("pattern", ["", "channels", "2:4:8", "block", "block:4", "block:4x1:50", "10000:20000"])
def test_wrong_patterns(pattern):
    with pytest.raises(UserError, match="expected a pattern of unstructured, channel, N:M"):
        check_pattern(pattern)


def test_the_percentage_of_n_m_is_not_free():
    with pytest.raises(UserError, match="expected 50 % of the weights at a level 2:4, found 40"):
        Level(40, "2:4")
