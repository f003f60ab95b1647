"""Each wrong choice of a network or of data ends a command with status 2 and one clear line."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from emomc.cli import pretrain


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    base = tmp_path / "images"
    for part in ("train", "test"):
        for name in ("a", "b"):
            for number in range(3):
                save(base / part / name / f"{number}.png", 32, 32)
    return base


def save(path: Path, height: int, width: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((height, width, 3), dtype=np.uint8)).save(path)


def refusal(capsys: pytest.CaptureFixture[str], tmp_path: Path, *arguments: str) -> str:
    assert pretrain.main([*arguments, "--accelerator", "cpu", "--output", str(tmp_path / "run")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_a_class_that_is_no_module(capsys, tmp_path):
    (tmp_path / "mine.py").write_text("class Thing:\n    pass\n")
    line = refusal(capsys, tmp_path, "--network", f"{tmp_path}/mine.py:Thing")
    assert re.search("to be a torch.nn.Module class .*, found the class Thing$", line)


def test_an_unknown_network(capsys, tmp_path):
    assert "among lenet5, mobilenet, vgg16, resnet18" in refusal(capsys, tmp_path, "--network", "alexnet")


def test_an_unknown_dataset(capsys, tmp_path):
    assert "among digits, mnist, cifar10, imagefolder:DIR" in refusal(capsys, tmp_path, "--dataset", "imagenet")


def test_a_folder_with_no_classes(capsys, tmp_path):
    (tmp_path / "empty" / "train").mkdir(parents=True)
    line = refusal(capsys, tmp_path, "--dataset", f"imagefolder:{tmp_path}/empty")
    assert line.endswith("empty/train, found no classes")


def test_images_of_unequal_size(capsys, tmp_path, folder):
    save(folder / "train" / "a" / "2.png", 20, 32)
    line = refusal(capsys, tmp_path, "--dataset", f"imagefolder:{folder}")
    assert re.search(r"expected images of one size in .*, or --image_size .*32x32 and 20x32 .*train/a/2.png", line)


def test_classes_missing_in_test(capsys, tmp_path, folder):
    save(folder / "train" / "c" / "0.png", 32, 32)
    line = refusal(capsys, tmp_path, "--dataset", f"imagefolder:{folder}")
    assert line.endswith("found none of c in test")


def test_an_excluded_pattern_that_matches_nothing(capsys, tmp_path, folder):
    dataset = ["--dataset", f"imagefolder:{folder}"]
    line = refusal(capsys, tmp_path, *dataset, "--exclude_layers", "[head.*]")
    assert line.endswith("found 'head.*'")


def test_weights_that_do_not_fit(capsys, tmp_path, folder):
    torch.save({"conv1.weight": torch.zeros(6, 3, 5, 5)}, tmp_path / "weights.pt")
    line = refusal(
        capsys,
        tmp_path,
        "--dataset",
        f"imagefolder:{folder}",
        "--weights",
        f"{tmp_path}/weights.pt",
        "--weights_strict",
        "true",
    )
    assert re.search("expected weights of LeNet5 in .*weights.pt, found no conv1.bias, .* and 6 more$", line)


def test_images_of_a_size_the_network_does_not_take(capsys, tmp_path, folder):
    line = refusal(capsys, tmp_path, "--dataset", f"imagefolder:{folder}", "--image_size", "28")
    assert "expected images of 32x32 pixels for LeNet-5, found 28x28" in line


def test_classes_the_network_does_not_give(capsys, tmp_path, folder):
    dataset = ["--dataset", f"imagefolder:{folder}"]
    line = refusal(capsys, tmp_path, *dataset, "--network_args", '{"num_classes": 7}')
    assert re.search("to give 2 class scores, found an output of shape", line)


def test_an_argument_the_network_does_not_take(capsys, tmp_path, folder):
    dataset = ["--dataset", f"imagefolder:{folder}"]
    line = refusal(capsys, tmp_path, *dataset, "--network_args", '{"depth": 3}')
    assert "unexpected keyword argument 'depth'" in line
