"""What people read of a front: the page report.html and the figure front.png."""

from emomc.fronts.report.figure import front_figure
from emomc.fronts.report.page import render_report, write_report

__all__ = ["front_figure", "render_report", "write_report"]
