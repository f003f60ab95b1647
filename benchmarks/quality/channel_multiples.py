"""What onnxruntime gains from levels of channels whose numbers are multiples of 2, 8 and 16.

    python -m benchmarks.quality.channel_multiples --photos cifar10-jpeg --work runs/multiples

The networks are trained for one epoch and the levels not at all: what a network takes does not depend on its weights.
Writes ``docs/results/channel_multiples.md`` if asked to. Libraries in ``--work`` are not made again, but measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.common.command_line import argument_parser
from benchmarks.common.page import machine, made_by, publish
from benchmarks.common.tables import table
from benchmarks.quality.patterns import BATCH, LEVELS, REPEATS, channel_speed, few_photos
from emomc.common.run_folder import RunFolder
from emomc.data.config import DataConfig
from emomc.library.library import Library
from emomc.pretraining.config import PretrainingConfig
from emomc.pretraining.prepare import prepare_library
from emomc.runtime.devices import Devices

MULTIPLES = (2, 8, 16)
NETWORKS: Mapping[str, tuple[str, Mapping[str, Any], int]] = {
    "resnet18, a quarter as wide": ("resnet18", {"width": 0.25}, 32),
    "mobilenet, a quarter as wide": ("mobilenet", {"width": 0.25}, 32),
    "mobilenet": ("mobilenet", {}, 32),
    "mobilenet_v2 of torchvision": ("torchvision.models:mobilenet_v2", {}, 96),
}
"""Name in the table -> network, its arguments, and the side of its images in pixels."""
HEAD = ("network", "multiple of", "level", "share of MACs", "share of time", "time over MACs")


def library_of(name: str, multiple: int, photos: Path, work: Path) -> Library:
    """Return a library with levels of channels, whose numbers are multiples of a number."""
    network, arguments, side = NETWORKS[name]
    folder = work / f"{name.replace(',', '').replace(' ', '_')}_{multiple}"
    # How sensitive each layer is is not asked here.
    page = RunFolder(folder).sensitivity_page
    page.parent.mkdir(parents=True, exist_ok=True)
    page.touch()
    levels = {**LEVELS, "channel_multiple": multiple, "pattern": ["channel"], "pre_prune_epochs": 0}
    return prepare_library(
        PretrainingConfig(network, network_args=dict(arguments), pre_train_epochs=1, **levels),
        DataConfig(f"imagefolder:{photos}", image_size=side, batch_size=64, validation_fraction=0.3),
        folder,
        devices=Devices(accelerator="cpu", devices=1),
    )


def rows(photos: Path, work: Path) -> list[list[str]]:
    """Measure all networks, and return the rows of the table."""
    found = []
    for name in NETWORKS:
        for multiple in MULTIPLES:
            library = library_of(name, multiple, photos, work)
            for level in channel_speed(library, work):
                macs, taken = level["macs"], level["time"]
                numbers = [f"{macs:.3f}", f"{taken:.3f}", f"{taken / macs:.2f}"]
                found.append([name, str(multiple), level["level"], *numbers])
    return found


def main() -> None:
    """Write the page."""
    parser = argument_parser(__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="folder of CIFAR-10 (JPEG)")
    parser.add_argument("--work", type=Path, required=True, help="folder for the libraries")
    parser.add_argument("--output", type=Path, help="markdown file to write, besides printing")
    arguments = parser.parse_args()
    photos = few_photos(arguments.photos, arguments.work / "photos")
    made = table(HEAD, rows(photos, arguments.work))
    page = f"""# Channels in multiples

{made_by()}; {machine()}.

Levels of channels in onnxruntime, float32, one thread, batches of {BATCH} images: the least time of {REPEATS} runs in
turns with the dense network. onnxruntime computes convolutions on blocks of 8 or 16 channels, as many as the vectors of
the processor hold (16 with AVX-512, as here), and takes slower ways where channels are left over. With
`--channel_multiple 16` time falls as the multiplications do; a network so narrow that many of its layers have 16
channels loses fewer of them.

{made}
"""
    publish(page, arguments.output)


if __name__ == "__main__":
    main()
