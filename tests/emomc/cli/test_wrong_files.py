"""Files that are damaged, foreign, swapped, hostile or newer: status 2, one line, and nothing changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from emomc.candidates.finetuned_weights import FinetunedNetwork, write_finetuned
from emomc.common.files import sha256_of_file
from emomc.common.run_folder import LOG_FILE
from emomc.compression.quantization import QuantizedTensor, quantize_symmetric
from emomc.hardware.description import load_hardware

TINY = ("--population_size", 4, "--number_generations", 1, "--accelerator", "cpu")
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
    "an image of two sides": (entry(input_shape=[32, 32]), "complete manifest"),
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
    "a point of a level that is not there": (point(level=55), FIRST, "80, 50, 20.*55"),
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


HARDWARE: dict[str, tuple[str | bytes, str]] = {
    "a picture": (PNG, "hardware file at .*cannot be read"),
    "an empty file": ("", "hardware.*nothing"),
    "a list": ("- 1\n", "hardware"),
    "no YAML": ("hardware: {name: [\n", "YAML"),
    "a key twice": ("hardware: {}\nhardware: {}\n", "'hardware' twice"),
    "a Python object": ("hardware: !!python/object/apply:os.system ['echo let in > let_in']\n", "YAML .*python/object"),
    "nested too deep": ("hardware: " + "[" * 5000, "YAML"),
    "a bomb": (
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{c}: &{c} [{', '.join([f'*{b}'] * 9)}]\n" for b, c in zip("abcdefgh", "bcdefghi", strict=True)),
        "YAML",
    ),
}


@pytest.fixture(scope="module")
def preset() -> dict[str, Any]:
    return load_hardware("eyeriss_ratio").to_dict()["hardware"]


@pytest.mark.parametrize("case", HARDWARE)
def test_hardware(refused, library, tmp_path, case):
    content, words = HARDWARE[case]
    (tmp_path / "own.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    refused("search", "--library", library.path, *TINY, "--hardware", tmp_path / "own.yaml", words=words)


NUMBERS: dict[str, tuple[tuple[str | int, ...], Any, str]] = {
    "zero PEs": (("operational_array", "sizes"), [0, 14], "sizes.*0"),
    "no PEs": (("operational_array", "sizes"), [], "sizes"),
    "half a PE": (("operational_array", "sizes"), [12, 1.5], r"sizes.*1\.5"),
    "a negative energy": (("memories", 0, "r_cost"), -1, r"memories\[0\]\.r_cost.*-1"),
    "an energy of NaN": (("memories", 0, "w_cost"), float("nan"), r"w_cost.*nan"),
    "words of 0 bits": (("memories", 0, "word_bits"), 0, "word_bits.*0"),
    "no memories": (("memories",), [], "memories"),
    "an unknown unit": (("energy_unit",), "calories", "energy_unit.*calories"),
    "a newer version": (("version",), 2, "version.*2"),
    "no sources": (("sources",), {}, "sources"),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_hardware_numbers(refused, library, tmp_path, preset, case):
    place, value, words = NUMBERS[case]
    values = json.loads(json.dumps(preset))
    part = values
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"hardware": values}))
    refused("search", "--library", library.path, *TINY, "--hardware", tmp_path / "own.yaml", words=words)


CONFIGS: dict[str, str | bytes] = {name: content for name, (content, _) in HARDWARE.items() if name != "an empty file"}


@pytest.mark.parametrize("command", ["pretrain", "search", "export"])
@pytest.mark.parametrize("case", CONFIGS)
def test_configurations(refused, tmp_path, command, case):
    content = CONFIGS[case]
    (tmp_path / "own.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(command, "--config", tmp_path / "own.yaml", words="own.yaml|hardware|list")
