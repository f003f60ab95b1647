"""The versions of the software that results depend on."""

from __future__ import annotations

import platform
from importlib.metadata import version


def versions() -> dict[str, str]:
    """Return the versions of EMOMC, its numerical dependencies and Python."""
    packages = ("emomc", "torch", "numpy", "pymoo", "scikit-learn", "pytorch-lightning")
    return {**{name: version(name) for name in packages}, "python": platform.python_version()}
