from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.common.environments import Environment
from benchmarks.common.page import put_between_marks
from benchmarks.peers import headline
from benchmarks.peers.choice import choice
from benchmarks.peers.figure import tools_figure
from benchmarks.peers.page import page
from benchmarks.peers.points import Point
from benchmarks.peers.table import Row, accuracy_table, points_table, rows_of, verdicts
from benchmarks.peers.tools import OURS
from benchmarks.peers.trials import Trial

ROOT = Path(__file__).parents[3]
DENSE = {"bytes": 1000.0, "energy_mj": 2.0}


def point(name: str, validation: float, test: float, size: int, seconds: float | None = 2.0) -> Point:
    return Point(name, validation, test, size, size / 1000, 4.0, 0.5, 8, seconds, None)


def rows(tool: str, seed: int, *points: Point) -> list[Row]:
    return rows_of(Trial(tool, "lenet5_mnist", seed, "2026-11-27", points, seconds=50.0), DENSE, 9, "1.0")


TABLE = [
    *rows(OURS, 0, point("a", 0.99, 0.98, 120, None), point("b", 0.97, 0.99, 60, None)),
    *rows(OURS, 1, point("c", 0.95, 0.96, 120, None), point("d", 0.95, 0.94, 60, None)),
    *rows("mct", 0, point("e", 0.98, 0.985, 250)),
    *rows("mct", 1, point("f", 0.98, 0.975, 250), point("g", 0.9, 0.97, 110)),
]


def test_a_choice_is_by_validation_within_the_budget() -> None:
    own = [row for row in TABLE if row["tool"] == OURS and row["seed"] == 0]
    assert choice(own, "size_percent", 12.0)["setting"] == "a"
    assert choice(own, "size_percent", 11.9)["setting"] == "b"
    assert choice(own, "size_percent", 5.9) is None
    # Of equally accurate ones the smaller.
    equal = [row for row in TABLE if row["tool"] == OURS and row["seed"] == 1]
    assert choice(equal, "size_percent", 50.0)["setting"] == "d"


def test_the_table_has_means_over_seeds_and_the_best_in_bold() -> None:
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in accuracy_table(TABLE, (26.0, 12.5, 5.0)).splitlines()
    ]
    assert lines[0] == ["test accuracy, %, at most", "26 %", "12.5 %", "5 %", "seconds", "lines"]
    assert lines[2] == ["**EMOMC**", "96.00", "**96.00**", "-", "50 in all", "9"]
    # One of the two networks has nothing as small.
    assert lines[3] == ["MCT, mixed precision", "**98.00**", "97.00 (1 of 2)", "-", "2.0", "9"]


def test_a_verdict_compares_on_the_same_seeds() -> None:
    ((budget, tool, lead),) = verdicts(TABLE, budgets=[26.0])
    assert (budget, tool) == (26.0, "mct")
    assert lead == pytest.approx((98 + 94) / 2 - (98.5 + 97.5) / 2)
    # Without the other seed of it: against ours of the same dense network.
    ((_, _, lead),) = verdicts([row for row in TABLE if row["tool"] == OURS or row["seed"] == 0], budgets=[26.0])
    assert lead == pytest.approx(98 - 98.5)


def test_every_network_of_the_first_seed_is_listed() -> None:
    text = points_table(TABLE)
    assert text.count("EMOMC") == 2
    assert "| MCT, mixed precision | e | 25.00 | 98.00 | 98.50 | 12.50 | 4.00 | 50.00 |  | 8 |" in text


def test_the_page_says_what_failed_what_was_not_run_and_where_ours_is_behind() -> None:
    trials = [
        Trial(OURS, "lenet5_mnist", 0, "2026-11-27"),
        Trial("mct", "lenet5_mnist", 0, "2026-11-27"),
        Trial("inc", "lenet5_mnist", 0, "2026-11-27", refused="no convolutions"),
    ]
    environments = {"inc": Environment(Path("python"), {}, "pip is not done in 30 minutes")}
    text = page(TABLE, trials, environments, {"lenet5_mnist": "987 bytes."}, "Made")
    assert "**EMOMC** is 2.00 points behind MCT, mixed precision, the best other." in text
    assert "hardly one of the dense level" in text
    assert "- At most 6.25 %: only ours has a network." in text
    assert "- Neural Compressor, static, seed 0: no convolutions" in text
    assert "Not run yet: MCT, mixed precision and GPTQ, AIMET, uniform bits" in text
    assert "| inc | neural-compressor-pt 3.10 | pip is not done in 30 minutes |" in text


def test_the_figure_has_a_line_for_each_tool() -> None:
    figure = tools_figure(TABLE, "LeNet-5")
    labels = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {"EMOMC", "MCT, mixed precision"} <= labels
    assert all(axis.get_xlabel() for axis in figure.axes)


def test_the_readme_says_what_the_table_says() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    made = headline.headline(ROOT / "docs" / "results" / "peers.csv")
    assert put_between_marks(readme, headline.MARK, made) == readme
    assert len(made.splitlines()) <= 10


def test_a_readme_without_the_place_is_refused() -> None:
    with pytest.raises(ValueError, match=r"side by side, by python -m benchmarks\.peers\.headline"):
        put_between_marks("text", headline.MARK, "table")
