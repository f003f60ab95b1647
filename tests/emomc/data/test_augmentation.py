import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from emomc.data.augmentation import augmented, shift_and_mirror


@settings(max_examples=30, deadline=None)
@given(
    margin=st.integers(0, 3),
    mirror=st.booleans(),
    shape=st.tuples(st.integers(1, 5), st.sampled_from([1, 3]), st.integers(1, 6), st.integers(1, 6)),
    seed=st.integers(0, 1000),
)
def test_every_image_is_a_crop_of_its_padded_self_or_of_its_mirror_image(margin, mirror, shape, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    changed = shift_and_mirror(images, margin, mirror=mirror)
    assert changed.shape == images.shape
    assert changed.dtype == torch.uint8
    height, width = shape[-2:]
    for before, after in zip(images, changed, strict=True):
        sources = [before, before.flip(-1)] if mirror else [before]
        crops = [
            functional.pad(source, (margin,) * 4)[:, row : row + height, column : column + width]
            for source in sources
            for row in range(2 * margin + 1)
            for column in range(2 * margin + 1)
        ]
        assert any(torch.equal(after, crop) for crop in crops)


def test_images_of_a_batch_move_independently_and_by_all_distances():
    torch.manual_seed(0)
    image = torch.zeros(1, 1, 9, 9, dtype=torch.uint8)
    image[..., 4, 3] = 255
    positions = {
        tuple(point)
        for point in shift_and_mirror(image.repeat(2000, 1, 1, 1), 1, mirror=True).nonzero()[:, 2:].tolist()
    }
    # Column 3 mirrored is column 5.
    assert positions == {(row, column) for row in (3, 4, 5) for column in (2, 3, 4, 5, 6)}


def test_half_of_the_images_are_mirrored():
    torch.manual_seed(0)
    image = torch.tensor([[[[1, 2]]]], dtype=torch.uint8).repeat(4000, 1, 1, 1)
    share = (shift_and_mirror(image, 0, mirror=True)[:, 0, 0, 0] == 2).float().mean()
    assert 0.46 < share < 0.54


def test_torch_s_seed_decides():
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)

    def shifted(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return shift_and_mirror(images, 4, mirror=True)

    assert torch.equal(shifted(1), shifted(1))
    assert not torch.equal(shifted(1), shifted(2))


@pytest.mark.parametrize("kind", ["shift", "random_resized_crop", "randaugment"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_kind_changes_images_alike_for_one_seed(kind, channels):
    images = torch.randint(0, 256, (6, channels, 12, 10), dtype=torch.uint8)

    def changed(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return augmented(images, kind, 2, mirror=channels == 3)

    first = changed(1)
    assert (first.shape, first.dtype) == (images.shape, torch.uint8)
    assert torch.equal(first, changed(1))
    assert not torch.equal(first, changed(2))
    # Every image is changed by itself.
    alike = augmented(images[:1].expand(6, -1, -1, -1).contiguous(), kind, 2, mirror=channels == 3)
    assert len({image.numpy().tobytes() for image in alike}) > 1


def test_none_changes_nothing():
    images = torch.randint(0, 256, (3, 3, 5, 5), dtype=torch.uint8)
    assert augmented(images, "none", 2, mirror=True) is images


def test_cutouts_stay_within_the_image():
    """Of an image of one colour, every cutout is of that colour: no border is black, unlike that of a shift."""
    images = torch.full((8, 3, 9, 9), 200, dtype=torch.uint8)
    assert torch.equal(augmented(images, "random_resized_crop", 4, mirror=True), images)
    assert not torch.equal(augmented(images, "shift", 4, mirror=True), images)
