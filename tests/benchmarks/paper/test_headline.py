from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.common.page import put_between_marks
from benchmarks.paper import headline

ROOT = Path(__file__).parents[3]


def test_the_page_of_results_says_what_the_tables_say() -> None:
    page = (ROOT / "docs" / "results" / "README.md").read_text(encoding="utf-8")
    made = headline.headline(ROOT / "docs" / "results") + "\n"
    assert put_between_marks(page, headline.MARK, made) == page


def test_the_readme_says_what_the_page_of_results_says() -> None:
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    lines = headline.headline(ROOT / "docs" / "results").splitlines()
    for cost in ("energy", "size"):
        # LeNet-5 on MNIST comes first.
        row = next(line for line in lines if f"times less {cost}" in line)
        theirs, ours = (cell.strip().removesuffix("x") for cell in row.split("|")[3:5])
        assert f"{ours} times less {cost} instead of {theirs}" in readme


def test_means_over_seeds_and_what_is_missing(tmp_path: Path) -> None:
    columns = "arm,seed,cost,title,budget,epochs_dense,epochs_levels,hypervolume_test"
    columns += ",within_by_validation_improvement,training_seconds,search_seconds"
    lines = [
        columns,
        "reference,0,energy,LeNet-5 on MNIST,small,60,416,0.90,8.0,100,10",
        "reference,1,energy,LeNet-5 on MNIST,small,60,416,0.92,,300,30",
        "emomc,0,energy,LeNet-5 on MNIST,small,20,26,0.95,12.0,,5",
        "emomc,0,size,LeNet-5 on MNIST,small,20,26,0.97,14.0,,5",
    ]
    (tmp_path / "paper_lenet5_mnist.csv").write_text("\n".join(lines) + "\n")
    rows = [
        [cell.strip() for cell in line.split("|")[2:-1]]
        for line in headline.headline(tmp_path).splitlines()
        if line.startswith("|")
    ]
    assert rows[2:] == [
        ["seeds", "2", "1"],
        ["epochs of training, all levels", "60 + 416", "20 + 26"],
        ["hypervolume, energy", "0.9100", "0.9500"],
        ["times less energy", "8.0x (1 of 2)", "12.0x"],
        ["hypervolume, size", "-", "0.9700"],
        ["times less size", "-", "14.0x"],
    ]


def test_a_readme_without_the_place_is_refused() -> None:
    with pytest.raises(ValueError, match=r"benchmarks\.paper\.headline"):
        put_between_marks("text", headline.MARK, "block")
