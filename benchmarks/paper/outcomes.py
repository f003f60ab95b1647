"""One search of the paper's experiments and the numbers that its page shows of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from emomc.common.pareto import hypervolume
from emomc.library.manifest import DENSE, LevelRecord

DATAFLOWS = {"xy": "X|Y", "icoc": "IC|OC", "fxfy": "Fx|Fy", "xfx": "X|Fx"}
CODINGS = {"normal": "normal", "csr": "CSR", "coo": "COO"}
COLUMNS = {"energy": "energy_mj", "size": "size_kib"}
"""What is traded for accuracy -> its column in a front.json."""
UNITS = {"energy": "mJ", "size": "KiB"}

ALLOWED_LOSS_POINTS = 0.3
"""Percentage points of accuracy below the uncompressed network's, as the paper reports its best networks."""

Images = Literal["validation", "test"]


@dataclasses.dataclass(frozen=True)
class Trade:
    """What a search trades for accuracy."""

    cost: str
    """energy or size."""
    variant: str
    """The dataflow under which energy is counted, or the coding under which size is."""

    @property
    def search_name(self) -> str:
        """Name of the search's folder."""
        return f"paper-{self.cost}-{self.variant}"

    @property
    def label(self) -> str:
        """Name for people."""
        return f"{self.cost}, {(DATAFLOWS | CODINGS)[self.variant]}"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A finished search of one arm, and the library it searched."""

    arm: str
    seed: int
    trade: Trade
    front: Mapping[str, Any]
    """Content of front.json."""
    work: Mapping[str, Any]
    """What the search took; see ``recorded_search``."""
    levels: Sequence[LevelRecord]
    """Of the library, the dense network first."""
    stage_one_seconds: float | None
    """Training of the library; None if unknown."""

    @property
    def uncompressed_cost(self) -> float:
        """mJ or KiB of the network at 32 bits with all weights, under the same dataflow."""
        return float(self.front["baseline"][COLUMNS[self.trade.cost]])

    @property
    def dense_epochs(self) -> int:
        """Epochs of training before pruning."""
        return sum(level.epochs for level in self.levels if level.percent == DENSE)

    @property
    def fine_tuning_epochs(self) -> int:
        """Epochs of all levels."""
        return sum(level.epochs for level in self.levels if level.percent != DENSE)

    @property
    def work_columns(self) -> dict[str, Any]:
        """What both stages took, as columns of a table."""
        return {
            "epochs_dense": self.dense_epochs,
            "epochs_levels": self.fine_tuning_epochs,
            "training_seconds": "" if self.stage_one_seconds is None else round(self.stage_one_seconds, 1),
            "candidates_asked": self.work["asked"],
            "candidates_measured": self.work["measured"],
            "images_seen": self.work["images"],
            "search_seconds": round(self.work["seconds"], 1),
            "machine": self.work["machine"],
            "date": self.work["date"],
        }

    def hypervolume(self, images: Images) -> float:
        """Share of the space of (error, cost / uncompressed) below (1, 1) that the final front dominates, 0..1."""
        losses = [
            (1 - point[f"{images}_accuracy"], point[COLUMNS[self.trade.cost]] / self.uncompressed_cost)
            for point in self.front["points"]
        ]
        return hypervolume(losses, (1.0, 1.0))

    def cheapest(self, images: Images) -> Mapping[str, Any] | None:
        """Return the cheapest point that loses at most ``ALLOWED_LOSS_POINTS`` on these images; None without one."""
        within = [point for point in self.front["points"] if self.loss_points(point, images) <= ALLOWED_LOSS_POINTS]
        return min(within, key=lambda point: point[COLUMNS[self.trade.cost]], default=None)

    def improvement(self, point: Mapping[str, Any]) -> float:
        """Return how many times less than the uncompressed network a point costs."""
        return self.uncompressed_cost / float(point[COLUMNS[self.trade.cost]])

    def loss_points(self, point: Mapping[str, Any], images: Images) -> float:
        """Return the percentage points that a point loses against the uncompressed network of its own library."""
        key = f"{images}_accuracy"
        # Rounded so that the difference of two fractions does not push one image over the edge.
        return round(100 * (self.front["baseline"][key] - point[key]), 9)


def trades_of(outcomes: Sequence[Outcome]) -> list[Trade]:
    """Return the trades of some searches, each once, in the order of the searches."""
    return list(dict.fromkeys(outcome.trade for outcome in outcomes))
