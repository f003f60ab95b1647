"""Ship a point of a searched front of each of five networks in three formats, and count the right answers of each file.

    python -m benchmarks.quality.shipped_networks --mnist data --cifar10 imagefolder:data/cifar10-jpeg \\
        --output docs/results/shipped_networks.md

The three commands do all of it, as a user would: `emomc-pretrain` on a part of the training images, `emomc-search
--activation_bits 8`, and `emomc-export --verify` of the recommended point, on all test images. What is there already is
not made again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.command_line import argument_parser
from benchmarks.common.page import machine, made_by, publish
from benchmarks.common.tables import table
from emomc.common.files import write_json
from emomc.common.run_folder import find_finished_search
from emomc.fronts.front_file import read_front

COMMANDS = Path(sys.executable).parent
PROFILER = Path(__file__).parent / "toolchains" / "runners" / "run_onnxruntime.py"
NARROW = ("--network_args", json.dumps({"width": 0.25}))
CIFAR10 = ("--trainer.limit_train_batches", "0.3")
FEW = ("--trainer.limit_train_batches", "0.1")
NETWORKS: Mapping[str, tuple[str, ...]] = {
    "LeNet-5": ("--network", "lenet5"),
    "MobileNet, a quarter of its width": ("--network", "mobilenet", *NARROW, *CIFAR10),
    "ResNet-18, a quarter of its width": ("--network", "resnet18", *NARROW, *CIFAR10),
    "MobileNetV2 of torchvision": ("--network", "torchvision.models:mobilenet_v2", *FEW),
    "SqueezeNet 1.1 of torchvision": ("--network", "torchvision.models:squeezenet1_1", *FEW),
}
"""Name -> what ``emomc-pretrain`` is given."""

STAGE_ONE = ("--pre_train_epochs", "10", "--pre_prune_upper_bound", "60", "--pre_prune_lower_bound", "30")
STAGE_ONE += ("--pre_prune_step", "30", "--pre_prune_epochs", "1", "--seed", "0")
STAGE_TWO = ("--activation_bits", "8", "--objectives", "accuracy", "size", "--accounting", "exact", "--coding", "best")
STAGE_TWO += ("--number_generations", "4", "--population_size", "10", "--seed", "0", "--accelerator", "cpu")
FORMATS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "packed file": ("point.emomc", ("--format", "emomc")),
    "C, int8": ("int8.c", ("--format", "c", "--c_arithmetic", "int8")),
    "C, float": ("float.c", ("--format", "c", "--c_arithmetic", "float")),
    "ONNX": ("point.onnx", ("--format", "onnx", "--target", "onnxruntime")),
}
"""Name -> the file, and the options of ``emomc-export``."""

ROW = "shipped.json"

READ_BACK = re.compile(r"Read back: test accuracy [\d.]+ % \(([\d,]+) of ([\d,]+) images\)")
OTHERS = re.compile(r"test accuracy .*; ([\d,]+) of [\d,]+ images of another class")


@dataclasses.dataclass(frozen=True)
class Found:
    """What a file gives for the test images."""

    correct: int
    others: int
    """Images of another class than from the network that was searched; 0 where only the counts are compared."""


class Refused(Exception):
    """A command ended with an error, which is the text."""


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--mnist", required=True, help="folder of MNIST")
    parser.add_argument("--cifar10", required=True, help="CIFAR-10 as --dataset takes it")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS), metavar="NETWORK")
    parser.add_argument("--runs", type=Path, default=Path("runs/shipped_networks"))
    parser.add_argument("--output", type=Path, help="markdown file to write, besides printing")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.networks:
        rows.append(_row(name, arguments))
        print(*rows[-1], sep=" | ", flush=True)
    publish(_page(rows), arguments.output)


def _row(name: str, arguments: argparse.Namespace) -> list[str]:
    """Train, search and ship one network, and return its line of the table."""
    run = arguments.runs / re.sub(r"\W+", "_", name.lower())
    if (run / ROW).exists():
        return list(json.loads((run / ROW).read_text(encoding="utf-8")))
    is_mnist = name == "LeNet-5"
    data = ["--dataset", "mnist", "--data_dir", arguments.mnist] if is_mnist else ["--dataset", arguments.cifar10]
    network = NETWORKS[name]
    # A file never names code that runs: a user's network is named each time.
    users = network[:2] if ":" in network[1] else ()
    _run("emomc-pretrain", *network, *data, *STAGE_ONE, "--output", run, "--accelerator", "cpu")
    _run("emomc-search", "--library", run / "library", *users, *STAGE_TWO)
    search = find_finished_search(run, None)
    front = read_front(search.front)
    exported = ("--run", run, *users)
    found: dict[str, Found | Refused] = {}
    for format, (file, options) in FORMATS.items():
        try:
            text = _run("emomc-export", *exported, *options, "--output", run / file, "--verify")
        except Refused as refused:
            found[format] = refused
        else:
            found[format], promised = _found(text), _promised(front, text)
    shape = json.loads(search.run.library.joinpath("library.json").read_text(encoding="utf-8"))["input_shape"]
    cells = [_cell(found[format], promised) for format in FORMATS]
    row = [name, f"{promised:,} of {front['points'][0]['test_images']:,}", *cells, _integers(run, shape)]
    write_json(run / ROW, row)
    return row


def _run(command: str, *words: object) -> str:
    """Run one of the commands, and return what it prints.

    Raises:
        Refused: it fails.
    """
    line = [str(COMMANDS / command), *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(f"{' '.join(line)}: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    return done.stdout


def _found(text: str) -> Found:
    read_back, others = READ_BACK.search(text), OTHERS.search(text)
    if read_back is None:
        raise RuntimeError(f"expected a count of the test images, found {text.strip()!r}")
    return Found(_number(read_back[1]), _number(others[1]) if others else 0)


def _promised(front: Mapping[str, Any], text: str) -> int:
    """Return the right answers that the search counted for the point that was exported."""
    picked = re.search(r"[Pp]oint (\d+)", text)
    if picked is None:
        raise RuntimeError(f"expected the point that was picked, found {text.strip()!r}")
    (point,) = (point for point in front["points"] if point["index"] == int(picked[1]))
    return int(point["test_correct"])


def _cell(found: Found | Refused, promised: int) -> str:
    if isinstance(found, Refused):
        others = re.search(r"for every test image, .* found ([\d,]+) others", str(found))
        if others is not None:
            return f"refused ({others[1]} of another class)"
        count = re.search(r"found test accuracy [\d.]+ % \(([\d,]+) of", str(found))
        if count is None:
            raise found
        return f"{_number(count[1]) - promised:+d}, refused"
    difference = f"{found.correct - promised:+d}" if found.correct != promised else "the same"
    return difference + (f" ({found.others} of another class)" if found.others else "")


def _integers(run: Path, shape: tuple[int, int, int]) -> str:
    """Return how many of the layers of the ONNX file onnxruntime computes with integers."""
    images = run / "noise.npy"
    np.save(images, np.random.default_rng(0).standard_normal((2, *shape), dtype=np.float32))
    line = [sys.executable, str(PROFILER), str(run / "point.onnx"), str(images), str(run / "scores.npy")]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    ran = json.loads(done.stdout)
    return f"{ran['integer_layers']} of {ran['layers']}: {ran['note']}"


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def _page(rows: list[list[str]]) -> str:
    missing = [name for name in NETWORKS if name not in {row[0] for row in rows}]
    left = f"\nNot run for this page: {', '.join(missing)}.\n" if missing else ""
    head = ["network", "right answers promised", *FORMATS, "layers that onnxruntime computes with integers"]
    return f"""# What is shipped, and what it answers

{made_by()} ({machine()}). Each network went through the three commands: a few epochs of training (LeNet-5 on MNIST,
the others on a part of those of CIFAR-10 (JPEG), so their accuracies are low and their scores
close to one another: a hard test for equal answers), a search with `--activation_bits 8`, and `emomc-export --verify`
of the recommended point. A cell has the right answers of the file on all test images, less those that the search
promised.

{table(head, rows)}
{left}
"Refused": more images get another class, or the number of right answers differs by more, than the 0.1 % that
`--verify` allows, and no file is written.
An input half-way between two codes goes either way, as the sums of the layer before are rounded, and takes images
whose scores are close to one another to another class.

`C` was compiled with the flags of `--verify` and run on every test image, in both arithmetics of `--c_arithmetic`.
"""


if __name__ == "__main__":
    main()
