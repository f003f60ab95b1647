"""Presentation of a front: report.html, front.png and the table in the terminal."""

from emomc.fronts.report.figure import front_figure
from emomc.fronts.report.page import render_report, write_report

__all__ = ["front_figure", "render_report", "write_report"]
