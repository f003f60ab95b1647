"""Accuracies are said to be of the data that they were measured on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TINY = ("--population_size", 2, "--number_generations", 1, "--max_bits", 3, "--rounding", "nearest", "--quiet")
TINY += ("--accelerator", "cpu", "--name", "s")


@pytest.fixture
def images(tmp_path) -> Path:
    """A folder of noise in ten classes."""
    random = np.random.default_rng(0)
    for part, count in (("train", 4), ("test", 2)):
        for label in range(10):
            for number in range(count):
                path = tmp_path / "images" / part / str(label) / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(random.integers(0, 256, (32, 32), dtype=np.uint8)).save(path)
    return tmp_path / "images"


def front_of(library) -> dict:
    return json.loads((library.path.parent / "search" / "s" / "front.json").read_text())


def test_a_search_on_other_data_says_so(run, refused, library, images):
    dataset = f"imagefolder:{images}"
    ran = run("search", "--library", library.path, *TINY, "--dataset", dataset)
    assert ran.status == 0, ran
    assert ran.err.splitlines() == [
        f"emomc-search: warning: accuracies are measured on {dataset}, not on digits, with which the library was made"
    ]
    front = front_of(library)
    assert front["dataset"] == dataset
    assert {*front["images_sha256"]} == {"validation", "test"}
    baseline = front["baseline"]
    assert baseline["validation_images"] == 10
    # The network has learned nothing of noise.
    assert baseline["validation_accuracy"] < 0.6 < library.dense_accuracy
    assert baseline["validation_correct"] == round(10 * baseline["validation_accuracy"])

    export = ("export", "--run", library.path.parent, "--output", "net.emomc", "--verify", "--pick", "max-accuracy")
    words = r"test images of imagefolder:.* that the front was measured on \(\w{12}\), found others in digits"
    refused(*export, "--dataset", "digits", words=words)
    ran = run(*export)
    assert ran.status == 0, ran
    assert "of 20 images), as the front says" in ran.out


def test_a_search_on_the_librarys_data_says_nothing(run, library):
    ran = run("search", "--library", library.path, *TINY)
    assert (ran.status, ran.err) == (0, "")
    front = front_of(library)
    assert front["dataset"] == "digits"
    assert front["images_sha256"] == library.manifest.images_sha256
    assert front["baseline"]["validation_accuracy"] == library.dense_accuracy


@pytest.mark.parametrize(("digests", "warned"), [(None, False), ({"validation": "0" * 64, "test": "0" * 64}, True)])
def test_images_that_changed_under_their_name(run, library, digests, warned):
    manifest = library.path / "library.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "images_sha256": digests}))
    ran = run("search", "--library", library.path, *TINY)
    assert ran.status == 0, ran
    lines = ran.err.splitlines()
    assert len(lines) == warned
    assert not warned or "measured on other validation images of digits" in lines[0]
