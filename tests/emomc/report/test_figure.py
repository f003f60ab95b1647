"""The figure for papers: what it shows and with which words."""

from __future__ import annotations

import io

import pytest

from emomc.errors import UserError
from emomc.picks import pick_point
from emomc.report import front_figure


def lines(figure):
    return {line.get_label(): line for line in figure.axes[0].get_lines() if not line.get_label().startswith("_")}


def test_shows_points_knee_and_uncompressed(front):
    axes = front_figure(front).axes[0]
    found = {line.get_label(): line.get_xydata().tolist() for line in axes.get_lines()}
    points = front["points"]
    validation = [[point["energy_mj"], 100 * point["validation_accuracy"]] for point in points]
    assert validation in found.values()
    assert found["test"] == [[point["energy_mj"], 100 * point["test_accuracy"]] for point in points]
    assert found["knee"] == [validation[pick_point("knee", front).position]]
    base = front["baseline"]
    assert found["uncompressed"] == [[base["energy_mj"], 100 * base["validation_accuracy"]]]


def test_labels_carry_units(front):
    axes = front_figure(front).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Energy (mJ)", "Accuracy (%)")
    assert axes.get_title() == "lenet5 on digits"
    assert axes.get_xscale() == "log"
    assert front_figure(front, cost="size_kib").axes[0].get_xlabel() == "Size (KiB)"
    relative = front_figure(front | {"energy_unit": "16-bit MACs"})
    assert relative.axes[0].get_xlabel() == "Energy (16-bit MACs)"


def test_without_test_accuracy(front):
    for point in front["points"]:
        point["test_accuracy"] = None
    assert "test" not in lines(front_figure(front))


def test_cycles_need_no_unit(front):
    for point in front["points"]:
        point["cycles"] = 1000
    assert front_figure(front, cost="cycles").axes[0].get_xlabel() == "Cycles"


@pytest.mark.parametrize("count", [1, 2, 24])
def test_saves_with_odd_names_and_any_count(front, count):
    made = front | {"points": front["points"][:count], "network": "a$b_c^{", "dataset": "$x"}
    buffer = io.BytesIO()
    front_figure(made).savefig(buffer, format="png")
    assert buffer.getvalue().startswith(b"\x89PNG")


def test_refusals(front):
    with pytest.raises(UserError, match="empty"):
        front_figure(front | {"points": []})
    with pytest.raises(UserError, match="'latency_ms'"):
        front_figure(front, cost="latency_ms")
