"""The dataflows: which two loops of a convolution the array of processing elements (PEs) runs in parallel.

To add one, write its ``PaperCounts`` in ``paper_counts.py`` and add an entry to ``DATAFLOWS``; all other code reads
names, labels and counts from there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from emomc.common.errors import UserError
from emomc.hardware.call_table import CallTable
from emomc.hardware.paper_counts import PaperCounts, count_fxfy, count_icoc, count_xfx, count_xy


@dataclasses.dataclass(frozen=True)
class Dataflow:
    """One way to unroll a convolution."""

    name: str
    """Name on the command line."""
    label: str
    """Usual notation, such as ``X|Y``."""
    unrolled: tuple[str, str]
    """Columns of the ``CallTable`` that hold the extents of the two unrolled loops."""
    paper_counts: Callable[[CallTable], PaperCounts]
    """Accesses of convolutions by the paper's formulas."""


DATAFLOWS: Mapping[str, Dataflow] = {
    dataflow.name: dataflow
    for dataflow in (
        Dataflow("xy", "X|Y", ("ox", "oy"), count_xy),
        Dataflow("icoc", "IC|OC", ("c", "k"), count_icoc),
        Dataflow("fxfy", "Fx|Fy", ("fx", "fy"), count_fxfy),
        Dataflow("xfx", "X|Fx", ("ox", "fx"), count_xfx),
    )
}
"""Name -> dataflow: output columns and rows; input and output channels; kernel columns and rows; output columns and
kernel columns."""

BEST = "best"
"""Chooses for each network the dataflow that is best for the objectives."""
BEST_PER_LAYER = "best_per_layer"
"""The same for each layer, for an array that can be configured anew between layers."""

DATAFLOW_CHOICES = (*DATAFLOWS, BEST, BEST_PER_LAYER)
"""Accepted values of ``--dataflow``."""

if TYPE_CHECKING:
    DataflowName = str
else:
    DataflowName = Literal[DATAFLOW_CHOICES]


def dataflows_named(name: str) -> tuple[Dataflow, ...]:
    """Return the dataflow of a name, or all of them for ``best`` and ``best_per_layer``.

    Raises:
        UserError: there is no such dataflow.
    """
    if name not in DATAFLOW_CHOICES:
        raise UserError(f"expected a dataflow among {', '.join(DATAFLOW_CHOICES)}, found {name!r}")
    return (DATAFLOWS[name],) if name in DATAFLOWS else tuple(DATAFLOWS.values())


def dataflow_label(name: str) -> str:
    """Return the usual notation of a dataflow, such as ``IC|OC`` for ``icoc``; ``best`` stays ``best``."""
    return DATAFLOWS[name].label if name in DATAFLOWS else name.replace("_", " ")
