"""What a LightningModule logs as a metric, and whether that is a mean of values per sample within known bounds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
from torchmetrics.classification import BinaryAccuracy, MulticlassAccuracy, MultilabelAccuracy

from emomc.common.replaced import replaced

SHARE = (0.0, 1.0)
"""Bounds of a share."""


@contextlib.contextmanager
def logged_metric(module: pl.LightningModule, monitor: str) -> Iterator[list[Any]]:
    """Yield a list that receives what a module logs under a name while the block runs.

    Args:
        module: whose steps run in the block.
        monitor: name of the metric.
    """
    found: list[Any] = []
    log = module.log

    def recording(name: str, value: Any, *positional: Any, **named: Any) -> None:
        if name == monitor:
            found.append(value)
        log(name, value, *positional, **named)

    with replaced(module, "log", recording):
        yield found


def is_share_of_samples(value: object) -> bool:
    """Return whether a logged value is a metric of torchmetrics that is a mean of a share of each sample, 0 to 1.

    Accuracies over all answers are, if none is left out: samples of one shape have as many answers. Averages over
    classes are none.
    """
    if not isinstance(value, (BinaryAccuracy, MulticlassAccuracy, MultilabelAccuracy)):
        return False
    averaged = isinstance(value, BinaryAccuracy) or value.average == "micro"
    return averaged and value.ignore_index is None and value.multidim_average == "global"
