"""Libraries of several patterns: a chain of levels each, as they are asked for."""

from __future__ import annotations

import shutil
from itertools import pairwise

import pytest
import torch

from emomc.common.errors import UserError
from emomc.compression.levels import Level
from emomc.library.library import Library
from emomc.library.manifest import MANIFEST
from emomc.networks.layers import output_first
from emomc.pretraining.config import PretrainingConfig


def masks_of(library, level):
    return library.load_masks(level, library.load_state(level))


def test_each_pattern_has_its_own_levels(patterned_library):
    names = {name for name in patterned_library.levels if name != 100}
    chained = {f"{pattern}:{percent}" for pattern in ("block:4x1", "channel") for percent in (80, 50, 20)}
    assert names == {80, 50, 20, "2:4", "1:4"} | chained
    orders = [record.level.order for record in patterned_library.manifest.levels]
    assert orders == sorted(orders, reverse=True)
    assert Library.open(patterned_library.path).manifest == patterned_library.manifest


def test_levels_without_a_pattern_are_those_of_a_library_without_patterns(patterned_library, shared_library):
    for name in shared_library.levels:
        assert patterned_library.record(name) == shared_library.record(name)


def test_settings_of_channels_are_those_of_the_levels_that_are_there(
    shared_library, patterned_library, prepare, tmp_path
):
    assert "channel_multiple" not in shared_library.manifest.settings
    assert patterned_library.manifest.settings["channel_multiple"] == 2
    copied = Library.open(shutil.copytree(patterned_library.path, tmp_path / "run" / "library"))
    before = (copied.path / MANIFEST).read_bytes()
    with pytest.raises(UserError, match="channel_multiple = 4, found 2"):
        prepare(copied.path.parent, pattern=["channel"], channel_multiple=4)
    with pytest.raises(UserError, match="channel_importance = 'taylor', found 'magnitude'"):
        prepare(copied.path.parent, pattern=["channel"], channel_multiple=2, channel_importance="taylor")
    # Without channels nothing is asked of them.
    assert prepare(copied.path.parent).levels == copied.levels
    assert (copied.path / MANIFEST).read_bytes() == before


def test_the_masks_are_exact(patterned_library):
    for layer in patterned_library.manifest.compressed_layers:
        two = output_first(masks_of(patterned_library, "2:4")[layer.name], layer)
        inputs = two.shape[1] - two.shape[1] % 4
        assert (two[:, :inputs].unflatten(1, (-1, 4)).sum(2) == 2).all() if inputs else two.sum(1).max() <= 2
        block = output_first(masks_of(patterned_library, "block:4x1:50")[layer.name], layer)
        rows = block.shape[0] - block.shape[0] % 4
        whole = block[:rows].unflatten(0, (-1, 4))
        assert torch.equal(whole.all(1), whole.any(1))
        channel = output_first(masks_of(patterned_library, "channel:50")[layer.name], layer)
        channel = channel.reshape(*channel.shape[:2], -1).any(2)
        assert torch.equal(channel, channel.any(1, keepdim=True) & channel.any(0, keepdim=True))


@pytest.mark.parametrize("chain", ["channel", "block:4x1"])
def test_levels_of_a_chain_are_nested(patterned_library, chain):
    levels = [record.name for record in patterned_library.manifest.levels if record.pattern == chain]
    for above, below in pairwise(levels):
        more, fewer = masks_of(patterned_library, above), masks_of(patterned_library, below)
        assert all((fewer[name] <= more[name]).all() for name in more)
    more, fewer = masks_of(patterned_library, "2:4"), masks_of(patterned_library, "1:4")
    assert all((fewer[name] <= more[name]).all() for name in more)


def test_a_level_of_channels_has_at_most_its_weights(patterned_library):
    total = sum(layer.weights for layer in patterned_library.manifest.compressed_layers)
    for record in patterned_library.manifest.levels:
        if record.pattern == "channel":
            assert sum(record.remaining.values()) <= record.percent / 100 * total


def test_patterns_can_be_added(library, prepare):
    before = {record.name: record.sha256 for record in library.manifest.levels}
    added = prepare(library.path.parent, pattern=["unstructured", "1:2"])
    assert set(added.levels) == {100, 80, 50, "1:2", 20}
    assert {name: added.record(name).sha256 for name in before} == before


def test_the_levels_that_are_asked_for():
    config = PretrainingConfig(pattern=["2:4", "channel", "1:4"], pre_prune_step=30)
    assert config.levels == ("2:4", "1:4", "channel:80", "channel:50", "channel:20")
    assert all(Level.of(name) for name in config.levels)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pattern": []}, "expected one pattern or more, such as unstructured, found none"),
        ({"pattern": ["2:4", "2:4"]}, "expected patterns that differ, found 2:4 2:4"),
        ({"pattern": ["4:2"]}, "expected a pattern of unstructured, channel, N:M with N < M such as 2:4"),
        ({"channel_multiple": 0}, "expected a channel_multiple of 1..1024, found 0"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(UserError, match=message):
        PretrainingConfig(**settings)
