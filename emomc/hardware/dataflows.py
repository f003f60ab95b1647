"""The dataflows: which two loops of a convolution the array of processing elements runs at once."""

from __future__ import annotations

from emomc.common.errors import UserError

DATAFLOWS = ("xy", "icoc", "fxfy", "xfx")
"""Canonical names: output columns and rows; input and output channels; kernel columns and rows; X and Fx."""

BEST = "best"
"""Takes, for each network, the dataflow of least energy."""

_DISPLAY_NAMES = {"xy": "X|Y", "icoc": "IC|OC", "fxfy": "Fx|Fy", "xfx": "X|Fx", BEST: "best"}


def check_dataflow(name: str, *, allow_best: bool = True) -> str:
    """Return the name if it is that of a dataflow.

    Raises:
        UserError: it is not.
    """
    names = (*DATAFLOWS, BEST) if allow_best else DATAFLOWS
    if name not in names:
        raise UserError(f"expected a dataflow among {', '.join(names)}, found {name!r}")
    return name


def dataflow_label(name: str) -> str:
    """Return the name of a dataflow as people write it, such as ``IC|OC`` for ``icoc``."""
    return _DISPLAY_NAMES[check_dataflow(name)]
