"""Batches and blocks of images in memory."""

from __future__ import annotations

import itertools

import pytest
import torch

from emomc.data.resident import ResidentBatches, ResidentBlocks


def labels_of(loader):
    return [labels.tolist() for _, labels in loader]


def blocks_of(images, batch_size):
    return ResidentBlocks(torch.arange(float(images)).view(images, 1, 1, 1), torch.arange(images), batch_size)


def test_batches_cover_the_images_in_order_as_often_as_asked():
    batches = ResidentBatches(torch.arange(10.0).view(10, 1, 1, 1), torch.arange(10), 4)
    assert len(batches) == 3
    assert labels_of(batches) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert labels_of(batches) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


class TestBlocks:
    @pytest.mark.parametrize("images", [1, 4, 5, 39, 40, 41])
    @pytest.mark.parametrize("stoppable", [True, False])
    def test_cover_the_rest_in_order_and_end_with_whole_batches(self, images, stoppable):
        blocks = blocks_of(images, 4)
        for seen in range(0, images, 4):
            blocks.begin(seen, stoppable=stoppable)
            parts = labels_of(blocks)
            assert len(parts) == len(blocks)
            assert list(itertools.chain(*parts)) == list(range(seen, images))
            assert all(len(part) % 4 == 0 for part in parts[:-1])
            if not stoppable:
                assert len(parts) == 1

    def test_are_two_batches_long_but_the_first(self):
        blocks = blocks_of(42, 4)
        assert list(map(len, labels_of(blocks))) == [4, 8, 8, 8, 8, 6]
        blocks.begin(8, stoppable=True)
        assert list(map(len, labels_of(blocks))) == [4, 8, 8, 8, 6]

    def test_images_stay_with_their_labels(self):
        for images, labels in blocks_of(41, 4):
            assert images.flatten().long().tolist() == labels.tolist()

    def test_stop_ends_one_iteration_and_no_other(self):
        blocks = blocks_of(20, 4)
        blocks.begin(4, stoppable=True)
        seen = []
        for _, labels in blocks:
            seen += labels.tolist()
            blocks.stop()
        assert seen == [4, 5, 6, 7]
        blocks.begin(0, stoppable=True)
        assert list(itertools.chain(*labels_of(blocks))) == list(range(20))
