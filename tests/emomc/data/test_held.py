"""Images held as pixels or as floats: the same images, the same digest, the same front."""

from __future__ import annotations

import pytest
import torch

from emomc.data.config import DataConfig
from emomc.data.splits import hold_split, load_split
from emomc.library.data_sources import build_data
from emomc.lightning_modules import image_data
from emomc.runtime.digests import tensor_digest
from emomc.search.config import SearchConfig
from emomc.search.options import RunOptions
from emomc.search.run import run_search


@pytest.fixture
def as_pixels(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(image_data, "FLOATS_LIMIT_BYTES", 1000)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_pixels_give_the_floats_and_their_digest(as_pixels, split):
    data = build_data(DataConfig())
    held = hold_split(data, split)
    images, labels = load_split(data, split)
    assert held.images.dtype == torch.uint8
    assert torch.equal(held.floats(0, len(held)), images)
    assert held.digest() == tensor_digest(images, labels)
    order = torch.randperm(len(held), generator=torch.Generator().manual_seed(0))
    turned = held.ordered(order, torch.channels_last)
    assert torch.equal(turned.floats(3, 7), images[order[3:7]])
    assert turned.digest() == tensor_digest(images[order], labels[order])


def test_few_images_are_floats():
    held = hold_split(build_data(DataConfig()), "validation")
    assert held.images.dtype == torch.float32
    assert held.prepare is None


@pytest.mark.slow
def test_a_search_on_pixels_finds_the_same_front(copy_of_library, monkeypatch):
    fronts = []
    for limit in (1000, 2**30):
        monkeypatch.setattr(image_data, "FLOATS_LIMIT_BYTES", limit)
        config = SearchConfig(population_size=4, number_generations=1)
        found = run_search(copy_of_library(f"held-{limit}"), config, run=RunOptions(name="s"))
        fronts.append([(point.genotype, point.evaluation, point.test) for point in found.front])
    assert fronts[0] == fronts[1]
