from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.peers.points import Evaluator, Refused
from emomc.networks.layers import LayerCall, LayerShape

CALL = (LayerCall((1, 1), (1, 1)),)
LAYERS = (LayerShape("first", "linear", 4, 3, CALL), LayerShape("second", "linear", 3, 2, CALL))
EVALUATOR = Evaluator(LAYERS, validation=torch.tensor([0, 1]), test=torch.tensor([1, 1, 0]))


def result(**changes: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Weights of 2 bits with a scale a channel, of which some are zero."""
    layer = {"bits": 2, "scales": 3, "zero_points": 0, "groups": 1}
    layers = {"first": layer, "second": {**layer, "scales": 1, "bits": 8}}
    about = {"setting": "two bits", "layers": layers, "activation_bits": 8, "activation_grids": 2, "file_bytes": 70}
    arrays = {
        "weights of first": np.array([[0.5, 0, -0.5, 0], [0, 0, 0.25, 0], [-1.0, 1.0, 0, 0]]),
        "weights of second": np.linspace(1, 2, 6).reshape(2, 3),
        "validation": np.array([[1.0, 0], [1.0, 0]]),
        "test": np.array([[0, 1.0], [0, 1.0], [1.0, 0]]),
    }
    return {**about, "note": "", **changes}, arrays


def test_accuracies_are_of_the_logits_and_bytes_of_the_weights() -> None:
    point = EVALUATOR.point(*result())
    assert point.validation_accuracy == 0.5
    assert point.test_accuracy == 1.0
    # first: 12 + 5 x 2 = 22 bits, less than 12 x 2: 3 bytes, 3 scales, 3 biases; second: 6 bytes, 1 scale, 2 biases.
    assert point.size_bytes == (3 + 12 + 12) + (6 + 4 + 8) + 2 * 5
    assert point.kept == pytest.approx(11 / 18)
    assert point.mean_bits == pytest.approx((5 * 2 + 6 * 8) / 11)
    assert point.file_bytes == 70


def test_the_dense_network_is_the_base_of_percentages() -> None:
    assert EVALUATOR.dense_bytes == 4 * (12 + 6 + 3 + 2)
    about, arrays = result()
    assert 0 < EVALUATOR.point(about, arrays).energy_mj < EVALUATOR.dense_energy_mj


def test_fewer_bits_than_the_weights_need_are_refused() -> None:
    about, arrays = result()
    arrays["weights of first"][0] = [0.1, 0.2, 0.3, 0.4]
    assert EVALUATOR.point(about, arrays).mean_bits > 0
    arrays["weights of second"] = np.arange(6.0).reshape(2, 3)
    about["layers"]["second"] = {**about["layers"]["second"], "bits": 2}
    with pytest.raises(Refused, match="says 2 bits of second, gives 6 different weights where 4 are possible"):
        EVALUATOR.point(about, arrays)


def test_missing_layers_and_wrong_logits_are_refused() -> None:
    about, arrays = result()
    with pytest.raises(Refused, match="no weights of second"):
        EVALUATOR.point({**about, "layers": {"first": about["layers"]["first"]}}, arrays)
    arrays["test"] = arrays["test"][:2]
    with pytest.raises(Refused, match=r"test logits of shape \(2, 2\)"):
        EVALUATOR.point(about, arrays)


def test_pruned_channels_cost_less_energy() -> None:
    about, arrays = result()
    whole = EVALUATOR.point(about, arrays)
    arrays["weights of first"] = arrays["weights of first"][:2]
    arrays["weights of second"] = arrays["weights of second"][:, :2]
    assert EVALUATOR.point(about, arrays).energy_mj < whole.energy_mj
