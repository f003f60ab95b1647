"""Index a folder of 200,000 image files and search on it: seconds, and memory beside that of 2,000 files.

    python -m benchmarks.speed.many_images --output docs/results/many_images.md

The files are hard links to those of the digits: real files to open and decode, with one copy on disk.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from benchmarks.common.command_line import argument_parser
from benchmarks.common.page import machine, made_by, publish
from benchmarks.common.tables import table
from emomc.data.config import DataConfig
from emomc.data.datasets import load_dataset
from emomc.data.image_dataset import ImageDataset

FEW, MANY = 2_000, 200_000
LIMIT_GIB, LIMIT_S = 1.0, 60.0
"""Of the memory that a search of many files may take beside that of few, and of the time to index them."""
SEARCH = (
    *("--population_size", "8", "--number_generations", "2", "--accelerator", "cpu", "--quiet", "true"),
    *("--finetune_epochs", "0"),
)


def main() -> None:
    """Write the page."""
    parser = argument_parser(__doc__)
    parser.add_argument("--output", type=Path, help="file for the page")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        publish(_page(Path(scratch)), arguments.output)


def _page(folder: Path) -> str:
    digits = load_dataset(DataConfig())
    names = {count: folder / str(count) for count in (FEW, MANY)}
    for count, name in names.items():
        _write(name, digits, count)
    rows, gib, seconds = [], {}, {}
    for count, name in names.items():
        began = time.monotonic()
        load_dataset(DataConfig(dataset=f"imagefolder:{name}"))
        seconds[count] = time.monotonic() - began
        if count == FEW:
            _run(("emomc-pretrain", "--network", "lenet5", "--dataset", f"imagefolder:{name}", *_TRAIN), folder)
        peak, whole = _run(
            (
                "emomc-search",
                "--library",
                "run/library",
                "--dataset",
                f"imagefolder:{name}",
                "--name",
                name.name,
                *SEARCH,
            ),
            folder,
        )
        gib[count] = peak
        rows.append([f"{count:,}", f"{seconds[count]:.1f}", f"{whole:.0f}", f"{gib[count]:.2f}"])
    more = gib[MANY] - gib[FEW]
    return "\n".join(
        [
            "# Many image files",
            "",
            f"{made_by()} ({machine()}).",
            "",
            f"Files are hard links to images of the digits, 1x32x32 pixels, a tenth of them for validation. The search "
            f"has {SEARCH[1]} candidates in each of {SEARCH[3]} generations.",
            "",
            table(["files", "seconds to index", "seconds of a search", "peak memory, GiB"], rows),
            "",
            f"- {MANY:,} files are indexed in {seconds[MANY]:.1f} s (limit {LIMIT_S:.0f}).",
            f"- Their search takes {more:.2f} GiB more than that of {FEW:,} (limit {LIMIT_GIB:.0f}).",
            "",
        ]
    )


_TRAIN = (
    *("--accelerator", "cpu", "--pre_train_epochs", "3", "--pre_prune_epochs", "1", "--pre_prune_step", "40"),
    *("--output", "run"),
)


def _write(folder: Path, digits: ImageDataset, count: int) -> None:
    """Write a folder of so many files."""
    originals = folder.with_name("originals")
    originals.mkdir(exist_ok=True)
    images, labels = digits.train[torch.arange(len(digits.train))]
    for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        path = originals / f"{label}-{number}.png"
        if not path.exists():
            Image.fromarray(image[0].numpy()).save(path)
    files = sorted(originals.iterdir())
    for name in digits.class_names:
        (folder / "train" / name).mkdir(parents=True)
    for number in range(count):
        original = files[number % len(files)]
        os.link(original, folder / "train" / original.name.partition("-")[0] / f"{number:06d}.png")


def _run(command: Sequence[str], folder: Path) -> tuple[float, float]:
    """Run a command in a folder; return its peak memory, GiB, and its seconds."""
    began = time.monotonic()
    program = str(Path(sys.executable).with_name(command[0]))
    process = subprocess.Popen([program, *command[1:]], cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"expected {command[0]} to succeed, found status {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss / 2**20, time.monotonic() - began


if __name__ == "__main__":
    main()
