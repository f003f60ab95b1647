"""Which pattern of zeros wins where: one library of all patterns, searched for several devices, mixed and each alone.

    python -m benchmarks.quality.patterns --data_dir data --photos cifar10-jpeg

Three seeds of LeNet-5 on MNIST, one of a narrow ResNet-18 and MobileNet on a few CIFAR-10 (JPEG) images; MobileNetV2
and DenseNet of torchvision are made and measured, not searched. What is done is kept in ``--work`` and not done again.
Writes ``docs/results/patterns.md``.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from lightning_fabric import Fabric

from benchmarks.common.command_line import argument_parser
from benchmarks.common.page import machine, made_by, publish
from benchmarks.common.tables import table
from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.genotype import Genotype
from emomc.candidates.packing import pack_candidate
from emomc.common.pareto import hypervolume
from emomc.common.run_folder import RunFolder
from emomc.compression.levels import Level
from emomc.compression.quantizers import Quantizer
from emomc.compression.widths import UNCOMPRESSED_BITS
from emomc.data.config import DataConfig
from emomc.export.onnx_graph import write_onnx
from emomc.fronts.document import front_document
from emomc.library.library import Library
from emomc.library.manifest import DENSE
from emomc.library.network_sources import library_graph, library_network
from emomc.networks.graph import count_macs
from emomc.pretraining.config import PretrainingConfig
from emomc.pretraining.prepare import prepare_library
from emomc.runtime.devices import Devices
from emomc.runtime.notices import quiet_lightning
from emomc.search.config import SearchConfig
from emomc.search.options import RunOptions
from emomc.search.run import run_search

PATTERNS = ("unstructured", "2:4", "1:4", "block:4x1", "channel")
SEARCHED: Mapping[str, list[str] | None] = {
    "all": None,
    "unstructured": ["unstructured"],
    "2:4, 1:4": ["2:4", "1:4"],
    "block 4x1": ["block:4x1"],
    "channel": ["channel"],
}
"""Name in the tables -> patterns of a search."""
HARDWARE = ("cortex_m7_cmsis_nn", "ethos_u55_256", "gemmini_16x16")
LEVELS = {"pre_prune_upper_bound": 50, "pre_prune_lower_bound": 20, "pre_prune_ratio": 0.4, "channel_multiple": 2}
WITHIN = 1.0
"""Points of validation accuracy that may be lost where the fastest networks are compared."""
BATCH, REPEATS = 32, 15


@dataclasses.dataclass(frozen=True)
class Case:
    """A network, its images, and how long it is trained."""

    name: str
    network: str
    seed: int
    settings: Mapping[str, Any]
    images: Callable[[Any], DataConfig]
    searched: bool = True


def _mnist(arguments: Any) -> DataConfig:
    return DataConfig("mnist", data_dir=arguments.data_dir, batch_size=128)


def _photos(size: int) -> Callable[[Any], DataConfig]:
    def images(arguments: Any) -> DataConfig:
        folder = few_photos(arguments.photos, arguments.work / "photos")
        return DataConfig(f"imagefolder:{folder}", image_size=size, batch_size=64, validation_fraction=0.3)

    return images


_SHORT = {"pre_train_epochs": 2, "pre_prune_epochs": 1}
_FEW = {"pre_train_epochs": 10, "pre_prune_epochs": 1, "network_args": {"width": 0.25}}
_MADE = {"pre_train_epochs": 1, "pre_prune_epochs": 0, "learning_rate": 0.001}
CASES = (
    *(Case(f"lenet5 seed {seed}", "lenet5", seed, _SHORT, _mnist) for seed in range(3)),
    Case("resnet18", "resnet18", 0, _FEW, _photos(32)),
    Case("mobilenet", "mobilenet", 0, _FEW, _photos(32)),
    Case("mobilenet_v2", "torchvision.models:mobilenet_v2", 0, _MADE, _photos(96), searched=False),
    Case("densenet121", "torchvision.models:densenet121", 0, _MADE, _photos(64), searched=False),
)


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--data_dir", default="data", help="folder of MNIST")
    parser.add_argument("--photos", type=Path, required=True, help="folder of CIFAR-10 (JPEG), with train and test")
    parser.add_argument("--work", type=Path, default=Path("runs/patterns"), help="folder of what is made")
    parser.add_argument("--cases", nargs="+", default=[case.name for case in CASES], choices=[c.name for c in CASES])
    parser.add_argument("--output", type=Path, default=Path("docs/results/patterns.md"))
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    with quiet_lightning():
        for case in CASES:
            if case.name in arguments.cases and not _file(arguments, case).exists():
                found = _measured(case, arguments)
                _file(arguments, case).write_text(json.dumps(found))
    files = {case.name: _file(arguments, case) for case in CASES}
    done = {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}
    publish(page(done), arguments.output)


def _file(arguments: Any, case: Case) -> Path:
    folder: Path = arguments.work
    return folder / f"{case.name.replace(' ', '_')}.json"


def few_photos(source: Path, folder: Path, count: int = 120) -> Path:
    """Make a folder of the first images of each class, as links; return it."""
    for split, images in (("train", count), ("test", count // 4)):
        for group in sorted((source / split).iterdir()):
            own = folder / split / group.name
            own.mkdir(parents=True, exist_ok=True)
            for image in sorted(group.iterdir())[:images]:
                if not (own / image.name).exists():
                    (own / image.name).symlink_to(image.resolve())
    return folder.resolve()


def _measured(case: Case, arguments: Any) -> dict[str, Any]:
    """Return what a case shows, as JSON values."""
    began = time.monotonic()
    folder = arguments.work / case.name.replace(" ", "_")
    # How sensitive each layer is takes longer than all else, and is not asked here.
    page_of_layers = RunFolder(folder).sensitivity_page
    page_of_layers.parent.mkdir(parents=True, exist_ok=True)
    page_of_layers.touch()
    settings = {**LEVELS, **case.settings, "pattern": list(PATTERNS)}
    library = prepare_library(
        PretrainingConfig(case.network, seed=case.seed, **settings),
        case.images(arguments),
        folder,
        devices=Devices(accelerator="cpu", devices=1),
    )
    levels = [
        {"level": record.level.label, "pattern": record.pattern, "accuracy": record.validation_accuracy}
        for record in library.manifest.levels
    ]
    found: dict[str, Any] = {"levels": levels, "onnx": channel_speed(library, folder)}
    if case.searched:
        found["fronts"] = {
            hardware: {
                name: _front(library, hardware, name, patterns, case.seed) for name, patterns in SEARCHED.items()
            }
            for hardware in HARDWARE
        }
    return found | {"seconds": time.monotonic() - began}


def _front(library: Library, hardware: str, name: str, patterns: list[str] | None, seed: int) -> list[dict[str, Any]]:
    """Return the points of a search for latency: lost share of accuracy, share of the latency, level."""
    config = SearchConfig(
        objectives=("accuracy", "latency"),
        hardware=hardware,
        coding="best",
        pattern=patterns,
        population_size=8,
        number_generations=8,
        max_bits=8,
        seed=seed,
    )
    options = RunOptions(f"{hardware}-{name}", fabric=Fabric(accelerator="cpu", devices=1), overwrite=True)
    front = front_document(run_search(library, config, (), options))
    base = front["baseline"]
    # Without a clock, time is known in cycles.
    key = "cycles" if base.get("latency_ms") is None else "latency_ms"
    return [
        {
            "error": 1 - point["validation_accuracy"],
            "latency": point[key] / base[key],
            "level": Level(point["level"], point.get("pattern", "unstructured")).label,
            "dense_error": 1 - base["validation_accuracy"],
        }
        for point in front["points"]
    ]


def channel_speed(library: Library, folder: Path) -> list[dict[str, Any]]:
    """Return, for each level of channels, its share of MACs and of the time of onnxruntime, in turns with the dense."""
    graph = library_graph(library, library_network(library, library.manifest.network))
    networks = CompressedNetworks(library, graph, Quantizer())
    names = [DENSE, *(record.name for record in library.manifest.levels if record.pattern == "channel")]
    images = torch.randn(BATCH, *library.manifest.input_shape, generator=torch.Generator().manual_seed(0))
    sessions, macs, deviations = {}, {}, {}
    for name in names:
        genotype = Genotype(name, (UNCOMPRESSED_BITS,) * len(networks.layers))
        own = networks.of(name)
        file = folder / f"level_{Level.of(name).slug}.onnx"
        write_onnx(file, pack_candidate(networks, genotype), library_network(library, library.manifest.network))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        sessions[name] = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        macs[name] = sum(layer.macs for layer in own.library.manifest.layers), count_macs(own.network, images[:1])
        with torch.no_grad():
            masked, sliced = networks.load(genotype)(images).clone(), own.load(genotype)(images)
        scores = sessions[name].run(None, {"images": images.numpy()})[0]
        deviations[name] = float((masked - sliced).abs().max()), float(np.abs(scores - sliced.numpy()).max())
    times: dict[Any, list[float]] = {name: [] for name in names}
    for _ in range(REPEATS):
        for name, session in sessions.items():
            began = time.perf_counter()
            session.run(None, {"images": images.numpy()})
            times[name].append(time.perf_counter() - began)
    fastest = {name: min(taken) for name, taken in times.items()}
    return [
        {
            "level": Level.of(name).label,
            "macs": macs[name][0] / macs[DENSE][0],
            "counted": macs[name][1] / macs[name][0],
            "time": fastest[name] / fastest[DENSE],
            "masked": deviations[name][0],
            "onnx": deviations[name][1],
        }
        for name in names[1:]
    ]


def volume(points: list[dict[str, Any]]) -> float:
    """Return the hypervolume of a front in (error, share of the latency), of the square from the origin to (1, 1)."""
    return hypervolume([[point["error"], point["latency"]] for point in points], [1.0, 1.0])


def fastest_within(points: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the fastest point that loses at most ``WITHIN`` points; None if there is none."""
    good = [point for point in points if point["error"] - point["dense_error"] <= WITHIN / 100]
    return min(good, key=lambda point: point["latency"], default=None)


def page(done: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the page of what was measured."""
    networks: dict[str, list[Mapping[str, Any]]] = {}
    for name, found in done.items():
        networks.setdefault(name.split(" seed ")[0], []).append(found)
    searched = {name: runs for name, runs in networks.items() if "fronts" in runs[0]}
    minutes = sum(found["seconds"] for found in done.values()) / 60
    left = [case.name for case in CASES if case.name not in done]
    left += [
        f"{name} on {device}"
        for name, found in done.items()
        for device in HARDWARE
        if "fronts" in found and device not in found["fronts"]
    ]
    return f"""# Patterns of zeros

{made_by()}; {machine()}. {minutes:.0f} minutes in all. {f"Not run: {', '.join(left)}." if left else ""}

One library of each network has levels of all patterns ({", ".join(PATTERNS)}), each a chain of its own with the same
fine-tuning. It is searched for accuracy and latency, once over all levels and once over each pattern alone, with 72
candidates a search. None of these devices skips zeros: what saves time is smaller layers, fewer bytes from a slow
memory, and fewer bits where arithmetic has them.

LeNet-5 on MNIST: mean of the seeds that were run, 2 epochs for the dense network and 1 for a level. ResNet-18 and
MobileNet, a quarter as wide, on 1,200 training images of CIFAR-10 (JPEG), a third of them for validation: one seed, 10
and 1 epochs. With so few images a point of accuracy is 3.6 images, so these two rows say which way it goes, and no
more.

## Hypervolume

Of (error, latency as a share of the uncompressed network's), in percent of all; the search over all patterns in the
first column. Bold: the most in the row.

{_volumes(searched)}

## The fastest network within {WITHIN:g} point of accuracy

How many times faster than the uncompressed network, and its level; of LeNet-5 that of each seed.

{_fastest(searched)}

## Accuracy of the levels

Validation accuracy before quantization, percent; of LeNet-5 the mean.

{_levels(searched)}

## Channels in onnxruntime

The sliced network of each level of channels, float32, one thread, batches of {BATCH} images, the least of {REPEATS}
runs in turns with the dense network. "counted": MACs that torch counts in it over those that the cost model counts. The
last two columns: the largest difference of a score from the masked network's, and of onnxruntime from torch. Here,
channels are multiples of {LEVELS["channel_multiple"]}, which onnxruntime is slow with: see
[channels in multiples](channel_multiples.md).

{_onnx(networks)}
"""


def _volumes(searched: Mapping[str, list[Mapping[str, Any]]]) -> str:
    rows = []
    for network, runs in searched.items():
        for hardware in runs[0]["fronts"]:
            means = [statistics.mean(100 * volume(run["fronts"][hardware][name]) for run in runs) for name in SEARCHED]
            cells = [f"**{mean:.2f}**" if mean == max(means) else f"{mean:.2f}" for mean in means]
            rows.append([network, hardware, *cells])
    return table(["network", "device", *SEARCHED], rows)


def _fastest(searched: Mapping[str, list[Mapping[str, Any]]]) -> str:
    rows = []
    for network, runs in searched.items():
        for hardware in runs[0]["fronts"]:
            cells = []
            for name in SEARCHED:
                found = [fastest_within(run["fronts"][hardware][name]) for run in runs]
                texts = ["-" if one is None else f"{1 / one['latency']:.1f}x ({one['level']})" for one in found]
                cells.append(", ".join(texts))
            rows.append([network, hardware, *cells])
    return table(["network", "device", *SEARCHED], rows)


def _levels(searched: Mapping[str, list[Mapping[str, Any]]]) -> str:
    labels = [level["level"] for level in next(iter(searched.values()))[0]["levels"]] if searched else []
    rows = []
    for network, runs in searched.items():
        of_runs = [{level["level"]: level["accuracy"] for level in run["levels"]} for run in runs]
        rows.append([network, *(f"{100 * statistics.mean(run[label] for run in of_runs):.2f}" for label in labels)])
    return table(["network", *labels], rows)


def _onnx(networks: Mapping[str, list[Mapping[str, Any]]]) -> str:
    rows = [
        [
            network,
            level["level"],
            f"{level['macs']:.3f}",
            f"{level['counted']:.3f}",
            f"{level['time']:.3f}",
            f"{level['time'] / level['macs']:.2f}",
            f"{level['masked']:.1e}",
            f"{level['onnx']:.1e}",
        ]
        for network, runs in networks.items()
        for level in runs[0]["onnx"]
    ]
    head = ["network", "level", "share of MACs", "counted", "share of time", "time over MACs", "masked", "onnxruntime"]
    return table(head, rows)


if __name__ == "__main__":
    main()
