from __future__ import annotations

from benchmarks.common.tables import csv_text, table


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    assert table(["energy", "X|Y"], [["1", "2"]]) == "| energy | X\\|Y |\n| --- | --- |\n| 1 | 2 |"


def test_csv_quotes_what_holds_commas() -> None:
    assert csv_text([{"a": 1, "b": "x, y"}]) == 'a,b\n1,"x, y"\n'
