"""The search in TensorBoard."""

from __future__ import annotations

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
from torch.utils.tensorboard.writer import SummaryWriter

from emomc.callbacks.front_tracker import FrontStatistics, FrontTracker
from emomc.front_document import front_document
from emomc.report.figure import front_figure
from emomc.search_state import Search


class TensorBoardFrontLogger(FrontTracker):
    """Logs scalars each generation, and the front as a figure and histograms every few, under the search's folder.

    Scalars: ``front/hypervolume``, ``front/size``, ``front/best_accuracy``, ``search/evaluations_per_second``. At the
    end, the settings as hyperparameters with the final metrics, so that searches can be compared.
    """

    def __init__(self, figure_every: int = 20) -> None:
        """Take how many generations lie between two figures."""
        super().__init__()
        self.figure_every = figure_every
        self._writer: SummaryWriter | None = None

    def on_search_start(self, search: Search) -> None:
        """Open the log; that of an interrupted run is replaced, since the search runs again from its start."""
        super().on_search_start(search)
        folder = search.folder / "tensorboard"
        for file in folder.glob("events.out.tfevents.*"):
            file.unlink()
        self._writer = SummaryWriter(str(folder))

    def show(self, search: Search, statistics: FrontStatistics) -> None:
        """Log one generation."""
        writer, step = self._open_writer, statistics.generation
        writer.add_scalar("front/hypervolume", statistics.hypervolume, step)
        writer.add_scalar("front/size", statistics.front_size, step)
        writer.add_scalar("front/best_accuracy", statistics.best_accuracy, step)
        writer.add_scalar("search/evaluations_per_second", search.tally.measured / max(self.seconds, 1e-9), step)
        if step == 1 or step % self.figure_every == 0:
            self._log_front(search, step)

    def on_search_end(self, search: Search) -> None:
        """Log the final front and the settings, and close the log."""
        writer = self._open_writer
        self._log_front(search, search.generation)
        if self.history:
            settings = {name: _plain(value) for name, value in dataclasses.asdict(search.config).items()}
            last = self.history[-1]
            metrics = {
                "final/hypervolume": last.hypervolume,
                "final/front_size": last.front_size,
                "final/best_accuracy": last.best_accuracy,
            }
            writer.add_hparams(settings, metrics, run_name=".")
        writer.close()

    @property
    def _open_writer(self) -> SummaryWriter:
        if self._writer is None:
            raise RuntimeError("expected on_search_start before anything is logged, found no open log")
        return self._writer

    def _log_front(self, search: Search, step: int) -> None:
        front = search.front
        if not front:
            return
        figure = front_figure(front_document(search))
        self._open_writer.add_figure("front", figure, step)
        plt.close(figure)
        levels = np.array([candidate.genotype.level for candidate in front])
        bits = np.array([candidate.genotype.bits for candidate in front]).ravel()
        self._open_writer.add_histogram("front/levels_percent", levels, step)
        self._open_writer.add_histogram("front/bits", bits, step)


def _plain(value: object) -> bool | str | float | int:
    return value if isinstance(value, (bool, str, float, int)) else str(value)
