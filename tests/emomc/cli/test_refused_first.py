"""What a command cannot do is refused before it does anything, not at the end of its work."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from emomc.candidates.evaluator import CandidateEvaluator
from emomc.common.errors import UserError
from emomc.data import splits
from emomc.lightning_modules.image_data import ImageDataModule

TINY = ("--population_size", 4, "--number_generations", 1, "--max_bits", 4)
TINY += ("--rounding", "nearest", "--accelerator", "cpu")


@pytest.fixture
def no_work(monkeypatch):
    """Fail if a candidate is evaluated."""

    def evaluate(*_, **__):
        raise AssertionError("a candidate was evaluated")

    monkeypatch.setattr(CandidateEvaluator, "evaluate", evaluate)


SEARCH = {
    "a pick without a rule": (("--pick", "budget"), "a pick such as safe"),
    "a pick of an unknown cost": (("--pick", "budget:watts=3"), "energy_mj, size_kib, latency_ms, cycles, .*watts"),
    "a pick of a time where there is no clock": (("--pick", "budget:latency_ms=5"), "cycles, in the pick .*latency_ms"),
    "the least time where there is no clock": (("--pick", "within:1:latency_ms"), "cycles, in the pick .*latency_ms"),
    "a budget of nothing": (("--pick", "budget:size_kib=0"), "a limit above 0 for size_kib, found '0'"),
    "a budget of no percent": (("--pick", "budget:size_kib=0%"), "a limit above 0 for size_kib, found '0'"),
    "a budget twice": (("--pick", "budget:size_kib=1,size_kib=2"), "each cost once"),
    "a budget nobody meets": (("--pick", "budget:size_kib=0.1"), "pick budget:size_kib=0.1 to be met .*cheapest"),
    "a share nobody meets": (("--pick", "budget:energy_mj=0.01%"), "to be met .*energy_mj"),
    "more points than there are": (("--pick", "within:101"), r"percentage points of 0\.\.100, found '101'"),
    "an index that no candidate gets": (("--pick", "index:8"), "below the 8 candidates .*found 8"),
    "an index of many digits": (("--pick", "index:" + "9" * 5000), "whole number of 0 or more, found '9+"),
    "layers of no candidate": (("--layers", 8), "--layers with an index below the 8 candidates .*found 8"),
    "layers of many digits": (("--layers", "9" * 5000), "--layers with the index"),
    "layers in other digits": (("--layers", "\u0663"), "--layers with the index"),
    "layers beyond all genotypes": (
        ("--lowest_level", 50, "--highest_level", 50, "--max_bits", 2, "--layers", 1),
        "below the 1 candidates .*found 1",
    ),
    "a share of next to nothing": (("--size_constraint", "1e-320%"), "to be met .*size_kib"),
    "a size nobody has": (("--size_constraint", "1"), "a size_constraint of 1 to be met .*size_kib"),
    "a rate of fine-tuning that is none": (("--finetune_learning_rate", "2"), "learning rate of fine-tuning"),
}


@pytest.mark.parametrize("case", SEARCH)
def test_search(refused, library, no_work, case):
    arguments, words = SEARCH[case]
    refused("search", "--library", library.path, *TINY, *arguments, words=words)


def test_a_fine_tuned_front_has_more_indices(run, library, no_work):
    arguments = ("--library", library.path, *TINY, "--finetune_epochs", 1, "--layers", 16)
    assert "below the 16 candidates" in run("search", *arguments).err


DATA = """
import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset

class Data(LightningDataModule):
    num_classes = 10

    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.rand(24, 1, 32, 32), torch.arange(24) % 10), batch_size=8)

    val_dataloader = train_dataloader
"""


def test_data_whose_test_images_cannot_be_loaded_make_no_library(refused, tmp_path):
    broken = "\n    def test_dataloader(self):\n        raise OSError('no disk')\n"
    (tmp_path / "data.py").write_text(DATA + broken)
    words = "test batches of Data, found an error: no disk"
    refused("pretrain", "--dataset", f"{tmp_path}/data.py:Data", "--accelerator", "cpu", words=words)


@pytest.mark.parametrize(
    ("constructor", "words"),
    [
        ("", "data.py:Data to have a constructor that takes preset, found none"),
        (
            "\n    def __init__(self):\n        super().__init__()\n",
            "make the data .* with preset=.*, found: .*preset",
        ),
    ],
)
def test_a_setting_that_the_users_data_do_not_take(refused, tmp_path, constructor, words):
    (tmp_path / "data.py").write_text(DATA + constructor)
    refused("pretrain", "--dataset", f"{tmp_path}/data.py:Data", "--preset", "mnist", words=words)


def test_data_without_test_images_make_one(run, tmp_path):
    (tmp_path / "data.py").write_text(DATA)
    levels = ("--pre_train_epochs", 1, "--pre_prune_upper_bound", 100, "--pre_prune_lower_bound", 100)
    ran = run("pretrain", "--dataset", f"{tmp_path}/data.py:Data", "--accelerator", "cpu", *levels)
    assert ran.status == 0, ran
    assert "there are no test images" in ran.err


@pytest.fixture
def no_test_images(monkeypatch):
    """Take the test images away from every data set."""
    whole = ImageDataModule.load_some

    def some(self, split, count):
        if split == "test":
            raise UserError("expected at least one test image, found none")
        return whole(self, split, count)

    monkeypatch.setattr(ImageDataModule, "load_some", some)


def test_a_search_without_test_images(refused, library, no_test_images, no_work):
    refused("search", "--library", library.path, *TINY, words="at least one test image")


def test_a_test_image_that_cannot_be_decoded(refused, library, no_work, monkeypatch):
    whole = ImageDataModule.load_resident

    def resident(self, *parts):
        assert "test" in parts
        raise UserError("expected an image in x.png, found a file that cannot be decoded")

    monkeypatch.setattr(ImageDataModule, "load_resident", resident)
    refused("search", "--library", library.path, *TINY, words="x.png")
    assert whole is not resident


def test_images_of_another_size(refused, library, no_work):
    manifest = library.path / "library.json"
    values = json.loads(manifest.read_text())
    values["data"]["image_size"] = 16
    manifest.write_text(json.dumps(values))
    words = r"a size of \(16, 16\) to be that of the library's images, found \(32, 32\)"
    refused("search", "--library", library.path, *TINY, words=words)


def test_other_settings_are_refused_before_images_are_read(refused, run, library, monkeypatch):
    assert run("search", "--library", library.path, *TINY, "--name", "s").status == 0

    def load(*_):
        raise AssertionError("images were read")

    monkeypatch.setattr(splits, "hold_split", load)
    monkeypatch.setattr("emomc.search.image_task.hold_split", load)
    refused("search", "--library", library.path, *TINY, "--name", "s", "--seed", 3, words="seed = 3")


def test_a_pick_that_no_point_meets_comes_after_the_result(run, library):
    ran = run("search", "--library", library.path, *TINY, "--pick", "aggregate:1e-9")
    assert ran.status == 2
    assert "Files: " in ran.out
    assert ran.err.splitlines() == [ran.err.strip()]
    assert "whose reward exceeds its penalty" in ran.err


@pytest.fixture
def no_network(monkeypatch):
    """Fail if an export builds a network."""

    def build(*_):
        raise AssertionError("a network was built")

    monkeypatch.setattr("emomc.cli.export_run.library_network", build)


EXPORT = {
    "a target that cannot be run": (("--format", "onnx", "--target", "zigzag", "--verify"), "can be verified.*zigzag"),
    "a target without ONNX": (("--target", "openvino"), "--target with the format onnx alone, found emomc"),
    "an opset without ONNX": (("--format", "torch", "--onnx_opset", "17"), "--onnx_opset with the format onnx alone"),
    "pixels without ONNX": (("--format", "torch", "--preprocess", "nchw"), "--preprocess with the format onnx alone"),
    "pixels where no images go in": (
        ("--format", "onnx", "--target", "zigzag", "--preprocess", "nhwc"),
        "no --preprocess for zigzag, .*found nhwc",
    ),
    "an opset that is too old": (("--format", "onnx", "--onnx_opset", "12"), r"--onnx_opset of 13\.\.21.*found 12"),
    "integers where none are read": (
        ("--format", "onnx", "--target", "ncnn", "--onnx_weights", "integers"),
        "--onnx_weights float32 for ncnn",
    ),
    "4-bit integers where none are read": (
        ("--format", "onnx", "--target", "qonnx", "--onnx_int4", "true"),
        "--onnx_int4 false with --target qonnx",
    ),
    "4-bit integers without any": (
        ("--format", "onnx", "--onnx_weights", "float32", "--onnx_int4", "true"),
        "--onnx_int4 false with --onnx_weights float32",
    ),
    "4-bit integers in an old opset": (
        ("--format", "onnx", "--onnx_opset", "17", "--onnx_int4", "true"),
        "--onnx_opset 21 with --onnx_int4 true",
    ),
    "a coding that is not used": (("--format", "onnx", "--coding", "csr"), "--coding with the format emomc .*onnx"),
    "a pick that is none": (("--pick", "index:-1"), "index:NUMBER"),
    "a pick of nobody": (("--pick", "index:77"), "77"),
}


@pytest.mark.parametrize("case", EXPORT)
def test_export(refused, searched, no_network, case):
    arguments, words = EXPORT[case]
    refused("export", "--run", searched, "--output", "net", *arguments, words=words)


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_an_export_without_its_packages(refused, searched, no_network, monkeypatch, package):
    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else known(name))
    words = rf"pip install 'emomc\[export\]', found no {package}"
    refused("export", "--run", searched, "--output", "net", "--format", "onnx", words=words)


def test_verifying_without_test_images(refused, searched, no_network, monkeypatch):
    def load(*_):
        raise UserError("expected at least one test image, found none")

    monkeypatch.setattr(ImageDataModule, "load_split", load)
    refused("export", "--run", searched, "--output", "net", "--verify", words="at least one test image")


def change_front(run: Path, **values: object) -> None:
    file = run / "search" / "s" / "front.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_verifying_with_other_test_images(refused, searched, no_network):
    change_front(searched, images_sha256={"test": "0" * 64})
    words = r"the test images of digits that the front was measured on \(000000000000\), found others in digits"
    refused("export", "--run", searched, "--output", "net", "--verify", words=words)


@pytest.mark.parametrize("named", [(), ("--verify",)])
def test_a_front_of_a_users_data(refused, searched, run, tmp_path, named):
    change_front(searched, dataset=f"{tmp_path}/mine.py:Data")
    arguments = ("export", "--run", searched, "--output", tmp_path / "net", *named)
    if named:
        refused(*arguments, words="expected --dataset .*mine.py:Data, on which the front was measured")
    else:
        assert run(*arguments).status == 0


@pytest.mark.parametrize("digest", ["0" * 64, None])
def test_another_calibration(refused, run, searched, no_network, digest):
    front = searched / "search" / "s" / "front.json"
    if digest is None:
        # Measured again, as by another machine.
        for file in searched.glob("calibration/*/*.safetensors"):
            with safe_open(file, "pt") as opened:
                metadata = opened.metadata()
            save_file({name: value + 1 for name, value in load_file(file).items()}, file, metadata)
    else:
        points = json.loads(front.read_text())["points"]
        change_front(searched, points=[{**point, "calibration_sha256": digest} for point in points])
    words = r"the calibration of level \d+ % as the front was measured with it \(\w{12}\), found another"
    refused("export", "--run", searched, "--output", "net", words=words)


def test_a_front_of_before_there_were_digests(run, searched):
    front = searched / "search" / "s" / "front.json"
    points = json.loads(front.read_text())["points"]
    change_front(searched, images_sha256=None, points=[{**point, "calibration_sha256": None} for point in points])
    assert run("export", "--run", searched, "--output", "net", "--verify").status == 0
