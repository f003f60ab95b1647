"""What the tests share: one thread, and one tiny library of real networks made once a session."""

from __future__ import annotations

import copy
import functools
import importlib.util
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before torch and the processes that tests start: results depend on the number of threads, and so does the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import pytorch_lightning as pl
import sklearn.datasets
import torch
from lightning_fabric import Fabric
from pytorch_lightning.plugins.environments import LightningEnvironment
from torch import fx, nn

from emomc.candidates.calibration import calibrate
from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.cost_model import CostModel
from emomc.candidates.genotype import Genotype
from emomc.candidates.image_order import load_image_order
from emomc.candidates.packing import pack_candidate
from emomc.common.run_folder import RunFolder
from emomc.data.config import DataConfig
from emomc.data.splits import hold_split
from emomc.export.loading import load_compressed
from emomc.hardware.description import load_hardware
from emomc.library.data_sources import library_data
from emomc.library.library import Library
from emomc.library.network_sources import library_graph
from emomc.networks.graph_export import export_flat
from emomc.networks.zoo import NETWORKS
from emomc.packed_file.writer import write_packed
from emomc.pretraining.config import PretrainingConfig
from emomc.pretraining.prepare import prepare_library
from emomc.runtime.devices import Devices
from emomc.runtime.notices import quiet_lightning
from emomc.search.config import SearchConfig
from emomc.search.options import RunOptions
from emomc.search.run import run_search
from emomc.search.state import Search

TINY = {
    "pre_train_epochs": 2,
    "pre_prune_upper_bound": 80,
    "pre_prune_lower_bound": 20,
    "pre_prune_step": 30,
    "pre_prune_epochs": 1,
    # Several batches for the 288 validation images, so that early rejection has something to stop.
    "evaluation_batch_size": 64,
}
CPU = Devices(accelerator="cpu", devices=1)


# Why a test may be skipped where nothing else may: what no machine has at once, and what is measured apart.
MAY_BE_SKIPPED = (
    "the administrator may write everywhere",
    "there is a GPU",
    "needs a CUDA GPU",
    "the extra 'zigzag' is not installed",
    "has no environment here",
)
SKIPPED = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fail-on-skip", action="store_true", help="fail if a test is skipped that this machine could run"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SKIPPED] = []
    if config.getoption("--fail-on-skip"):
        config.pluginmanager.register(SkipCounter(config), "skip counter")


class SkipCounter:
    """Fails a run in which something was skipped that a complete machine runs: a browser's tests, ONNX, a compiler."""

    def __init__(self, config: pytest.Config) -> None:
        self.skipped = config.stash[SKIPPED]

    def note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and isinstance(report.longrepr, tuple):
            reason = report.longrepr[2].removeprefix("Skipped: ")
            if not any(reason.endswith(allowed) for allowed in MAY_BE_SKIPPED):
                self.skipped.append(f"{report.nodeid}: {reason}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.note(report)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.skipped:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        for line in self.skipped:
            terminalreporter.write_line(f"SKIPPED, and should not be: {line}", red=True)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Results and times depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings(), quiet_lightning():
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def few_images_for_the_sensitivity_of_layers() -> Iterator[None]:
    """Every library comes with a page of its layers' sensitivity, which would take longer than its training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("emomc.pretraining.measured_images.MOST", 32)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_power_cut() -> Iterator[None]:
    """No test cuts the power, and a search waits longer for the disk than for its tiny networks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def one_table_of_onnx_operations() -> Iterator[None]:
    """Keep what torch.onnx.export reads from the source of onnxscript, anew for each of the tiny networks.

    An export adds nothing to this table unless it is given translations of its own, and ours are not.
    """
    where = "torch.onnx._internal.exporter._registration"
    if importlib.util.find_spec("onnxscript") is None:
        yield
        return
    registry = importlib.import_module(where).ONNXRegistry
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "from_torchlib", staticmethod(functools.cache(registry.from_torchlib)))
        yield


@pytest.fixture(scope="session", autouse=True)
def digits_read_once() -> Iterator[None]:
    """Keep the images of digits, which every command reads from text."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sklearn.datasets, "load_digits", functools.cache(sklearn.datasets.load_digits))
        yield


def tensors_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


@pytest.fixture(scope="session", autouse=True)
def zoo_exported_once() -> Iterator[None]:
    """Export each network of the zoo once: most commands begin with this, and it takes longer than the rest of many."""
    known: dict[Any, tuple[fx.GraphModule, frozenset[str]]] = {}

    def export_once(network: nn.Module, input_shape: tuple[int, ...], output: str | None = None):
        if type(network) not in NETWORKS.values() or any("forward" in vars(part) for part in network.modules()):
            return export_flat(network, input_shape, output)
        first = next(network.parameters())
        # The text of a network says what its modules are and how they are set.
        key = (str(network), tuple(input_shape), output, first.device, first.dtype)
        if key not in known:
            known[key] = export_flat(network, input_shape, output)
        module, constants = known[key]
        own = tensors_of(network)
        # Each is given a copy with its own tensors.
        return copy.deepcopy(module, {id(tensor): own[name] for name, tensor in tensors_of(module).items()}), constants

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("emomc.networks.graph.export_flat", export_once)
        yield


@pytest.fixture(scope="session")
def prepare() -> Callable[..., Library]:
    """Make a tiny library on digits: ``prepare(folder, callbacks=..., overwrite=..., module=..., **settings)``."""

    def make(folder: Path, *, callbacks: Any = None, overwrite: bool = False, module: Any = None, **settings: Any):
        data = {name: settings.pop(name) for name in list(settings) if name in ("batch_size", "dataset", "data_dir")}
        return prepare_library(
            PretrainingConfig(**{**TINY, **settings}),
            DataConfig(**{"batch_size": 64, **data}),
            folder,
            devices=CPU,
            callbacks=callbacks or (lambda stage: ()),
            overwrite=overwrite,
            network=module,
        )

    return make


@pytest.fixture(scope="session")
def shared_run(tmp_path_factory: pytest.TempPathFactory, prepare: Callable[..., Library]) -> Path:
    """The folder of the one tiny run; tests read it and never change it."""
    folder = tmp_path_factory.mktemp("shared") / "run"
    measure_once(prepare(folder))
    return folder


def measure_once(library: Library) -> None:
    """Store what the first search of a library measures of it, so that no search of a copy does it again."""
    graph, data, fabric = library_graph(library), library_data(library), Fabric(accelerator="cpu", devices=1)
    images = hold_split(data, "validation")
    load_image_order(library, graph, images, images.digest(), fabric)
    for covariances in (False, True):
        calibrate(library, graph, data, fabric, library.levels, covariances=covariances)


@pytest.fixture(scope="session")
def shared_library(shared_run: Path) -> Library:
    """The one tiny library; tests read it and never change it."""
    return Library.open(shared_run / "library")


@pytest.fixture(scope="session")
def patterned_library(
    shared_library: Library, prepare: Callable[..., Library], tmp_path_factory: pytest.TempPathFactory
) -> Library:
    """The tiny library with levels of every pattern; tests read it and never change its levels."""
    library = copy_library(shared_library, tmp_path_factory.mktemp("patterned") / "run")
    patterns = ["unstructured", "2:4", "1:4", "block:4x1", "channel"]
    return prepare(library.path.parent, pattern=patterns, channel_multiple=2)


@pytest.fixture(scope="session")
def copy_to(shared_library: Library) -> Callable[[Path], Library]:
    """Copy the tiny library to a run that does not exist."""
    return functools.partial(copy_library, shared_library)


@pytest.fixture
def library(copy_to: Callable[[Path], Library], tmp_path: Path) -> Library:
    """A copy of the tiny library that is the test's own."""
    return copy_to(tmp_path / "run")


@pytest.fixture
def copy_of_library(copy_to: Callable[[Path], Library], tmp_path: Path) -> Callable[[str], Library]:
    """Make further copies of the tiny library, each in a folder of its own."""
    return lambda name: copy_to(tmp_path / name)


def copy_library(library: Library, folder: Path) -> Library:
    """Copy a library, and what was measured of it, to another run."""
    shutil.copytree(library.path, folder / "library")
    measured = RunFolder.of_library(library.path).calibration
    if measured.exists():
        shutil.copytree(measured, folder / measured.name)
    return Library.open(folder / "library")


@pytest.fixture(scope="session")
def search() -> Callable[..., Search]:
    """Run a tiny search: ``search(library, callbacks, name=..., early_rejection=..., overwrite=..., **settings)``."""

    def run(library: Library, callbacks: Any = (), **settings: Any) -> Search:
        how = {name: settings.pop(name) for name in list(settings) if name in ("name", "early_rejection", "overwrite")}
        usual = {"population_size": 6, "number_generations": 5, "quantizer": "absmax", "rounding": "nearest"}
        config = SearchConfig(**{**usual, **settings})
        # A Fabric of its own, so that nothing about the machine the tests run on decides.
        fabric = Fabric(accelerator="cpu", devices=1, plugins=[LightningEnvironment()])
        return run_search(library, config, callbacks, RunOptions(fabric=fabric, **how))

    return run


@pytest.fixture
def tiny_trainer(tmp_path: Path) -> Callable[..., pl.Trainer]:
    """Make a Trainer on the CPU that prints and keeps nothing."""

    def make(**options: Any) -> pl.Trainer:
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        more = {"enable_model_summary": False, "accelerator": "cpu", "devices": 1, "default_root_dir": tmp_path}
        return pl.Trainer(**{**quiet, **more, **options})

    return make


@pytest.fixture
def check_export(tmp_path: Path) -> Callable[[CompressedNetworks], None]:
    """Check that the packed file of a candidate has the bytes that were counted and the scores that were evaluated."""

    def check(networks: CompressedNetworks) -> None:
        genotype = Genotype(50, (2, 3, 4, 5, 6)[: len(networks.layers)])
        shape = networks.library.manifest.input_shape
        images = torch.randn(16, *shape, generator=torch.Generator().manual_seed(0))
        images = images.contiguous(memory_format=torch.channels_last)
        path = tmp_path / "small.emomc"
        written = write_packed(path, pack_candidate(networks, genotype), "best")
        cost = CostModel(networks, load_hardware("emomc_fpga"), dataflow="xy", coding="best").costs([genotype])
        assert written == int(cost["size_bytes"][0])
        loaded = load_compressed(path).to(memory_format=torch.channels_last)
        assert torch.equal(loaded(images), networks.load(genotype)(images))

    return check
