"""Networks of many layers are measured on fewer images."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emomc.pretraining import measured_images
from emomc.pretraining.measured_images import images_to_measure


@pytest.fixture(autouse=True, scope="module")
def as_shipped():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measured_images, "MOST", 512)
        yield


@pytest.mark.parametrize(("layers", "images"), [(1, 512), (5, 512), (10, 256), (50, 51), (80, 32), (500, 32)])
def test_few_layers_have_many_images(layers, images):
    assert images_to_measure(layers) == images


@given(st.integers(1, 2000))
def test_more_layers_never_have_more_images(layers):
    assert images_to_measure(layers + 1) <= images_to_measure(layers)
