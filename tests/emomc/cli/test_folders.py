"""A folder of photographs as people have it, through all commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

LEVELS = ("--pre_prune_upper_bound", 50, "--pre_prune_lower_bound", 50, "--pre_prune_epochs", 1)
TRAIN = ("--pre_train_epochs", 1, *LEVELS, "--accelerator", "cpu", "--evaluation_batch_size", 8)
SEARCH = ("--population_size", 4, "--number_generations", 1, "--max_bits", 4, "--accelerator", "cpu", "--name", "s")
SEARCH += ("--rounding", "nearest")


@pytest.fixture
def photographs(tmp_path) -> Path:
    """Training and validation images of several sizes, in folders within the classes; no test images."""
    random = np.random.default_rng(0)
    for part in ("train", "valid"):
        for label in range(2):
            for number in range(8):
                path = tmp_path / "photographs" / part / f"class {label}" / f"roll {number % 2}" / f"{number}.jfif"
                path.parent.mkdir(parents=True, exist_ok=True)
                size = int(random.integers(36, 60)), int(random.integers(36, 60)), 3
                pixels = random.integers(100 * label, 150 + 100 * label, size, dtype=np.uint8)
                Image.fromarray(pixels).save(path, "JPEG")
    return tmp_path / "photographs"


def test_through_all_commands_without_test_images(run, refused, photographs):
    dataset = f"imagefolder:{photographs}"
    looks = ("--resize", 36, "--crop", 32, "--channels", 1, "--mean", 0.5, "--std", 0.25)
    made = run("pretrain", "--dataset", dataset, "--network", "lenet5", *looks, *TRAIN, "--output", "run")
    assert made.status == 0, made
    none = "there are no test images: searches will have validation accuracies alone"
    assert made.err.splitlines() == [f"emomc-pretrain: warning: {none}"]
    library = json.loads(Path("run/library/library.json").read_text())
    assert library["input_shape"] == [1, 32, 32]
    assert (library["mean"], library["std"]) == ([0.5], [0.25])
    assert library["data"]["resize"] == 36

    searched = run("search", "--library", "run/library", *SEARCH)
    assert searched.status == 0, searched
    assert "emomc-search: warning: there are no test images: the front has validation accuracies alone" in searched.err
    front = json.loads(Path("run/search/s/front.json").read_text())
    assert front["finished"]
    assert front["baseline"]["validation_images"] == 16
    assert {point["test_accuracy"] for point in front["points"]} == {None}
    assert "test %" not in searched.out
    assert Path("run/search/s/report.html").exists()

    export = ("export", "--run", "run", "--output", "net.emomc")
    refused(*export, "--verify", words="expected at least one test image, found none")
    assert run(*export).status == 0


def test_a_run_goes_on_with_the_same_preprocessing_alone(run, refused, photographs):
    words = ("pretrain", "--dataset", f"imagefolder:{photographs}", "--network", "lenet5", *TRAIN, "--output", "run")
    looks = ("--image_size", 32, "--channels", 1)
    normalised = (*looks, "--mean", 0.5, "--std", 0.25)
    assert run(*words, *normalised).status == 0
    assert run(*words, *normalised).status == 0
    refused(*words, *looks, "--mean", 0.4, "--std", 0.25, words=r"made with (mean|data).*0\.4.*found .*0\.5")
