"""The layout of front.json: reading it, and errors that name the wrong entry."""

from __future__ import annotations

import json
import math

import pytest

from emomc.common.errors import UserError
from emomc.common.files import write_json
from emomc.fronts.front_file import FRONT_FORMAT_VERSION, check_front, read_front


def test_reads_what_was_written_by_file_and_by_folder(front, tmp_path):
    write_json(tmp_path / "front.json", front)
    assert read_front(tmp_path / "front.json") == front
    assert read_front(tmp_path) == front


def test_entries_that_are_not_known_and_empty_fronts_are_fine(front):
    front["later"] = {"more": 1}
    front["points"][0]["note"] = "kept"
    check_front(front)
    front["points"], front["history"] = [], []
    check_front(front)


def test_missing_file_and_broken_json(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_front(tmp_path / "front.json")
    (tmp_path / "front.json").write_text('{"format_version": 1')
    with pytest.raises(UserError, match="cannot be read as JSON"):
        read_front(tmp_path)


def test_other_versions_are_refused(front):
    front["format_version"] = FRONT_FORMAT_VERSION + 1
    with pytest.raises(UserError, match="format_version 1 in here, found 2"):
        check_front(front, "here")


def test_every_required_entry_is_missed_by_name(front):
    for key in [key for key in front if key != "format_version"]:
        broken = {name: value for name, value in front.items() if name != key}
        with pytest.raises(UserError, match=f"an entry {key}, found none"):
            check_front(broken)
    for key in ("index", "level", "bits", "density", "validation_accuracy", "size_kib"):
        broken = json.loads(json.dumps(front))
        del broken["points"][2][key]
        with pytest.raises(UserError, match=rf"an entry points\[2\]\.{key}, found none"):
            check_front(broken)


def test_energies_are_in_every_entry_or_in_none(front):
    for entry in (front["baseline"], *front["points"]):
        entry.pop("energy_by_layer", None)
    some = json.loads(json.dumps(front))
    del some["points"][2]["energy_mj"]
    with pytest.raises(UserError, match=r"energy_mj in points\[2\] of the front, as other entries have, found none"):
        check_front(some)
    for entry in (front["baseline"], *front["points"]):
        del entry["energy_mj"]
    check_front(front)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.update(points={}), "a list as points"),
        (lambda f: f["baseline"].update(validation_accuracy=1.5), "validation_accuracy of 0..1 in the baseline"),
        (lambda f: f["points"][1].update(test_correct=361), r"test_correct among them in points\[1\].*360 and 361"),
        (lambda f: f["points"][1].update(validation_images=0), "validation_images of at least 1"),
        (lambda f: f.update(objectives=[]), "objectives"),
        (lambda f: f.update(objectives=[1]), "objectives"),
        (lambda f: f.update(network=3), "a text as network"),
        (lambda f: f.update(finished=1), "true or false as finished"),
        (lambda f: f["baseline"].update(energy_mj=None), "a number as energy_mj in the baseline .*found none"),
        (lambda f: f["points"][1].update(index=0), "an index that no other point has"),
        (lambda f: f["points"][1].update(index=True), "whole number"),
        (lambda f: f["points"][1].update(energy_mj="3"), r"a number as points\[1\]\.energy_mj, found '3'"),
        (lambda f: f["points"][1].update(energy_mj=math.inf), "a number that is not finite"),
        (lambda f: f["points"][1].update(validation_accuracy=True), "a number as .*validation_accuracy, found True"),
        (lambda f: f["points"][1].update(test_accuracy="no"), "test_accuracy"),
        (lambda f: f["points"][1]["bits"].pop("conv2"), "conv2"),
        (lambda f: f["points"][1]["density"].update(conv2=None), "conv2"),
        (lambda f: f["points"][1]["energy_by_layer"].update(conv2=3), "energy_by_layer"),
        (lambda f: f["points"][1]["energy_by_layer"]["conv2"].update(mac="x"), "mac"),
        (lambda f: f["points"][1]["bytes_by_layer"].update(conv2="x"), "bytes_by_layer"),
        (lambda f: f["history"][3].pop("hypervolume"), r"an entry history\[3\]\.hypervolume, found none"),
        (lambda f: f["layers"][0].pop("name"), r"an entry layers\[0\]\.name, found none"),
        (lambda f: f["points"].append(3), "an object"),
    ],
)
def test_names_what_is_wrong_in_one_line(front, change, words):
    change(front)
    with pytest.raises(UserError, match=words) as caught:
        check_front(front)
    assert "\n" not in str(caught.value)


def test_refuses_what_is_no_object():
    with pytest.raises(UserError, match="expected here, found a list"):
        check_front([], "here")
