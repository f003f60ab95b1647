"""What came out of a tool, measured by one evaluator: accuracy from logits, bytes and energy from weights and bits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.peers.sizes import StoredLayer, network_bytes
from emomc.hardware.description import load_hardware
from emomc.hardware.energy import estimate_energy
from emomc.hardware.workload import Workload
from emomc.networks.layers import LayerShape

DATAFLOW, HARDWARE = "xy", "emomc_fpga"
"""The one cost model of energy."""
FLOAT_BITS = 32

Array = NDArray[Any]


class Refused(Exception):
    """A result does not hold what it says."""


@dataclasses.dataclass(frozen=True)
class Point:
    """A compressed network."""

    setting: str
    """What the tool was asked for."""
    validation_accuracy: float
    """0..1."""
    test_accuracy: float
    """0..1."""
    size_bytes: int
    """By the rule of ``sizes.py``."""
    energy_mj: float
    """Of one image."""
    mean_bits: float
    """Of a weight that is kept."""
    kept: float
    """Share of the dense network's weights that are not zero, 0..1."""
    activation_bits: int | None
    """None: floats."""
    seconds: float | None
    """That the tool took; None: not measured for each network."""
    file_bytes: int | None
    """Of the tool's own file; None: it writes none with these weights."""
    note: str = ""


class Evaluator:
    """Measures networks that were made of one dense network."""

    def __init__(self, layers: Sequence[LayerShape], validation: Tensor, test: Tensor) -> None:
        """Set what does not change.

        Args:
            layers: of the dense network.
            validation: labels of the images, (n,).
            test: likewise.
        """
        self._layers = tuple(layers)
        self._labels = {"validation": validation.numpy(), "test": test.numpy()}
        self._hardware = load_hardware(HARDWARE)

    @property
    def dense_bytes(self) -> int:
        """Bytes of the dense network in float32, norms folded."""
        whole = [StoredLayer(one.weights, one.weights, FLOAT_BITS, one.out_channels) for one in self._layers]
        return network_bytes(whole)

    @property
    def dense_energy_mj(self) -> float:
        """Energy of one image of the dense network with weights of 32 bits."""
        ones = np.ones((1, len(self._layers)))
        return self._energy(self._layers, FLOAT_BITS * ones, ones, None, None)

    def point(self, about: Mapping[str, Any], arrays: Mapping[str, Array]) -> Point:
        """Return the point of a compressed network.

        Args:
            about: what ``scripts/problem.py`` writes of it.
            arrays: its logits and weights, as that writes them.

        Raises:
            Refused: the weights have more values than their bits can tell apart, or something is missing.
        """
        missing = {layer.name for layer in self._layers} - {*about["layers"]}
        if missing:
            raise Refused(f"gives no weights of {', '.join(sorted(missing))}")
        stored, shapes = [], []
        for shape in self._layers:
            weights, layer = arrays[f"weights of {shape.name}"], about["layers"][shape.name]
            _check_bits(shape.name, weights, layer["bits"], layer["scales"])
            kept = int(np.count_nonzero(weights))
            scales = (layer["scales"], layer["zero_points"])
            stored.append(StoredLayer(weights.size, kept, layer["bits"], len(weights), *scales))
            channels = {"in_channels": weights.shape[1] * layer["groups"], "out_channels": len(weights)}
            shapes.append(dataclasses.replace(shape, **channels, groups=layer["groups"]))
        accuracies = (self._accuracy(arrays["validation"], "validation"), self._accuracy(arrays["test"], "test"))
        return self.measured(about, accuracies, shapes, stored)

    def measured(
        self,
        about: Mapping[str, Any],
        accuracies: tuple[float, float],
        shapes: Sequence[LayerShape],
        stored: Sequence[StoredLayer],
    ) -> Point:
        """Return the point of a network whose accuracies are counted.

        Args:
            about: setting, bits and grids of activations, seconds, bytes of its own file.
            accuracies: of the validation and of the test images, 0..1.
            shapes: its layers, fewer channels included.
            stored: what is stored of each.
        """
        bits, kept, weights, coded = (
            np.array([[getattr(one, key) for one in stored]]) for key in ("bits", "kept", "weights", "code_bits")
        )
        return Point(
            about["setting"],
            *accuracies,
            size_bytes=network_bytes(stored, about["activation_grids"]),
            energy_mj=self._energy(shapes, bits, kept / weights, coded, about["activation_bits"]),
            mean_bits=float((bits * kept).sum() / kept.sum()),
            kept=float(kept.sum() / sum(layer.weights for layer in self._layers)),
            activation_bits=about["activation_bits"],
            seconds=about.get("seconds"),
            file_bytes=about["file_bytes"],
            note=about["note"],
        )

    def points(self, results: Sequence[Mapping[str, Any]], folder: Path) -> list[Point]:
        """Return the points of the results that a peer wrote into a folder; those that failed have none."""
        points = []
        for about in results:
            if "failed" not in about:
                with np.load(folder / about["arrays"], allow_pickle=False) as arrays:
                    points.append(self.point(about, arrays))
        return points

    def _accuracy(self, logits: Array, split: str) -> float:
        labels = self._labels[split]
        if logits.shape[:1] != labels.shape or not np.isfinite(logits).all():
            raise Refused(f"gives {split} logits of shape {logits.shape}, or not finite ones, for {len(labels)} images")
        return float((logits.argmax(1) == labels).mean())

    def _energy(
        self, layers: Sequence[LayerShape], bits: Array, density: Array, coded: Array | None, activations: int | None
    ) -> float:
        workload = Workload(layers, bits, density, coded, activations)
        return float(estimate_energy(workload, dataflow=DATAFLOW, hardware=self._hardware).item())


def _check_bits(name: str, weights: Array, bits: int, scales: int) -> None:
    """Check that codes of so many bits, each times a scale, can be these weights."""
    if bits >= FLOAT_BITS:
        return
    groups = weights.reshape(len(weights), -1) if scales == len(weights) else weights.reshape(1, -1)
    allowed = 2**bits * (1 if scales in (1, len(weights)) else scales)
    found = max(len(np.unique(group)) for group in groups)
    if found > allowed:
        raise Refused(f"says {bits} bits of {name}, gives {found} different weights where {allowed} are possible")
