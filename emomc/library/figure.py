"""Plot a library: validation accuracy over density."""

from __future__ import annotations

from matplotlib.figure import Figure

from emomc.library.library import Library


def library_figure(library: Library) -> Figure:
    """Return validation accuracy, %, or another metric over weights remaining, %, one point per level."""
    levels = library.manifest.levels
    weights = sum(layer.weights for layer in library.manifest.compressed_layers)
    densities = [100 * sum(level.remaining.values()) / weights for level in levels]
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.add_subplot()
    metric = library.manifest.metric()
    scale = 100 if metric.percent else 1
    values = [scale * metric.value(level.validation_accuracy) for level in levels]
    axes.plot(densities, values, marker="o", color="#0072b2")
    axes.set_xlabel("Weights remaining (%)")
    axes.set_ylabel("Validation accuracy (%)" if metric.percent else metric.name)
    axes.set_title(f"{library.manifest.network} on {library.manifest.data['dataset']}")
    axes.grid(alpha=0.3)
    return figure
