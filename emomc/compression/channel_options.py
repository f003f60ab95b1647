"""Names of the importances of channels, for settings: without torch."""

from __future__ import annotations

from typing import Literal

MAGNITUDE, BATCHNORM, TAYLOR = "magnitude", "batchnorm", "taylor"

ImportanceName = Literal["magnitude", "batchnorm", "taylor"]
