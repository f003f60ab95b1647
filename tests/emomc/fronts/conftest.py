"""An invented front of LeNet-5, for the tests of code that reads fronts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

_LAYERS = {  # name: (kind, in, out, kernel, output side, weights, multiply-accumulates)
    "conv1": ("conv", 1, 6, 5, 28, 150, 117_600),
    "conv2": ("conv", 6, 16, 5, 10, 2_400, 240_000),
    "fc1": ("linear", 400, 120, 1, 1, 48_000, 48_000),
    "fc2": ("linear", 120, 84, 1, 1, 10_080, 10_080),
    "fc3": ("linear", 84, 10, 1, 1, 840, 840),
}


def _energy_mj(macs: int, weights: int, density: float, bits: int) -> dict[str, float]:
    pj = {
        "mac": 1.02 * macs * density * (bits + 1),
        "input": 7.28 * macs * density * 0.25,
        "weight": 7.28 * weights * (bits + 1) / 16,
        "output": 4.47 * macs * 0.04,
        "dram": 0.0,
    }
    return {part: value * 1e-9 for part, value in pj.items()}


def _costs(density: float, bits: dict[str, int]) -> dict[str, Any]:
    energy = {name: _energy_mj(row[6], row[5], density, bits[name]) for name, row in _LAYERS.items()}
    size = {name: int(np.ceil(row[5] * density * (bits[name] + 3) / 8)) + 40 for name, row in _LAYERS.items()}
    total = sum(size.values()) + 200
    return {
        "energy_mj": sum(sum(parts.values()) for parts in energy.values()),
        "size_kib": total / 1024,
        "size_bytes": total,
        "energy_by_layer": energy,
        "bytes_by_layer": size,
    }


def make_front(points: int = 24, *, seed: int = 0, test: bool = True) -> dict[str, Any]:
    """Return the content of a front.json."""
    generator = np.random.default_rng(seed)
    entries = []
    for index in range(points):
        quality = 1 - index / max(points, 2)
        level = round(20 + 60 * quality)
        bits = {name: int(np.clip(round(2 + 7 * quality + generator.normal() * 0.6), 2, 12)) for name in _LAYERS}
        correct = round(360 * (0.989 - 0.35 * (1 - quality) ** 4))
        test_correct = round(360 * (0.981 - 0.36 * (1 - quality) ** 4) + generator.integers(-1, 2))
        entries.append(
            {
                "index": index,
                "level": level,
                "bits": bits,
                "density": dict.fromkeys(_LAYERS, level / 100),
                "next_bit_cost": {name: None if bits[name] == 2 else 0.1 * 4.0 ** -bits[name] for name in _LAYERS},
                "validation_accuracy": correct / 360,
                "validation_correct": correct,
                "validation_images": 360,
                "test_accuracy": test_correct / 360 if test else None,
                "test_correct": test_correct if test else None,
                "test_images": 360 if test else None,
                **_costs(level / 100, bits),
            }
        )
    dense = _costs(1.0, dict.fromkeys(_LAYERS, 31))
    return {
        "format_version": 1,
        "settings": {"population_size": 20, "number_generations": 40, "seed": 0, "energy_constraint": None},
        "objectives": ["accuracy", "energy"],
        "network": "lenet5",
        "dataset": "digits",
        "hardware": "emomc_fpga",
        "dataflow": "xy",
        "coding": "normal",
        "accounting": "paper",
        "energy_unit": "mJ",
        "layers": [
            {
                "name": name,
                "kind": kind,
                "in_channels": wide,
                "out_channels": out,
                "calls": [{"input_size": [side, side], "output_size": [side, side]}],
                "kernel_size": [kernel, kernel],
                "stride": [1, 1],
                "dilation": [1, 1],
                "groups": 1,
            }
            for name, (kind, wide, out, kernel, side, _, _) in _LAYERS.items()
        ],
        "baseline": {
            "validation_accuracy": 356 / 360,
            "test_accuracy": 353 / 360 if test else None,
            "validation_images": 360,
            "test_images": 360,
            "energy_mj": dense["energy_mj"],
            "size_kib": 61_706 * 4 / 1024,
            "bits": 32,
        },
        "points": entries,
        "history": [
            {
                "generation": generation,
                "evaluations": 40 + 20 * generation,
                "hypervolume": 0.0083 * (1 - 0.5 * 0.86**generation),
                "front_size": min(points, 6 + generation),
                "best_accuracy": 0.98,
            }
            for generation in range(41)
        ],
        "versions": {"emomc": "0.1.0", "torch": "2.15.0", "numpy": "2.3", "pymoo": "0.6.2", "python": "3.11.7"},
        "finished": True,
    }


@pytest.fixture
def front() -> dict[str, Any]:
    """A fresh front for each test; tests may change it."""
    return make_front()
