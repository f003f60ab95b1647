"""Read damaged files with every reader of the project; only one line for the user may come of it.

    python -m benchmarks.quality.fuzz_readers --inputs 20000

For each reader, a whole file is damaged over and over: bytes are changed, cut, repeated and inserted; values of JSON
and YAML are replaced by others, removed, repeated and nested. A reader may give a result or raise a ``UserError`` of
one line. Anything else fails: another exception, more than ``SECONDS`` for a file, or more memory than ``MEMORY_GIB``
beyond what the process had.
"""

from __future__ import annotations

import dataclasses
import json
import resource
import shutil
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import yaml
from PIL import Image

from benchmarks.common.command_line import argument_parser
from benchmarks.common.page import machine, made_by, publish
from benchmarks.common.tables import table
from benchmarks.quality.damage import damaged
from emomc.callbacks.search.front_writer import FrontWriter
from emomc.candidates.calibration import open_calibration
from emomc.candidates.evaluation_log import EvaluationLog
from emomc.candidates.finetuned_weights import FinetunedNetwork, read_finetuned, write_finetuned
from emomc.candidates.image_order import ORDER_FILE, read_order
from emomc.candidates.packing import describe, pack_candidate
from emomc.cli import pretrain
from emomc.cli.command import resolve_configs, settings_of
from emomc.common.errors import UserError, UserNote
from emomc.common.files import sha256_of_file
from emomc.common.run_folder import LOG_FILE, RunFolder
from emomc.compression.quantization import quantize_symmetric
from emomc.data.class_order import read_class_order
from emomc.data.config import DataConfig
from emomc.data.images import FileImages, read_header
from emomc.data.preprocessing import Preprocessing
from emomc.export.loading import load_compressed
from emomc.fronts.front_file import read_front
from emomc.fronts.pick_rules import parse_pick
from emomc.fronts.picks import pick_point
from emomc.hardware.accelergy import read_energies
from emomc.hardware.description import load_hardware, load_target
from emomc.hardware.measured_table import COLUMNS
from emomc.library.data_sources import library_data
from emomc.library.library import Library
from emomc.library.manifest import MANIFEST
from emomc.library.network_sources import library_graph
from emomc.networks.build import build_network
from emomc.networks.weights import load_weights
from emomc.packed_file.network import metadata_of
from emomc.packed_file.reader import read_metadata
from emomc.packed_file.writer import write_packed
from emomc.pretraining.config import PretrainingConfig
from emomc.pretraining.prepare import prepare_library
from emomc.pretraining.stages import front_of_checkpoints
from emomc.runtime.checkpoint_io import check_checkpoint
from emomc.runtime.devices import Devices
from emomc.runtime.notices import quiet_lightning
from emomc.search.config import SearchConfig
from emomc.search.finetuning import read_finetuned_point
from emomc.search.options import RunOptions
from emomc.search.run import read_settings, run_search

SECONDS = 5
MEMORY_GIB = 4


@dataclasses.dataclass(frozen=True)
class Reader:
    """A reader and a whole file of its kind."""

    name: str
    path: Path
    read: Callable[[], object]
    """Reads the file at ``path``."""
    structure: str = ""
    """json, jsonl or yaml: values are changed too; else only bytes."""


@dataclasses.dataclass
class Outcome:
    """What the damaged files of one reader led to."""

    files: int = 0
    accepted: int = 0
    refused: int = 0
    failures: dict[str, bytes] = dataclasses.field(default_factory=dict)
    """Text of a failure -> the first file that led to it."""
    slowest: float = 0.0


def make_readers(folder: Path) -> list[Reader]:
    """Return every reader with a file of its own, made in a folder."""
    run = RunFolder(folder / "run")
    with quiet_lightning(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = PretrainingConfig(pre_train_epochs=1, pre_prune_epochs=1, pre_prune_step=60)
        prepare_library(config, DataConfig(), run.path, devices=Devices(accelerator="cpu", devices=1))
        search_config = SearchConfig(population_size=4, number_generations=1)
        search = run_search(run.library, search_config, [FrontWriter()], RunOptions(name="s"))
    library = Library.open(run.library)
    level = library.levels[-1]
    log = run.search("s").log
    header = json.loads(log.read_text().splitlines()[0])
    images = json.loads(log.read_text().splitlines()[1])["images"]
    other = run.search("other").log
    other.parent.mkdir()
    shutil.copy(log, other)
    calibration = next(run.calibration.glob(f"*/level_{level:03d}.safetensors"))

    def open_log(path: Path, others: list[Path]) -> None:
        with EvaluationLog(
            path, library, header["conditions"], header["versions"], images=images, others=others, write=False
        ):
            pass

    def read_front_and_pick() -> None:
        front = read_front(run.search("s").front)
        for rule in ("safe", "knee", "max-accuracy", "budget:size_kib=20", "within:1", "index:1"):
            pick_point(parse_pick(rule), front)

    def read_level() -> None:
        record = dataclasses.replace(
            library.record(level), sha256=sha256_of_file(run.library / library.record(level).file)
        )
        manifest = dataclasses.replace(library.manifest, levels=(record,))
        changed = Library(run.library, manifest)
        changed.load_masks(level, changed.load_state(level))

    def open_library() -> None:
        found = Library.open(run.library)
        library_data(found)
        library_graph(found)

    order = run.library / ORDER_FILE
    point = run.search("s").finetuned / "a.json"
    point.parent.mkdir()
    point.write_text(json.dumps({"level": level, "bits": {"conv1": 3}, "correct": 3, "seen": 4, "images": 4}))
    checkpoints = run.state_of_front_of_checkpoints
    checkpoints.parent.mkdir(exist_ok=True)
    kept = {"path": "a.ckpt", "metrics": {"val/accuracy": 0.5, "density": 0.1}, "epoch": 0, "step": 1}
    checkpoints.write_text(json.dumps({"kept": [kept, {**kept, "path": "b.ckpt"}]}))
    checkpoint = folder / "last.ckpt"
    torch.save(
        {"state_dict": {"weight": torch.zeros(4)}, "epoch": 1, "callbacks": {"front": {"kept": [kept]}}}, checkpoint
    )
    metadata = folder / "metadata.json"
    metadata.write_bytes(metadata_of(describe(library)))
    tuned = folder / "tuned.safetensors"
    weight = torch.randn(4, 3)
    write_finetuned(tuned, FinetunedNetwork({"linear": quantize_symmetric(weight, 4)}, {"bias": torch.zeros(4)}))
    hardware = folder / "hardware.yaml"
    hardware.write_text(yaml.safe_dump(load_hardware("emomc_fpga").to_dict()))
    measured, energies = folder / "measured.csv", folder / "ert.yaml"
    measured.write_text(f"# remark\n{','.join(COLUMNS)}\nfc,,8,8,0.5,1,0.1\nfc,,8,8,1,2,0.2\n,conv 1>2,32,32,,3,0.3\n")
    actions = [{"name": "read", "energy": 1.5, "arguments": {}}, {"name": "write", "energy": 1.0}]
    energies.write_text(yaml.safe_dump({"ERT": {"tables": [{"name": "system.buffer[1..1]", "actions": actions}]}}))
    settings = folder / "settings.yaml"
    settings.write_text(yaml.safe_dump({"network": "lenet5", "pre_prune_step": 60, "batch_size": 64, "weights": None}))
    network = build_network("lenet5", in_channels=1, num_classes=10)
    torch_file, tensor_file = folder / "weights.pt", folder / "weights.safetensors"
    torch.save(network.state_dict(), torch_file)
    safetensors.torch.save_file(network.state_dict(), tensor_file)
    order_of_classes = folder / "classes.json"
    order_of_classes.write_text(json.dumps({str(label): [f"n{label}", f"class {label}"] for label in range(4)}))
    packed = folder / "network.emomc"
    write_packed(packed, pack_candidate(search.cost_model.networks, search.front[0].genotype), "best")
    readers = [
        Reader("manifest of a library", run.library / MANIFEST, open_library, "json"),
        Reader("weights of a level", run.library / library.record(level).file, read_level),
        Reader("front", run.search("s").front, read_front_and_pick, "json"),
        Reader("log of the search", log, lambda: open_log(log, []), "jsonl"),
        Reader("log of another search", other, lambda: open_log(folder / LOG_FILE, [other]), "jsonl"),
        Reader("order of the images", order, lambda: read_order(order, ""), "json"),
        Reader("layer inputs", calibration, lambda: open_calibration(library, calibration.parent.name).level(level)),
        Reader("fine-tuned weights", tuned, lambda: read_finetuned(tuned)),
        Reader("hardware", hardware, lambda: load_hardware(hardware), "yaml"),
        Reader("table of measurements", measured, lambda: load_target(f"table:{measured}")),
        Reader("energies of Accelergy", energies, lambda: read_energies(energies), "yaml"),
        Reader("order of classes", order_of_classes, lambda: read_class_order(order_of_classes, ("n1", "n2")), "json"),
        Reader("settings", settings, lambda: _parse_settings(settings), "yaml"),
        Reader("weights of torch", torch_file, lambda: load_weights(network, torch_file)),
        Reader("weights as safetensors", tensor_file, lambda: load_weights(network, tensor_file)),
        Reader("packed network", packed, lambda: load_compressed(packed)),
        Reader("metadata of a packed network", metadata, lambda: read_metadata(metadata.read_bytes(), 10), "json"),
        Reader(
            "settings of a search", run.search("s").settings, lambda: read_settings(run.search("s").settings), "json"
        ),
        Reader("fine-tuned point", point, lambda: read_finetuned_point(point), "json"),
        Reader("front of checkpoints", checkpoints, lambda: front_of_checkpoints(run), "json"),
        Reader("checkpoint of a training", checkpoint, lambda: check_checkpoint(checkpoint, "")),
    ]
    for suffix in ("png", "jpg", "bmp", "gif", "ppm", "tif", "webp"):
        path = folder / f"image.{suffix}"
        Image.fromarray(np.arange(768, dtype=np.uint8).reshape(16, 16, 3)).save(path)
        readers.append(Reader(f"image, {suffix}", path, _image_reader(path)))
    return readers


def _image_reader(path: Path) -> Callable[[], object]:
    def read() -> None:
        shape = read_header(path)
        FileImages([path], torch.zeros(1, dtype=torch.int64), shape, Preprocessing())[torch.tensor([0])]

    return read


def _parse_settings(path: Path) -> None:
    arguments = pretrain.build_parser().parse_args(resolve_configs(["--config", str(path)], "pretrain"))
    for kind in (PretrainingConfig, DataConfig, Devices):
        settings_of(arguments, kind)


def fuzz(reader: Reader, inputs: int, seconds: float, seed: int) -> Outcome:
    """Read damaged files, until there were enough of them or the time is up."""
    whole = reader.path.read_bytes()
    random = np.random.default_rng(seed)
    outcome = Outcome()
    ends = time.monotonic() + seconds
    while outcome.files < inputs and time.monotonic() < ends:
        content = damaged(whole, reader.structure, random)
        reader.path.write_bytes(content)
        began = time.monotonic()
        failure = _failure(reader, outcome)
        outcome.slowest = max(outcome.slowest, time.monotonic() - began)
        outcome.files += 1
        if failure is not None:
            outcome.failures.setdefault(failure, content)
    reader.path.write_bytes(whole)
    return outcome


def _failure(reader: Reader, outcome: Outcome) -> str | None:
    try:
        with _limited(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", UserNote)
            reader.read()
        outcome.accepted += 1
    except (UserError, UserNote) as error:
        outcome.refused += 1
        if "\n" in str(error):
            return f"an error of several lines: {str(error)[:100]!r}"
    except BaseException as error:
        if type(error).__name__ == "ArgumentError":
            outcome.refused += 1
            return None
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"{type(error).__name__}: {str(error)[:100]!r}"
    return None


@contextmanager
def _limited() -> Iterator[None]:
    """Limit the time of a block."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"more than {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def limit_memory() -> None:
    """Limit the memory of this process to what it has now and ``MEMORY_GIB`` more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + (MEMORY_GIB << 30)
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--inputs", type=int, default=20000, help="damaged files for each reader")
    parser.add_argument("--seconds", type=float, default=1e9, help="limit for each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--readers", default="", help="those whose names hold this text alone")
    parser.add_argument("--failures", type=Path, help="folder to keep the files in that failed")
    parser.add_argument("--output", type=Path, help="page to write")
    arguments = parser.parse_args()
    rows, failed = [], False
    with tempfile.TemporaryDirectory() as folder:
        readers = [reader for reader in make_readers(Path(folder)) if arguments.readers in reader.name]
        limit_memory()
        for reader in readers:
            outcome = fuzz(reader, arguments.inputs, arguments.seconds, arguments.seed)
            counts = (outcome.files, outcome.accepted, outcome.refused, len(outcome.failures))
            rows.append([reader.name, *map(str, counts), f"{outcome.slowest:.2f}"])
            for number, (failure, content) in enumerate(outcome.failures.items()):
                failed = True
                print(f"{reader.name}: {failure}", flush=True)
                if arguments.failures:
                    arguments.failures.mkdir(parents=True, exist_ok=True)
                    name = f"{reader.name.replace(' ', '_').replace(',', '')}_{number}{reader.path.suffix}"
                    (arguments.failures / name).write_bytes(content)
    head = ["reader", "damaged files", "read", "refused in one line", "failures", "slowest, s"]
    page = f"""# Damaged files

{made_by()} on {machine()}; seed {arguments.seed}. Each reader gets whole files with bytes or values changed. It may
read one or refuse it in one line, within {SECONDS} seconds and {MEMORY_GIB} GiB.

{table(head, rows)}
"""
    publish(page, arguments.output)
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
