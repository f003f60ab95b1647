"""Evolutionary multi-objective compression of convolutional networks for edge accelerators.

The public names below are imported when they are first used, so that ``import emomc`` alone is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emomc.cli.compress import CompressOptions, compress
    from emomc.common.pareto import ParetoFront
    from emomc.compression.pruning import prune_by_magnitude
    from emomc.compression.quantization import quantize_symmetric
    from emomc.export.loading import load_compressed
    from emomc.hardware.description import Hardware, load_hardware
    from emomc.hardware.energy import estimate_energy
    from emomc.hardware.size import estimate_size
    from emomc.hardware.workload import Workload
    from emomc.library.library import Library
    from emomc.networks.graph import trace_layers
    from emomc.networks.layers import LayerShape
    from emomc.pretraining.config import PretrainingConfig
    from emomc.pretraining.prepare import prepare_library
    from emomc.search.config import Finetuning, SearchConfig
    from emomc.search.options import RunOptions
    from emomc.search.run import run_search

__all__ = [
    "CompressOptions",
    "Finetuning",
    "Hardware",
    "LayerShape",
    "Library",
    "ParetoFront",
    "PretrainingConfig",
    "RunOptions",
    "SearchConfig",
    "Workload",
    "compress",
    "estimate_energy",
    "estimate_size",
    "load_compressed",
    "load_hardware",
    "prepare_library",
    "prune_by_magnitude",
    "quantize_symmetric",
    "run_search",
    "trace_layers",
]

_HOMES = {
    "CompressOptions": "cli.compress",
    "compress": "cli.compress",
    "Finetuning": "search.config",
    "RunOptions": "search.options",
    "Hardware": "hardware.description",
    "LayerShape": "networks.layers",
    "Library": "library.library",
    "ParetoFront": "common.pareto",
    "PretrainingConfig": "pretraining.config",
    "SearchConfig": "search.config",
    "estimate_energy": "hardware.energy",
    "estimate_size": "hardware.size",
    "load_compressed": "export.loading",
    "load_hardware": "hardware.description",
    "prepare_library": "pretraining.prepare",
    "prune_by_magnitude": "compression.pruning",
    "quantize_symmetric": "compression.quantization",
    "run_search": "search.run",
    "Workload": "hardware.workload",
    "trace_layers": "networks.graph",
}


_FORMER_NAMES = {"PreparationConfig": "PretrainingConfig"}


def __getattr__(name: str) -> object:
    name = _FORMER_NAMES.get(name, name)
    if name in _HOMES:
        return getattr(importlib.import_module(f"emomc.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'emomc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
