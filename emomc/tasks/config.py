"""The settings of a user's own task."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from emomc.common.errors import UserError
from emomc.common.metric import Mode

_LARGEST_FACTOR = 1000


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """A LightningModule to train and compress in place of an image classifier, and the metric that counts.

    Raises:
        UserError: settings do not fit together, or a number is out of its range.
    """

    module: str | None = None
    """Your LightningModule as ``path/to/file.py:Class`` or ``package.module:Class``: it is trained as it says, on your
    LightningDataModule; none: an image classifier of ``network``."""
    module_args: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Arguments of the module's constructor."""
    network_attribute: str | None = None
    """Name of the module's attribute that is the network to compress; none: the one that has all its layers."""
    monitor: str | None = None
    """Name of the validation metric that the module logs, such as ``val/iou``."""
    mode: Mode | None = None
    """Whether a larger (max) or a smaller (min) value of the metric is better."""
    metric_range: tuple[float, float] | None = None
    """Lowest and highest value of the metric, such as 0..1 for a share; none: from that of the untrained network to
    that of the dense one."""
    mean_of_samples: bool | None = None
    """The metric is a mean of one value for each sample, each within ``metric_range``: then candidates that cannot
    survive are stopped early; none: accuracies of torchmetrics are, within 0..1, and other metrics are not."""
    test_monitor: str | None = None
    """Name of the metric that ``test_step`` logs; none: the same with test in place of val."""
    learning_rate_factor: float = 0.4
    """What the module's learning rates are multiplied by when a level is fine-tuned, above 0."""

    def __post_init__(self) -> None:
        if self.module is None:
            for field in dataclasses.fields(self):
                if (given := getattr(self, field.name)) not in (field.default, {}):
                    raise UserError(f"expected --module with --{field.name}, found {field.name} = {given!r} alone")
            return
        if self.monitor is None or self.mode is None:
            raise UserError(
                "expected --monitor with the name of a validation metric of the module and --mode max or min, found "
                "one or both missing"
            )
        factor = self.learning_rate_factor
        if not 0 < factor <= _LARGEST_FACTOR:
            raise UserError(f"expected a learning_rate_factor above 0 and up to {_LARGEST_FACTOR}, found {factor}")
        if self.metric_range is not None:
            low, high = self.metric_range
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise UserError(f"expected a metric_range of a lower and a higher number, found {low:g} and {high:g}")
        elif self.mean_of_samples:
            raise UserError("expected --metric_range with --mean_of_samples: the bounds of each sample's value")
