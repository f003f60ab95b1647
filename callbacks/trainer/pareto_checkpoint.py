"""Keep the checkpoints on the Pareto front of several metrics, with any Trainer and module."""

from __future__ import annotations

import dataclasses
import math
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_warn
from typing_extensions import override

from emomc.common.errors import UserError
from emomc.common.pareto import Direction, ParetoFront
from emomc.common.schema import checked


@dataclasses.dataclass(frozen=True)
class KeptCheckpoint:
    """A checkpoint on the front."""

    path: Path
    """The file."""
    metrics: dict[str, float]
    """The monitored metrics when it was saved."""
    epoch: int
    """Epoch in which it was saved, counted from 0."""
    step: int
    """Optimizer steps made when it was saved."""


@dataclasses.dataclass(frozen=True)
class _State:
    """What a checkpoint holds of a front."""

    kept: list[KeptCheckpoint]


class ParetoCheckpoint(Checkpoint):
    """Save a checkpoint unless a kept one is at least as good in every metric; delete those it dominates.

    It is a ``ModelCheckpoint`` for several metrics::

        front = ParetoCheckpoint(monitor={"val/accuracy": "max", "density": "min"}, dirpath="checkpoints")
        Trainer(callbacks=[front]).fit(module)
        front.kept                    # the checkpoints on the front
        front.best("val/accuracy")    # the best in one metric

    It reads ``trainer.callback_metrics`` at the end of each training epoch, or at the end of each validation if
    validation does not run exactly once per epoch. A checkpoint is not saved if its metrics equal those of a kept one,
    or, with a warning, if a metric is not finite. With several ranks, rank 0 decides. The front is stored in the
    checkpoints, so a resumed run continues it.

    Args:
        monitor: name of a logged metric -> "max" or "min"; at least one.
        dirpath: folder of the files; default: ``checkpoints`` in the logger's folder or in
            ``trainer.default_root_dir``.
        filename: name without suffix, with ``{epoch}``, ``{step}`` and any logged metric as
            ``{val/accuracy:.3f}``; ``-v1``, ``-v2``, ... is added if the file exists.
        save_weights_only: do not save the states of optimizers and loops; training cannot resume from such a file.
        save_on_train_epoch_end: True: read the metrics at the end of training epochs; False: at the end of
            validations; None: as described above.
        own_folder: ``dirpath`` holds nothing else: other checkpoints in it, left by a killed run, are deleted when
            training starts.

    Raises:
        UserError: there is no metric to monitor, or a direction is neither "max" nor "min". While training: a monitored
            metric was not logged, or the filename names a value that does not exist.
    """

    suffix = ".ckpt"

    def __init__(
        self,
        monitor: Mapping[str, Direction],
        dirpath: str | Path | None = None,
        filename: str = "epoch={epoch:03d}-step={step}",
        *,
        save_weights_only: bool = False,
        save_on_train_epoch_end: bool | None = None,
        own_folder: bool = False,
    ) -> None:
        super().__init__()
        if not monitor:
            raise UserError("expected metrics to monitor, such as {'val/accuracy': 'max'}, found none")
        for name, direction in monitor.items():
            if direction not in ("max", "min"):
                raise UserError(f"expected 'max' or 'min' for the metric {name}, found {direction!r}")
        _check_filename(filename)
        self.monitor = dict(monitor)
        self.dirpath = None if dirpath is None else Path(dirpath)
        self.filename = filename
        self.save_weights_only = save_weights_only
        self.save_on_train_epoch_end = save_on_train_epoch_end
        self.own_folder = own_folder
        self._kept: list[KeptCheckpoint] = []

    @property
    def kept(self) -> list[KeptCheckpoint]:
        """The checkpoints on the front, best in the first metric first."""
        return list(self._kept)

    def best(self, metric: str) -> KeptCheckpoint:
        """Return the kept checkpoint that is best in one metric.

        Raises:
            UserError: the metric is not monitored, or nothing is kept yet.
        """
        if metric not in self.monitor:
            raise UserError(f"expected one of the monitored {', '.join(self.monitor)}, found {metric!r}")
        if not self._kept:
            raise UserError("expected a kept checkpoint, found none yet")
        choose = max if self.monitor[metric] == "max" else min
        return choose(self._kept, key=lambda kept: kept.metrics[metric])

    @property
    @override
    def state_key(self) -> str:
        """Key of the state in a checkpoint; callbacks with different metrics have different keys."""
        return self._generate_state_key(monitor=self.monitor)

    @override
    def state_dict(self) -> dict[str, Any]:
        """Return the front as plain values, so that a checkpoint loads with ``weights_only=True``."""
        return {"kept": [dataclasses.asdict(kept) | {"path": str(kept.path)} for kept in self._kept]}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a front; entries without a file are dropped when training starts.

        Raises:
            UserError: the state is no front, or one of other metrics.
        """
        kept = checked(_State, state_dict, "the front of checkpoints").kept
        for entry in kept:
            if entry.metrics.keys() != self.monitor.keys():
                raise UserError(
                    f"expected checkpoints with the metrics {', '.join(self.monitor)}, found {', '.join(entry.metrics)}"
                )
            # What is dominated later is deleted: never anything but a checkpoint.
            if entry.path.suffix != self.suffix:
                raise UserError(f"expected checkpoints that end in {self.suffix}, found {entry.path}")
        self._kept = [dataclasses.replace(entry, path=self._place(entry.path)) for entry in kept]

    def _place(self, path: Path) -> Path:
        """Return where a checkpoint of a restored front is: a folder of its own holds all, also after it was moved."""
        return self.dirpath / path.name if self.own_folder and self.dirpath is not None else path

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Set the folder, the same on every rank."""
        if stage == TrainerFn.FITTING.value and self.dirpath is None:
            # On every rank, because the property itself broadcasts.
            folder = trainer.log_dir or trainer.default_root_dir
            self.dirpath = Path(trainer.strategy.broadcast(str(folder))) / "checkpoints"

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop entries of a restored front whose files are missing."""
        there = trainer.strategy.broadcast([kept.path.exists() for kept in self._kept])
        gone = [str(kept.path) for kept, exists in zip(self._kept, there, strict=True) if not exists]
        if gone:
            rank_zero_warn(f"{len(gone)} checkpoints of the restored front are missing: {', '.join(gone)}")
        self._kept = [kept for kept, exists in zip(self._kept, there, strict=True) if exists]
        if self.own_folder and self.dirpath is not None and trainer.is_global_zero:
            for file in {*self.dirpath.glob(f"*{self.suffix}")} - {kept.path for kept in self._kept}:
                file.unlink()

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save if the current state is on the front."""
        if self._saves_at_epoch_end(trainer):
            self._update(trainer)

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save if the validated state is on the front."""
        if not self._saves_at_epoch_end(trainer):
            self._update(trainer)

    def _saves_at_epoch_end(self, trainer: pl.Trainer) -> bool:
        if self.save_on_train_epoch_end is not None:
            return self.save_on_train_epoch_end
        if sum(trainer.num_val_batches) == 0:
            return True
        # An int is an interval in batches, a float is a fraction of an epoch: 1 is not 1.0.
        once = isinstance(trainer.val_check_interval, float) and trainer.val_check_interval == 1.0
        return once and trainer.check_val_every_n_epoch == 1

    def _update(self, trainer: pl.Trainer) -> None:
        # Lightning sets fast_dev_run from outside of the class, so type checkers do not know it.
        dry_run = bool(getattr(trainer, "fast_dev_run", False))
        if dry_run or trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        # Rank 0 alone decides: metrics may be logged there only, or differ between ranks.
        plan = trainer.strategy.broadcast(self._plan(trainer) if trainer.is_global_zero else None)
        if isinstance(plan, str):
            raise UserError(plan)
        if plan is None:
            return
        before, self._kept = self._kept, plan
        # The new file contains this callback's state, so the front is updated before it is written.
        path = next(kept.path for kept in plan if kept not in before)
        trainer.save_checkpoint(path, self.save_weights_only)
        for kept in before:
            if kept not in plan:
                trainer.strategy.remove_checkpoint(kept.path)

    def _plan(self, trainer: pl.Trainer) -> list[KeptCheckpoint] | str | None:
        """Return the front with the current state, None if that is not on the front, or an error message."""
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        missing = [name for name in self.monitor if name not in logged]
        if missing:
            return f"expected the logged metrics {', '.join(self.monitor)}, found {', '.join(logged) or 'none'}"
        metrics = {name: logged[name] for name in self.monitor}
        odd = {name: value for name, value in metrics.items() if not math.isfinite(value)}
        if odd:
            rank_zero_warn(f"not saved in epoch {trainer.current_epoch}: expected finite metrics, found {odd}")
            return None
        place = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        try:
            name = _Fields().vformat(self.filename, (), {**logged, **place})
        except KeyError as error:
            known = ", ".join([*place, *logged])
            return f"expected one of {known} in the filename {self.filename!r}, found {error.args[0]}"
        new = KeptCheckpoint(self._free_path(name), metrics, **place)
        # The new one is last, so that the older of two equal checkpoints is kept.
        candidates = [*self._kept, new]
        columns = {name: [kept.metrics[name] for kept in candidates] for name in self.monitor}
        rows = ParetoFront.of(columns, directions=self.monitor).rows
        front = [candidates[row] for row in rows]
        return front if new in front else None

    def _free_path(self, name: str) -> Path:
        folder = self.dirpath or Path("checkpoints")
        path, version = folder / f"{name}{self.suffix}", 0
        while path.exists():
            version += 1
            path = folder / f"{name}-v{version}{self.suffix}"
        return path


def _check_filename(filename: str) -> None:
    try:
        literals = [literal for literal, *_ in _Fields().parse(filename)]
    except ValueError as error:
        raise UserError(f"expected a filename with fields such as {{epoch}}, found {filename!r}: {error}") from None
    if not filename or any("/" in literal for literal in literals):
        raise UserError(f"expected a filename without folders, found {filename!r}")


class _Fields(string.Formatter):
    """Fields are looked up by their whole name: metrics may hold dots, slashes and brackets."""

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, str]:
        return kwargs[field_name], field_name
