"""Files of a search that are damaged, foreign or newer: status 2, one line, and nothing changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from emomc.candidates.finetuned_weights import FinetunedNetwork, write_finetuned
from emomc.common.run_folder import LOG_FILE
from emomc.compression.quantization import QuantizedTensor, quantize_symmetric

TINY = ("--population_size", 4, "--number_generations", 1, "--max_bits", 4)
TINY += ("--rounding", "nearest", "--accelerator", "cpu")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))

Damage = Callable[[Path], object]


def written(name: str, content: bytes) -> Damage:
    """Replace files of a run that match a pattern."""

    def damage(folder: Path) -> None:
        files = list(folder.glob(name))
        assert files
        for file in files:
            file.write_bytes(content)

    return damage


def log_line(number: int, content: bytes) -> Damage:
    """Replace one line of the log."""

    def damage(folder: Path) -> None:
        file = folder / "search" / "s" / LOG_FILE
        lines = file.read_bytes().splitlines()
        lines[number] = content
        file.write_bytes(b"\n".join(lines) + b"\n")

    return damage


def logged(**values: Any) -> Damage:
    """Change the log's first evaluation."""

    def damage(folder: Path) -> None:
        line = (folder / "search" / "s" / LOG_FILE).read_bytes().splitlines()[1]
        log_line(1, json.dumps({**json.loads(line), **values}).encode())(folder)

    return damage


CALIBRATION = "calibration/*/*.safetensors"
SEARCHED: dict[str, tuple[Damage, str]] = {
    "settings of noise": (written("search/s/config.json", PNG), "settings of a search at .*cannot be read as JSON"),
    "settings that are a list": (written("search/s/config.json", b"[]"), "settings of a search at .*list"),
    "a log of noise": (written(f"search/s/{LOG_FILE}", PNG + b"\n"), f"evaluations in .*{LOG_FILE}.*line 1"),
    "a log of another program": (written(f"search/s/{LOG_FILE}", b'{"a": 1}\n'), f"{LOG_FILE}"),
    "a log that is a list": (written(f"search/s/{LOG_FILE}", b"[]\n"), f"evaluations in .*{LOG_FILE}.*line 1"),
    "a log with a line of noise": (log_line(2, PNG.replace(b"\n", b"")), f"evaluations in .*{LOG_FILE}.*line 3"),
    "a log with a line of another kind": (log_line(1, b'{"level": 50}'), f"evaluations in .*{LOG_FILE}.*line 2"),
    "a log with more right than seen": (logged(correct=10**6), f"evaluations in .*{LOG_FILE}.*line 2"),
    "a log with a negative count": (logged(seen=-1, correct=-1), f"evaluations in .*{LOG_FILE}.*line 2"),
    "a log with half an image": (logged(correct=0.5), f"evaluations in .*{LOG_FILE}.*line 2"),
    "a log with bits in words": (logged(bits={"conv1": "four"}), f"evaluations in .*{LOG_FILE}.*line 2"),
    "an order of noise": (written("library/image_order.json", PNG), "order of images"),
    "an order that is a list": (written("library/image_order.json", b"[]"), "order of .*images"),
    "a calibration of noise": (written(CALIBRATION, PNG), "layer inputs in .*cannot be read"),
}


@pytest.mark.parametrize("case", SEARCHED)
def test_files_of_a_search(refused, searched, case):
    damage, words = SEARCHED[case]
    damage(searched)
    refused("search", "--library", searched / "library", "--name", "s", *TINY, words=words)


def order(change: Callable[[list[int]], object]) -> Damage:
    def damage(folder: Path) -> None:
        file = folder / "library" / "image_order.json"
        content = json.loads(file.read_text())
        change(content["order"])
        file.write_text(json.dumps(content))

    return damage


@pytest.mark.parametrize("change", [list.pop, lambda numbers: numbers.__setitem__(0, 10**6), lambda n: n.append(0)])
def test_an_order_that_is_no_order(refused, searched, change):
    order(change)(searched)
    refused("search", "--library", searched / "library", "--name", "s", *TINY, words="order of .*images")


def front(**values: Any) -> Damage:
    def damage(folder: Path) -> None:
        file = folder / "search" / "s" / "front.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **values}))

    return damage


def point(**values: Any) -> Damage:
    """Change every point of the front."""

    def damage(folder: Path) -> None:
        points = json.loads((folder / "search" / "s" / "front.json").read_text())["points"]
        for entry in points:
            entry.update(values)
        front(points=points)(folder)

    return damage


def calibration(change: Callable[[dict[str, torch.Tensor]], object]) -> Damage:
    """Change the calibration, and let the front forget what it was."""

    def damage(folder: Path) -> None:
        for file in folder.glob(CALIBRATION):
            tensors = load_file(file)
            change(tensors)
            with safe_open(file, "pt") as opened:
                metadata = opened.metadata()
            save_file(tensors, file, metadata)
        point(calibration_sha256=None)(folder)

    return damage


def finetuned(layers: dict[str, QuantizedTensor]) -> Damage:
    """Name weights that are no fine-tuned weights of the library's network."""

    def damage(folder: Path) -> None:
        write_finetuned(folder / "search" / "s" / "tuned" / "a.safetensors", FinetunedNetwork(layers, {}))
        point(tuned="a", weights_sha256=None)(folder)

    return damage


def nothing(folder: Path) -> None:
    """Leave the run as it is."""


def twice(folder: Path) -> None:
    shutil.copytree(folder / "search" / "s", folder / "search" / "t")


FIRST = ("--pick", "index:0")
BITS = dict.fromkeys(("conv1", "conv2", "conv3", "linear1", "linear2"), 4)
EXPORT: dict[str, tuple[Damage, tuple[str, ...], str]] = {
    "unknown pick": (nothing, ("--pick", "best"), "knee.*best"),
    "a pick out of range": (nothing, ("--pick", "index:9999"), "9999"),
    "a budget nobody meets": (nothing, ("--pick", "budget:size_kib=0.0001"), r"0\.0001"),
    "unknown format": (nothing, ("--format", "tflite"), "tflite"),
    "unknown coding": (nothing, ("--coding", "zip"), "zip"),
    "unknown flag": (nothing, ("--fromat", "onnx"), "fromat"),
    "unknown search": (nothing, ("--search", "other"), "named other .*found none"),
    "several searches": (twice, (), "--search with its name, found s, t"),
    "no front": (written("search/s/front.json", PNG), (), r"front\.json at .*cannot be read as JSON"),
    "a front of a newer version": (front(format_version=2), (), "format_version 1 .*found 2"),
    "a front that is empty": (front(points=[]), (), "point"),
    "a front of other settings": (front(settings={}), FIRST, "quantizer"),
    "a front with a wrong setting": (
        front(settings={"quantizer": "magic", "per_channel": True}),
        FIRST,
        "magic",
    ),
    "a front with settings of another type": (
        front(settings={"quantizer": [], "per_channel": True}),
        FIRST,
        "as quantizer",
    ),
    "a front of an unknown arithmetic": (
        front(settings={"quantizer": "mse", "per_channel": True, "precision": "x"}),
        FIRST,
        "Precision 'x'",
    ),
    "a front of too many activation bits": (
        front(settings={"quantizer": "mse", "per_channel": True, "activation_bits": 10**9}),
        FIRST,
        r"activation_bits of 2\.\.16, found 1000000000",
    ),
    "a point with another range of a layer": (
        point(input_ranges={"conv1": [0, 1]}),
        FIRST,
        r"smallest and the largest input of conv1 as in the calibration.*found \[0, 1\]",
    ),
    "a point with a count of unknown images": (point(test_images=None), (*FIRST, "--verify"), "of None test images"),
    "a calibration of another shape": (
        calibration(lambda tensors: tensors.update({"conv1.mean_patch": torch.zeros(3)})),
        FIRST,
        r"mean input of conv1 of shape \(1, 1, 5, 5\) in the calibration .*found \(3,\)",
    ),
    "a calibration without a layer": (
        calibration(lambda tensors: [tensors.pop(f"conv1.{part}") for part in ("mean_patch", "range")]),
        FIRST,
        "mean input of conv1 .* found none",
    ),
    "fine-tuned weights of another shape": (
        finetuned({"conv1.weight": quantize_symmetric(torch.randn(3, 3), 4)}),
        FIRST,
        "fine-tuned weights of the library's network in .*, found other layers or shapes",
    ),
    "a point of a level that is not there": (point(level=55), FIRST, "80 %, 50 %, 20 %.*55 %"),
    "a point of half a level": (point(level=50.5), FIRST, r"50\.5"),
    "a point with too many bits": (point(bits={**BITS, "conv1": 99}), FIRST, "99"),
    "a point with 0 bits": (point(bits={**BITS, "conv1": 0}), FIRST, "bits"),
    "a point with half a bit": (point(bits={**BITS, "conv1": 2.5}), FIRST, r"2\.5"),
    "a point of another network": (point(bits={"conv9": 4}), FIRST, "conv"),
    "a point tuned elsewhere": (point(tuned="../../secret"), FIRST, "secret"),
    "a point tuned, its weights gone": (point(tuned="abc"), FIRST, "abc"),
    "a calibration that is gone": (front(calibration="0123"), FIRST, "0123"),
    "a level that is damaged": (written("library/level_*.safetensors", b"short"), FIRST, "checksum"),
    "a file below a file": (nothing, ("--output", "file/net.emomc"), "file"),
    "a folder as the file": (nothing, ("--output", "."), "file to write"),
}


@pytest.mark.parametrize("case", EXPORT)
def test_export(refused, searched, tmp_path, case):
    damage, arguments, words = EXPORT[case]
    (tmp_path / "work" / "file").write_text("a regular file")
    damage(searched)
    refused("export", "--run", searched, "--output", "net.emomc", *arguments, words=words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--run"),
        (("--run", "nowhere", "--output", "x"), "finished search in nowhere"),
        (("--run", "."), "--output"),
    ],
)
def test_export_of_nothing(refused, run, arguments, words):
    refused("export", *arguments, words=words)
