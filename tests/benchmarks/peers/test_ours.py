from __future__ import annotations

import pytest
import torch

from benchmarks.peers.ours import front_point
from benchmarks.peers.points import Evaluator
from emomc.networks.layers import LayerCall, LayerShape

CALL = (LayerCall((1, 1), (1, 1)),)
LAYERS = [LayerShape("first", "linear", 40, 3, CALL), LayerShape("second", "linear", 3, 2, CALL)]


def test_a_point_of_a_front_is_counted_as_the_others_are() -> None:
    evaluator = Evaluator(LAYERS, validation=torch.zeros(1).long(), test=torch.zeros(1).long())
    of_front = {
        "level": 30,
        "bits": {"first": 4, "second": 8},
        "density": {"first": 0.25, "second": 1.0},
        "validation_accuracy": 0.9,
        "test_accuracy": 0.8,
        "size_bytes": 77,
    }
    point = front_point(evaluator, LAYERS, "size", of_front)
    # first: 120 + 30 x 4 bits = 30 bytes, 3 scales and 3 biases; second: 6 bytes, 2 scales and 2 biases.
    assert point.size_bytes == (30 + 24) + (6 + 16)
    assert (point.validation_accuracy, point.test_accuracy, point.file_bytes) == (0.9, 0.8, 77)
    assert point.kept == pytest.approx(36 / 126)
    assert point.setting == "for size: level 30 %, bits 4 8"
    assert point.activation_bits is None
    assert 0 < point.energy_mj < evaluator.dense_energy_mj
