"""Evolutionary multi-objective compression of convolutional networks for edge accelerators.

The public names below are imported when they are first used, so that ``import emomc`` alone is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emomc.cost import estimate_energy, estimate_size
    from emomc.hardware import Hardware, load_hardware
    from emomc.layers import LayerShape, trace_layers
    from emomc.library import Library
    from emomc.loading import load_compressed
    from emomc.pareto import ParetoFront
    from emomc.preparation import prepare_library
    from emomc.preparation_config import PreparationConfig
    from emomc.pruning import prune_by_magnitude
    from emomc.quantization import quantize_symmetric
    from emomc.search import run_search
    from emomc.search_config import SearchConfig

__all__ = [
    "Hardware",
    "LayerShape",
    "Library",
    "ParetoFront",
    "PreparationConfig",
    "SearchConfig",
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
    "Hardware": "hardware",
    "LayerShape": "layers",
    "Library": "library",
    "ParetoFront": "pareto",
    "PreparationConfig": "preparation_config",
    "SearchConfig": "search_config",
    "estimate_energy": "cost",
    "estimate_size": "cost",
    "load_compressed": "loading",
    "load_hardware": "hardware",
    "prepare_library": "preparation",
    "prune_by_magnitude": "pruning",
    "quantize_symmetric": "quantization",
    "run_search": "search",
    "trace_layers": "layers",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(f"emomc.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'emomc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
