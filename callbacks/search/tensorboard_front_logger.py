"""An observer that logs a search to TensorBoard."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard.writer import SummaryWriter

from emomc.callbacks.search.pace import Pace
from emomc.compression.levels import Level
from emomc.fronts.document import front_document
from emomc.fronts.report.figure import front_figure
from emomc.search.observer import SearchCallback
from emomc.search.state import Search


class TensorBoardFrontLogger(SearchCallback):
    """Logs scalars every generation, and the front as a figure and histograms every ``figure_every`` generations.

    At the end it logs the settings as hyperparameters, with metrics of the final front, so that searches can be
    compared. ``docs/fronts.md`` lists all tags.
    """

    def __init__(self, figure_every: int = 20) -> None:
        """Store the number of generations between two figures."""
        self.figure_every = figure_every
        self._pace = Pace()
        self._writer: SummaryWriter | None = None

    def on_search_start(self, search: Search) -> None:
        """Open the log; replace the log of an interrupted run, because the search runs again from its start."""
        self._pace = Pace()
        folder = search.files.tensorboard
        for file in folder.glob("events.out.tfevents.*"):
            file.unlink()
        self._writer = SummaryWriter(str(folder))

    def on_generation_end(self, search: Search) -> None:
        """Log the generation."""
        statistics = search.history[-1]
        writer, step = self._open_writer, statistics.generation
        writer.add_scalar("front/hypervolume", statistics.hypervolume, step)
        writer.add_scalar("front/size", statistics.front_size, step)
        metric = search.metric
        writer.add_scalar(f"front/best_{metric.name}", metric.value(statistics.best_accuracy), step)
        writer.add_scalar("search/evaluations_per_second", search.tally.measured / max(self._pace.seconds, 1e-9), step)
        if step == 1 or step % self.figure_every == 0:
            self._log_front(search, step)

    def on_search_end(self, search: Search) -> None:
        """Log the final front and the settings."""
        self._log_front(search, search.generation)
        if search.history:
            self._open_writer.add_hparams(
                _settings(search), _final_metrics(search), run_name=".", global_step=search.generation
            )

    def on_search_teardown(self, search: Search) -> None:
        """Close the log."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    @property
    def _open_writer(self) -> SummaryWriter:
        if self._writer is None:
            raise RuntimeError("expected on_search_start before other events, found no open log")
        return self._writer

    def _log_front(self, search: Search, step: int) -> None:
        front = search.front
        if not front:
            return
        figure = front_figure(front_document(search))
        self._open_writer.add_figure("front", figure, step)
        plt.close(figure)
        levels = np.array([Level.of(candidate.genotype.level).percent for candidate in front])
        bits = np.array([candidate.genotype.bits for candidate in front]).ravel()
        # One bin for each level of the space and for each number of bits.
        searched = {Level.of(name).percent for name in search.space.levels}
        self._open_writer.add_histogram("front/levels_percent", levels, step, bins=_edges(searched))
        every = range(search.config.min_bits, search.config.max_bits + 1)
        self._open_writer.add_histogram("front/bits", bits, step, bins=_edges(every))
        if widths := search.space.activation_bits:
            inputs = np.array([candidate.genotype.activation_bits for candidate in front]).ravel()
            self._open_writer.add_histogram("front/activation_bits", inputs, step, bins=_edges(widths))


def _edges(values: Collection[int]) -> NDArray[np.float64]:
    """Return ascending bin edges, so that each value has its own bin."""
    whole = np.array(sorted(values), dtype=np.float64)
    middle = (whole[1:] + whole[:-1]) / 2
    return np.concatenate([[whole[0] - 0.5], middle, [whole[-1] + 0.5]])


def _settings(search: Search) -> dict[str, bool | str | float | int]:
    manifest = search.library.manifest
    settings = {"network": manifest.network, "dataset": search.dataset}
    if search.finetuning:
        settings |= {f"finetune_{name}": value for name, value in dataclasses.asdict(search.finetuning).items()}
    return settings | {name: _plain(value) for name, value in dataclasses.asdict(search.config).items()}


def _plain(value: object) -> bool | str | float | int:
    if isinstance(value, (bool, str, float, int)):
        return value
    if value is None:
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _final_metrics(search: Search) -> dict[str, float]:
    """Return the metrics of the final front, fine-tuned points included, without those that it does not define."""
    # The front of the last generation, before fine-tuning, is logged as front/...
    front, final, metric = search.front, search.statistics, search.metric
    metrics = {
        "result/hypervolume": final.hypervolume,
        "result/front_size": final.front_size,
        f"result/best_{metric.name}": metric.value(final.best_accuracy),
    }
    if not front:
        return metrics
    if (test := front[0].test) is not None:
        metrics[f"result/test_{metric.name}_of_best"] = metric.value(test.accuracy)
    dense = search.dense_accuracy
    for objective, name in search.cost_model.columns.items():
        if objective not in search.config.objectives:
            continue
        base = search.uncompressed[name]
        near = [candidate.costs[name] for candidate in front if 100 * (dense - candidate.accuracy) <= 1 + 1e-9]
        if near:
            metrics[f"result/{objective}_improvement_within_1_point"] = base / min(near)
        tenth = [candidate.accuracy for candidate in front if candidate.costs[name] <= base / 10]
        if tenth:
            metrics[f"result/{metric.name}_for_a_tenth_of_{objective}"] = metric.value(max(tenth))
    return metrics
