"""The figure for papers: what it shows and with which words."""

from __future__ import annotations

import io

import pytest

from emomc.common.errors import UserError
from emomc.common.intervals import wilson_interval
from emomc.fronts.pick_rules import DEFAULT_PICK
from emomc.fronts.picks import pick_point
from emomc.fronts.report import front_figure


def lines(figure):
    return {line.get_label(): line for line in figure.axes[0].get_lines() if not line.get_label().startswith("_")}


def test_shows_points_recommendation_and_uncompressed(front):
    axes = front_figure(front).axes[0]
    found = {line.get_label(): line.get_xydata().tolist() for line in axes.get_lines()}
    points = front["points"]
    validation = [[point["energy_mj"], 100 * point["validation_accuracy"]] for point in points]
    assert validation in found.values()
    assert found["test"] == [[point["energy_mj"], 100 * point["test_accuracy"]] for point in points]
    assert found["recommended"] == [validation[pick_point(DEFAULT_PICK, front).position]]
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


def test_intervals_are_those_of_wilson(front):
    bars = [bar for bar in front_figure(front).axes[0].collections if hasattr(bar, "get_segments")]
    found = sorted(tuple(segment[:, 1]) for bar in bars for segment in bar.get_segments())
    counts = [(point["validation_correct"], point["validation_images"]) for point in front["points"]]
    expected = sorted(tuple(100 * end for end in wilson_interval(*count)) for count in counts)
    assert [low for low, _ in found] == pytest.approx([low for low, _ in expected])
    assert [high for _, high in found] == pytest.approx([high for _, high in expected])


def test_a_tail_that_nobody_ships_is_named_and_left_out(front):
    for point in front["points"]:
        point["validation_accuracy"] = max(point["validation_accuracy"], 0.85)
    assert front_figure(front).axes[0].get_ylim()[0] < 85
    front["points"][-1]["validation_accuracy"] = 0.7
    axes = front_figure(front).axes[0]
    floor = 100 * front["baseline"]["validation_accuracy"] - 5
    hidden = [point for point in front["points"] if 100 * point["validation_accuracy"] < floor]
    assert axes.get_ylim()[0] > 85
    assert f"{len(hidden)} less accurate not shown" in [text.get_text() for text in axes.get_legend().get_texts()]


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
