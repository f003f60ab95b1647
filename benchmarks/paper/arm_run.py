"""One arm of an experiment with one seed: its library, and the searches of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.part_clock import PartClock
from benchmarks.common.recorded_search import recorded_search, stage_one_seconds
from benchmarks.paper.experiments import Budget, arm_search, arm_stage_one, arm_trades
from benchmarks.paper.outcomes import Outcome, Trade
from emomc.callbacks.trainer.epoch_lines import EpochLines
from emomc.library.library import Library
from emomc.lightning_modules.image_data import ImageDataModule
from emomc.pretraining.prepare import prepare_library
from emomc.runtime.devices import Devices

PARTS = ("dense", "levels", "search")
"""The parts of an experiment, each of which needs those before it."""

_NO_LEVELS = {"pre_prune_lower_bound": 100, "pre_prune_upper_bound": 100}


@dataclasses.dataclass(frozen=True)
class ArmRun:
    """One arm of an experiment with one seed."""

    experiment: str
    budget: Budget
    arm: str
    seed: int
    folder: Path
    """Holds its library and searches."""
    given: Mapping[str, Any]
    """Settings of stage I in place of all others."""
    accelerator: str
    precision: str
    """Arithmetic of the training."""
    clock: PartClock
    data: ImageDataModule
    """The images of all arms and seeds that have the same split."""

    def run(self, parts: Sequence[str], trades: Sequence[Trade]) -> Iterator[Outcome]:
        """Run the parts; yield each search that is finished.

        Args:
            parts: some of ``PARTS``.
            trades: the searches.

        Raises:
            TimeIsUp: the clock's time is up.
        """
        if "dense" in parts:
            with self.clock.part(self._name("dense network")):
                self._library(_NO_LEVELS)
        if "levels" in parts:
            with self.clock.part(self._name("levels")):
                self._library({})
        if "search" in parts:
            yield from self._searches(trades)

    def _searches(self, trades: Sequence[Trade]) -> Iterator[Outcome]:
        library = Library.open(self.folder / "library")
        for trade in arm_trades(self.budget, self.arm, trades):
            name = trade.search_name
            config = arm_search(self.experiment, self.budget, self.arm, self.seed, trade)
            with self.clock.part(self._name(f"search {trade.label}"), self.clock.longest(f"{self.arm} search")):
                front, work = recorded_search(
                    library,
                    config,
                    name,
                    data=self.data,
                    accelerator=self.accelerator,
                    max_minutes=self.clock.minutes_left,
                )
            levels, seconds = library.manifest.levels, stage_one_seconds(self.folder)
            yield Outcome(self.arm, self.seed, trade, front, work, levels, seconds)

    def _library(self, levels: Mapping[str, int]) -> Library:
        config, _ = arm_stage_one(self.experiment, self.budget, self.arm, self.seed, **{**self.given, **levels})
        trainer = {"limit_train_batches": self.budget.images_per_epoch}
        devices = Devices(
            accelerator=self.accelerator,
            devices=1,
            precision=self.precision,
            cuda_graphs=self.accelerator == "gpu",
            trainer=trainer,
        )
        return prepare_library(
            config, self.data, self.folder, devices=devices, callbacks=lambda stage: [EpochLines(stage)]
        )

    def _name(self, part: str) -> str:
        return f"{self.experiment} {self.arm} {part}" + (f", seed {self.seed}" if self.seed else "")
