"""The bytes that docs/format.md shows are those of the writer."""

import re
from pathlib import Path

import numpy as np

from emomc.compression.activation_grid import ActivationGrid
from emomc.packed_file.network import NetworkDescription, PackedLayer, PackedNetwork
from emomc.packed_file.writer import pack_bytes

PAGE = (Path(__file__).parents[3] / "docs" / "format.md").read_text(encoding="utf-8")


def test_the_whole_file_of_the_page():
    description = NetworkDescription("tiny.py:Tiny", {}, None, (1, 2, 3), ("a", "b"), (0.5,), (0.25,))
    codes = np.array([[0, 3, 0, 0, 0, 0], [0, -1, 2, 0, 0, 0]], np.int8)
    weights = np.array([[1, -2], [0.5, 0]], np.float32)
    scales = np.array([0.5, -0.375], np.float32)
    layers = (
        PackedLayer("fc", 3, codes, scales, ActivationGrid(8, signed=True, step=1 / 64), half_scales=True),
        PackedLayer("out", 32, weights, np.zeros(0, np.float32), ActivationGrid(4, signed=False, step=0.25)),
    )
    tensors = {"fc.bias": np.array([1, -1], np.float16), "steps": np.array(7, np.int64)}
    data = pack_bytes(PackedNetwork(description, layers, tensors), "best")
    (block,) = re.findall(r"```\n( +0  .*?)```", PAGE, re.DOTALL)
    shown = b""
    for line in block.splitlines():
        offset, numbers = re.fullmatch(r" *(\d+)  ((?:[0-9a-f]{2} {1,2})+) ?.*", line).groups()
        assert int(offset) == len(shown)
        shown += bytes.fromhex(numbers)
    assert shown == data
