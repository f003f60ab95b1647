"""What the tests of stage I share."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl


class Counter(pl.Callback):
    """Counts the epochs that each stage trains."""

    def __init__(self):
        self.epochs = []
        self.stage = ""

    def __call__(self, stage):
        self.stage = stage
        return [self]

    def on_train_epoch_start(self, trainer, pl_module):
        self.epochs.append((self.stage, trainer.current_epoch))


@pytest.fixture
def counter() -> Counter:
    """Callbacks of the stages that count their epochs."""
    return Counter()
