"""Names of the importances of channels, for settings: without torch."""

from __future__ import annotations

from typing import Final, Literal

MAGNITUDE: Final = "magnitude"
BATCHNORM: Final = "batchnorm"
TAYLOR: Final = "taylor"

ImportanceName = Literal["magnitude", "batchnorm", "taylor"]
