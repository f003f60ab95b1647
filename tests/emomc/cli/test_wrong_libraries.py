"""Libraries that are damaged, foreign, swapped, hostile or newer: status 2, one line, and nothing changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from emomc.common.files import sha256_of_file

TINY = ("--population_size", 4, "--number_generations", 1, "--max_bits", 4)
TINY += ("--rounding", "nearest", "--accelerator", "cpu")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))

Damage = Callable[[Path], object]


def entry(**values: Any) -> Damage:
    """Change entries of the manifest."""

    def damage(folder: Path) -> None:
        file = folder / "library.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **values}))

    return damage


def data(**values: Any) -> Damage:
    def damage(folder: Path) -> None:
        manifest = json.loads((folder / "library.json").read_text())
        entry(data={**manifest["data"], **values})(folder)

    return damage


def level(**values: Any) -> Damage:
    """Change the second level of the manifest."""

    def damage(folder: Path) -> None:
        levels = json.loads((folder / "library.json").read_text())["levels"]
        levels[1].update(values)
        entry(levels=levels)(folder)

    return damage


def layer(**values: Any) -> Damage:
    """Change the first layer of the manifest."""

    def damage(folder: Path) -> None:
        layers = json.loads((folder / "library.json").read_text())["layers"]
        layers[0].update(values)
        entry(layers=layers)(folder)

    return damage


def manifest(content: bytes) -> Damage:
    return lambda folder: (folder / "library.json").write_bytes(content)


def without(name: str) -> Damage:
    def damage(folder: Path) -> None:
        values = json.loads((folder / "library.json").read_text())
        del values[name]
        (folder / "library.json").write_text(json.dumps(values))

    return damage


def truncated(folder: Path) -> None:
    file = folder / "library.json"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def swapped(folder: Path) -> None:
    one, other = folder / "level_050.safetensors", folder / "level_080.safetensors"
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def signed(change: Callable[[dict[str, torch.Tensor]], object]) -> Damage:
    """Change the tensors of a level and update its checksum, as an attacker would."""

    def damage(folder: Path) -> None:
        file = folder / "level_050.safetensors"
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file)
        levels = json.loads((folder / "library.json").read_text())["levels"]
        next(record for record in levels if record["percent"] == 50)["sha256"] = sha256_of_file(file)
        entry(levels=levels)(folder)

    return damage


def foreign_level(folder: Path) -> None:
    signed(lambda tensors: tensors.clear())(folder)


LIBRARY: dict[str, tuple[Damage, str]] = {
    "no manifest": (lambda folder: (folder / "library.json").unlink(), "manifest of a library at .*no such file"),
    "empty manifest": (manifest(b""), "cannot be read as JSON"),
    "truncated manifest": (truncated, "cannot be read as JSON"),
    "manifest of noise": (manifest(PNG), "cannot be read as JSON"),
    "manifest nested too deep": (manifest(b"[" * 100_000), "cannot be read as JSON"),
    "manifest that is a list": (manifest(b"[]"), "format version 1 .*list"),
    "manifest of another program": (manifest(b'{"name": "x"}'), "format version 1 .*None"),
    "manifest of a newer version": (entry(format_version=2), "format version 1 .*found 2"),
    "manifest without its layers": (without("layers"), "complete manifest .*layers"),
    "manifest without its levels": (without("levels"), "levels"),
    "no levels": (entry(levels=[]), "levels"),
    "a level that is no object": (entry(levels=[3]), "complete manifest"),
    "a level of 150 %": (level(percent=150), "150"),
    "a level in words": (level(percent="eighty"), "eighty"),
    "a level twice": (level(percent=50), "50"),
    "a level without a checksum": (level(sha256=None), "sha256"),
    "a level file elsewhere": (level(file="../../secret.safetensors"), r"\.\./\.\./secret"),
    "a level file that is missing": (lambda folder: (folder / "level_050.safetensors").unlink(), "level 50 %.*no such"),
    "a level file that is truncated": (
        lambda folder: (folder / "level_050.safetensors").write_bytes(b"short"),
        "checksum .*changed or swapped",
    ),
    "level files that are swapped": (swapped, "checksum .*changed or swapped"),
    "a level with NaN": (
        signed(lambda tensors: tensors["linear1.weight.remaining"].fill_(float("nan"))),
        r"finite weights in .*level_050\.safetensors, found a NaN or an infinity in linear1",
    ),
    "a level with a bias of NaN": (
        signed(lambda tensors: tensors["linear1.bias"].fill_(float("nan"))),
        r"finite weights in .*level_050\.safetensors, found a NaN or an infinity in linear1",
    ),
    "a level of another network": (foreign_level, "expected weights of lenet5 .*conv1"),
    "a level with a weight of another shape": (
        signed(lambda tensors: tensors.update({"conv1.bias": torch.zeros(7)})),
        "conv1.bias",
    ),
    "a level with a mask that is too short": (
        signed(lambda tensors: tensors.update({"linear1.weight.mask": torch.zeros(3, dtype=torch.uint8)})),
        "level_050.*mask of",
    ),
    "a level that asks for a terabyte": (
        signed(lambda tensors: tensors.update({"linear1.weight.shape": torch.tensor([1 << 20, 1 << 20])})),
        "level_050.*mask of",
    ),
    "a layer of another shape": (layer(out_channels=7), "conv1"),
    "a layer of a negative size": (layer(in_channels=-1), "in_channels|conv1"),
    "a layer without a name": (layer(name=None), "name|conv1"),
    "an image of two sides": (entry(input_shape=[32, 32]), "channels, height and width as input_shape"),
    "an image of no size": (entry(input_shape=[1, 0, 32]), "input_shape"),
    "classes that are none": (entry(class_names=[]), "class"),
    "another number of classes": (
        entry(class_names=["a", "b"]),
        "of the classes a, b, found the class '0' and 9",
    ),
    "batches of nothing": (entry(evaluation_batch_size=0), "evaluation_batch_size"),
    "batches in words": (entry(evaluation_batch_size="many"), "evaluation_batch_size"),
    "a network that is unknown": (entry(network="lenet6"), "lenet5.*lenet6"),
    "a network that is a number": (entry(network=5), "network"),
    "arguments that are no object": (entry(network_args=[1]), "network_args"),
    "a network wider than its files": (
        entry(network="vgg16", network_args={"width": 1000}),
        "at most .* parameters, 8 for each byte of a level's file, found .* {'width': 1000}",
    ),
    "a network wider than memory": (
        entry(network="vgg16", network_args={"width": 1000000}),
        "vgg16 with width=1000000",
    ),
    "a network of no width": (entry(network="vgg16", network_args={"width": 1e-300, "in_channels": 10**12}), "vgg16"),
    "a network of all widths": (entry(network="vgg16", network_args={"width": 1e300}), "vgg16"),
    "images that fill the memory": (entry(input_shape=[3, 100_000, 100_000]), "at most 67108864 pixels"),
    "batches that fill the memory": (entry(evaluation_batch_size=10**12), r"evaluation_batch_size of 1\.\.1048576"),
    "more means than channels": (entry(mean=[0.5] * 1000), "a number for each of 1 channels as mean"),
    "a deviation of 0": (entry(std=[0]), "above 0 as std"),
    "a million classes and more": (entry(class_names=["x"] * ((1 << 20) + 1)), "2 to 1048576 class names"),
    "arguments that do not fit": (entry(network_args={"depth": 3}), "depth"),
    "data with an unknown entry": (data(shuffle=True), "shuffle"),
    "data with a wrong entry": (data(batch_size="many"), "batch_size"),
    "data that is unknown": (data(dataset="digit"), "digits.*digit"),
    "data that is a list": (entry(data=[]), "data"),
}


@pytest.mark.parametrize("case", LIBRARY)
def test_library(refused, library, case):
    damage, words = LIBRARY[case]
    damage(library.path)
    refused("search", "--library", library.path, *TINY, words=words)
