"""Hiding notices of other libraries that do not help the user."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

_LOGGERS = ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric")
_WARNINGS = (
    ".*does not have many workers.*",
    ".*GPU available but not used.*",
    ".*lr_scheduler.step.*",
    ".*number of training batches.*is smaller than the logging interval.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*isinstance.treespec, LeafSpec.*",
    ".*torch.distributed.nn.functional.all_gather is deprecated.*",
    ".*Glyph .* missing from font.*",
    ".*You have overridden `on_before_batch_transfer` in `LightningModule`.*",
    "The AccumulateGrad node's stream does not match.*",
    ".*It is recommended to use `self.log.*sync_dist=True.*",
)


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Hide the notices of Trainers while the block runs; each Trainer of a search would print them again."""
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    with warnings.catch_warnings():
        for message in _WARNINGS:
            warnings.filterwarnings("ignore", message)
        for name in levels:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def silent_logging() -> Iterator[None]:
    """Log nothing while the block runs: what its error says, and more."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
