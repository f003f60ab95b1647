import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emomc.data.batches import EpochBatches, ResidentLoader
from emomc.data.images import ArrayImages

SIZES = {"images": st.integers(1, 60), "batch_size": st.integers(1, 20), "seed": st.integers(0, 2**32)}
fast = settings(max_examples=40, deadline=None)


def batches_of(images: int, batch_size: int, epoch: int = 0, **options) -> list[torch.Tensor]:
    sampler = EpochBatches(images, batch_size, **options)
    sampler.set_epoch(epoch)
    result = list(sampler)
    assert len(sampler) == len(result)
    return result


@fast
@given(**SIZES)
def test_a_shuffled_epoch_sees_every_image_once_in_batches_of_equal_size(images, batch_size, seed):
    batches = batches_of(images, batch_size, shuffle=True, seed=seed)
    assert sorted(torch.cat(batches).tolist()) == list(range(images))
    sizes = {len(batch) for batch in batches}
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


@fast
@given(**SIZES)
def test_in_order_every_batch_is_full_but_the_last(images, batch_size, seed):
    batches = batches_of(images, batch_size, shuffle=False, seed=seed)
    assert torch.cat(batches).tolist() == list(range(images))
    assert all(len(batch) == batch_size for batch in batches[:-1])


@fast
@given(**SIZES, world_size=st.integers(1, 5))
def test_devices_get_equal_shares_that_cover_all_images(images, batch_size, seed, world_size):
    shares = [
        batches_of(images, batch_size, shuffle=True, seed=seed, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    assert len({tuple(len(batch) for batch in share) for share in shares}) == 1
    seen = torch.cat([batch for share in shares for batch in share])
    assert len(seen) < images + world_size
    assert set(seen.tolist()) == set(range(images))


def test_the_order_is_a_function_of_seed_and_epoch_alone():
    def order(seed: int, epoch: int) -> list[int]:
        return torch.cat(batches_of(50, 7, epoch, shuffle=True, seed=seed)).tolist()

    assert order(3, 4) == order(3, 4)
    # Seed + epoch would make the first two equal.
    assert len({tuple(order(seed, epoch)) for seed, epoch in [(3, 4), (4, 3), (3, 5), (0, 0)]}) == 4


def test_the_resident_loader_gives_images_with_their_labels():
    images = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(10, 3, 2, 2)
    loader = ResidentLoader(ArrayImages(images, torch.arange(10) * 2), EpochBatches(10, 6, shuffle=True))
    assert len(loader) == 2
    for pixels, labels in loader:
        assert pixels.dtype == torch.uint8
        assert pixels.shape[1:] == (3, 2, 2)
        assert torch.equal(pixels[:, 0, 0, 0] * 2, labels)


@pytest.mark.parametrize("world_size", [1, 3])
def test_no_images_are_no_batches(world_size):
    assert batches_of(0, 4, shuffle=True, world_size=world_size) == []
