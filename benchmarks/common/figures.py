"""Figures of pages."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from emomc.common.files import atomic_write

REFERENCE_COLOUR = "#d55e00"
OUR_COLOUR = "#0072b2"


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG and close it."""
    with atomic_write(path) as partial:
        figure.savefig(partial, format="png", dpi=150, bbox_inches="tight")
    plt.close(figure)
