"""The result files of a search, read as users read them."""

from __future__ import annotations

import csv
import json

import pandas
import pytest
from PIL import Image

from emomc.callbacks.search.front_writer import FrontWriter
from emomc.common.intervals import wilson_interval
from emomc.fronts.document import front_document
from emomc.fronts.front_file import check_front, read_front


@pytest.fixture
def written(finished, replay):
    replay(finished, [FrontWriter()])
    return finished


def test_all_files_are_there_and_no_other(written):
    names = {path.name for path in written.folder.iterdir()}
    assert names == {"front.csv", "front.json", "front.png", "report.html", "candidates.csv"}
    with Image.open(written.folder / "front.png") as picture:
        assert min(picture.size) > 300
    assert written.library.manifest.network in (written.folder / "report.html").read_text()


def test_front_csv_is_the_front(written):
    table = pandas.read_csv(written.folder / "front.csv")
    front = written.front
    assert list(table["index"]) == [point.index for point in front]
    assert list(table["validation_accuracy"]) == [point.accuracy for point in front]
    assert list(table["test_accuracy"]) == [point.test.accuracy for point in front]
    assert list(table["level_percent"]) == [point.genotype.level for point in front]
    for name in ("energy_mj", "size_kib", "size_bytes", "cycles"):
        # Written with all their digits; an older pandas reads the last one wrongly.
        assert list(table[name]) == pytest.approx([point.costs[name] for point in front], rel=1e-15)
    for position, layer in enumerate(written.space.layers):
        assert list(table[f"bits_{layer}"]) == [point.genotype.bits[position] for point in front]
    assert table["energy_improvement"].iloc[0] == pytest.approx(
        written.uncompressed["energy_mj"] / front[0].costs["energy_mj"]
    )


def test_intervals_surround_their_accuracies(written):
    table = pandas.read_csv(written.folder / "front.csv")
    for kind in ("validation", "test"):
        low, high = table[f"{kind}_accuracy_low"], table[f"{kind}_accuracy_high"]
        assert ((low >= 0) & (low <= table[f"{kind}_accuracy"])).all()
        assert ((table[f"{kind}_accuracy"] <= high) & (high <= 1)).all()
        first = table.iloc[0]
        expected = wilson_interval(int(first[f"{kind}_correct"]), int(first[f"{kind}_images"]))
        assert (low[0], high[0]) == pytest.approx(expected, rel=1e-15)
    document = read_front(written.folder)
    low = [point["test_accuracy_low"] for point in document["points"]]
    assert list(table["test_accuracy_low"]) == pytest.approx(low, rel=1e-15)
    base = document["baseline"]
    assert base["validation_correct"] / base["validation_images"] == pytest.approx(base["validation_accuracy"])
    assert base["validation_accuracy_low"] < base["validation_accuracy"] < base["validation_accuracy_high"]


def test_pandas_reads_counts_as_whole_numbers_and_the_rest_as_fractions(written):
    always = {"index", "generation", "level_percent", "size_bytes"}
    always |= {f"bits_{layer}" for layer in written.space.layers}
    seen = {"validation_correct", "validation_images_seen", "validation_images", "test_correct", "test_images"}
    front = pandas.read_csv(written.folder / "front.csv")
    assert {name for name, kind in front.dtypes.items() if kind == "int64"} == always | seen
    assert {str(kind) for kind in front.drop(columns=always | seen | {"tuned"}).dtypes} == {"float64"}
    # Candidates that were not run, or not to the end, leave cells empty; pandas has a type for whole numbers with gaps.
    candidates = pandas.read_csv(written.folder / "candidates.csv", dtype=dict.fromkeys(seen, "Int64"))
    assert list(candidates) == list(front)
    assert {name for name, kind in candidates.dtypes.items() if kind == "int64"} == always
    assert {str(kind) for kind in candidates.drop(columns=always | seen | {"tuned"}).dtypes} == {"float64"}
    assert (candidates["validation_correct"] <= candidates["validation_images_seen"]).all()


def test_candidates_csv_holds_everyone(written):
    with (written.folder / "candidates.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == list(range(len(written.candidates)))
    for row, candidate in zip(rows, written.candidates, strict=True):
        # No accuracy if not all images were evaluated, because the value would be a bound.
        assert (row["validation_accuracy"] != "") == candidate.measured
        if candidate.evaluation:
            assert int(row["validation_images_seen"]) == candidate.evaluation.seen


def test_front_json_is_what_the_document_says(written):
    document = read_front(written.folder)
    check_front(document)
    assert [point["index"] for point in document["points"]] == [point.index for point in written.front]
    assert len(document["history"]) == 3
    written.history = written.history[:3]  # as the three generations that were replayed
    expected = json.loads(json.dumps(front_document(written)))
    assert document == expected
    assert document["finished"] is True
    assert document["energy_unit"] == "mJ"


def test_parts_sum_to_the_whole(written):
    document = read_front(written.folder)
    for point, candidate in zip(document["points"], written.front, strict=True):
        energy = sum(sum(parts.values()) for parts in point["energy_by_layer"].values())
        assert energy == pytest.approx(candidate.costs["energy_mj"])
        assert sum(point["bytes_by_layer"].values()) <= point["size_bytes"]
        assert set(point["bits"]) == {layer.name for layer in written.library.manifest.layers}
        assert all(0 < density <= 1 for density in point["density"].values())


def test_nothing_measured_leaves_tables_without_rows(finished, replay):
    finished.candidates = []
    replay(finished, [FrontWriter()])
    assert (finished.folder / "front.csv").read_text() == ""
    assert json.loads((finished.folder / "front.json").read_text())["points"] == []
    assert not (finished.folder / "front.png").exists()
