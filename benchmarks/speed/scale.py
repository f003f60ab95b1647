"""Measure how a search's time and memory grow with the work, and estimate what a search on ImageNet would take.

    OMP_NUM_THREADS=1 python -m benchmarks.speed.scale

Measures seconds over population, layers, weights and images, and memory over levels, on one small library: VGG-16 at
half its width on the digits, pruned but not trained, since time and memory do not depend on how accurate a network is.
A straight line is fitted to each (for the population, a power of it), and the time of a search on ImageNet is computed
from these fits; that search is not run. Takes a minute or two on one core. Writes ``docs/results/scale.md``.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torchvision.models import resnet50

from benchmarks.common.command_line import argument_parser
from benchmarks.common.page import machine, made_by, publish
from benchmarks.common.tables import table
from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.evaluator import CandidateEvaluator
from emomc.candidates.genotype import Genotype, SearchSpace
from emomc.compression.code_counts import count_codes
from emomc.compression.quantizers import Quantizer
from emomc.data.config import DataConfig
from emomc.data.splits import load_split
from emomc.hardware.description import load_hardware
from emomc.hardware.energy import estimate_energy
from emomc.hardware.workload import Workload
from emomc.library.data_sources import build_data
from emomc.library.library import Library
from emomc.library.network_sources import library_graph
from emomc.networks.build import build_network
from emomc.networks.graph import trace_layers
from emomc.networks.layers import LayerShape
from emomc.pretraining.config import PretrainingConfig
from emomc.pretraining.prepare import prepare_library
from emomc.runtime.devices import Devices
from emomc.runtime.notices import quiet_lightning
from emomc.search.config import EvolutionSettings
from emomc.search.evolution import Evolution

POPULATIONS = (20, 40, 80, 160, 320)
LAYER_COUNTS = (5, 16, 54, 108, 216)
IMAGE_COUNTS = (250, 500, 1000, 2000)
LEVEL_COUNTS = (1, 4, 7, 10, 13)
WIDTH = 0.5

GENERATIONS = 120
BITS = 11
"""Numbers of bits a layer may have: 2 to 12."""
SEEN_SHARE = 0.39
"""Share of the images that candidates see with early rejection. Source: docs/results/search_speed.md, LeNet-5."""
IMAGENET_VALIDATION = 50_000
IMAGENET_TRAINING = 1_281_167
STAGE_ONE_EPOCHS = 112
"""Dense and all 13 levels, as the shipped configurations for CIFAR-10 have them."""
BYTES_PER_FLOAT = 4


@dataclasses.dataclass(frozen=True)
class Law:
    """A measured series and what was fitted to it."""

    points: list[tuple[float, float]]
    fixed: float
    slope: float
    power: float = 1.0

    def at(self, x: float) -> float:
        """Return fixed + slope x^power."""
        return self.fixed + self.slope * x**self.power

    def rows(self, unit: float, digits: int) -> list[list[str]]:
        """Return a line of text for each point: x, measured, fitted, both divided by ``unit``."""
        return [[f"{x:g}", f"{y / unit:.{digits}f}", f"{self.at(x) / unit:.{digits}f}"] for x, y in self.points]


def line(points: list[tuple[float, float]]) -> Law:
    """Fit a straight line by least squares; its start is not below 0."""
    x, y = np.array(points).T
    slope, fixed = np.polyfit(x, y, 1)
    if fixed < 0:
        fixed, slope = 0.0, float((x @ y) / (x @ x))
    return Law(points, float(fixed), float(slope))


def power(points: list[tuple[float, float]]) -> Law:
    """Fit slope x^power by least squares of the logarithms."""
    x, y = np.log(np.array(points)).T
    exponent, log_slope = np.polyfit(x, y, 1)
    return Law(points, 0.0, float(np.exp(log_slope)), float(exponent))


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was measured, each as seconds or bytes over the size that it grows with."""

    network: tuple[LayerShape, ...]
    """Layers of the small network on which loading, images and levels were measured."""
    evolution: Law
    """Seconds of a generation without costs and accuracies, over population."""
    costs: Law
    """Seconds of the energy of 20 candidates, over layers."""
    counting: Law
    """Seconds of quantizing a layer and counting its zeros, over million weights."""
    levels: Law
    """Bytes in memory, over levels."""
    images: Law
    """Seconds of a candidate's validation, over images."""
    loading_seconds: float
    """To put a candidate's weights into the network."""

    @property
    def macs_per_second(self) -> float:
        """Of the small network's validation."""
        return sum(layer.macs for layer in self.network) / self.images.slope


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--images_per_second", type=float, default=2500, help="assumed of a GPU, ResNet-50 at 224x224")
    parser.add_argument("--output", type=Path, default=Path("docs/results/scale.md"))
    arguments = parser.parse_args()
    large = trace_layers(resnet50(), (3, 224, 224))
    measured = _measure(large)
    page = "\n".join([_measured_section(measured, len(large)), _estimate(measured, large, arguments.images_per_second)])
    publish(page, arguments.output)


def _measure(large: tuple[LayerShape, ...]) -> Measured:
    """Measure everything; evolution and costs have the layers of the large network."""
    with quiet_lightning(), tempfile.TemporaryDirectory() as folder:
        library = _untrained_library(Path(folder))
        networks = CompressedNetworks(library, library_graph(library), Quantizer("absmax", per_channel=True))
        return Measured(
            library.manifest.layers,
            power([(size, _generation_seconds(size, len(large))) for size in POPULATIONS]),
            line([(count, _cost_seconds(large, count)) for count in LAYER_COUNTS]),
            line(_counting_seconds(networks)),
            line([(count, _level_bytes(networks, count)) for count in LEVEL_COUNTS]),
            line([(count, _evaluation_seconds(networks, count)) for count in IMAGE_COUNTS]),
            _loading_seconds(networks),
        )


def _untrained_library(folder: Path) -> Library:
    torch.manual_seed(0)
    arguments = {"width": WIDTH}
    weights = folder / "untrained.pt"
    torch.save(build_network("vgg16", in_channels=1, num_classes=10, network_args=arguments).state_dict(), weights)
    config = PretrainingConfig(network="vgg16", network_args=arguments, weights=str(weights), pre_prune_epochs=0)
    return prepare_library(config, DataConfig(), folder / "run", devices=Devices(accelerator="cpu", devices=1))


def _generation_seconds(population: int, layers: int) -> float:
    """Return the seconds of one generation's evolution: everything but costs and accuracies."""
    space = SearchSpace(tuple(range(20, 81, 5)), tuple(f"layer{number}" for number in range(layers)))
    evolution = Evolution(space, EvolutionSettings(offspring=population, generations=8), losses=2, constraints=0)
    seconds = []
    while True:
        began = time.perf_counter()
        genotypes = evolution.ask()
        if genotypes is None:
            # The first generation is twice as large, and draws the start.
            return min(seconds[1:])
        bits = np.array([genotype.bits for genotype in genotypes])
        levels = np.array([genotype.level for genotype in genotypes])
        losses = np.column_stack([(1 / bits).mean(axis=1) + 1 / levels, bits.mean(axis=1) * levels])
        unconstrained = np.zeros((len(losses), 0))
        evolution.contenders(losses, unconstrained)
        evolution.tell(losses, unconstrained)
        seconds.append(time.perf_counter() - began)


def _least_seconds(work: Callable, repeats: int = 5) -> float:
    work()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def _cost_seconds(layers: tuple[LayerShape, ...], count: int) -> float:
    """Return the seconds of the energy of 20 candidates of a network of so many layers."""
    repeated = [dataclasses.replace(layers[number % len(layers)], name=f"layer{number}") for number in range(count)]
    generator = np.random.default_rng(0)
    bits, density = generator.integers(2, 13, (20, count)), generator.uniform(0.2, 0.8, (20, count))
    hardware = load_hardware("emomc_fpga")
    return _least_seconds(lambda: estimate_energy(Workload(repeated, bits, density), dataflow="xy", hardware=hardware))


def _counting_seconds(networks: CompressedNetworks) -> list[tuple[float, float]]:
    """Return (million weights, seconds) of quantizing a layer once and counting its zeros, as exact accounting does."""
    points = []
    for name in networks.layers[2::3]:
        weights = networks.level(50).weights[name].numel()
        bits = iter(range(2, 13))

        def count(name: str = name, bits=bits) -> None:
            count_codes(networks.quantized(50, name, next(bits)).codes.numpy())

        points.append((weights / 1e6, _least_seconds(count)))
    return points


def _level_bytes(networks: CompressedNetworks, levels: int) -> float:
    """Return the bytes of so many levels in memory, ready to be quantized."""
    states = [networks.level(percent) for percent in networks.library.levels[1 : levels + 1]]
    parts = [part for state in states for part in (state.weights, state.factors, state.rest)]
    return float(sum(tensor.nbytes for part in parts for tensor in part.values()))


def _loading_seconds(networks: CompressedNetworks) -> float:
    """Return the seconds to put a candidate's weights, quantized before, into the network."""
    genotype = Genotype(50, (4,) * len(networks.layers))
    return _least_seconds(lambda: networks.load(genotype))


def _evaluation_seconds(networks: CompressedNetworks, count: int) -> float:
    """Return the seconds to validate a candidate over so many images; the digits' are repeated where they run out."""
    images, labels = load_split(build_data(DataConfig()), "validation")
    rows = torch.arange(count) % len(labels)
    evaluator = CandidateEvaluator(networks, images[rows], labels[rows], batch_size=250)
    genotype = Genotype(50, (4,) * len(networks.layers))
    return _least_seconds(lambda: evaluator.evaluate(genotype), repeats=3)


def _measured_section(measured: Measured, layers: int) -> str:
    small = measured.network
    million_weights = sum(layer.weights for layer in small) / 1e6
    million_macs = sum(layer.macs for layer in small) / 1e6
    evolution, costs, counting, levels, images = (
        measured.evolution,
        measured.costs,
        measured.counting,
        measured.levels,
        measured.images,
    )
    return f"""# What a search costs as the work grows

{made_by()}; {machine()}; torch {torch.__version__}.
VGG-16 at {WIDTH:g} of its width on the digits: {len(small)} layers, {million_weights:.2f} million weights,
{million_macs:.0f} million MACs an image; pruned, not trained.
Each time is the least of several, since the machine may have been shared.

## Measured

### Population: the evolution's own seconds per generation

{layers} layers, no images. Fitted: {1000 * evolution.slope:.3f} ms x population^{evolution.power:.2f}.

{table(["population", "measured, ms", "fitted, ms"], evolution.rows(1e-3, 1))}

### Layers: energy of 20 candidates

Layers of ResNet-50, repeated. Fitted: {1e3 * costs.fixed:.2f} ms + {1e6 * costs.slope:.1f} us a layer.

{table(["layers", "measured, ms", "fitted, ms"], costs.rows(1e-3, 2))}

### Weights: quantizing a layer and counting its zeros

Exact accounting does it once for each level, layer and number of bits that the search asks for; the start of a search
asks for every number of bits at the levels it draws. Fitted:
{1e3 * counting.fixed:.2f} ms + {1e3 * counting.slope:.1f} ms a million weights. Putting the
{million_weights:.2f} million weights of a candidate, quantized before, into the network takes
{1e3 * measured.loading_seconds:.1f} ms.

{table(["million weights", "measured, ms", "fitted, ms"], counting.rows(1e-3, 2))}

### Levels: memory of those in use

Fitted: {levels.slope / 1e6:.2f} MB a level, {levels.slope / million_weights / 1e6:.2f} bytes a weight. Beyond 4 GiB the
level that was used longest ago is dropped, and read again when it is asked for.

{table(["levels", "measured, MB", "fitted, MB"], levels.rows(1e6, 1))}

### Images: one candidate's validation

Fitted: {1e3 * images.fixed:.1f} ms + {1e3 * images.slope:.3f} ms an image:
{measured.macs_per_second / 1e9:.1f} billion MACs a second.

{table(["images", "measured, s", "fitted, s"], images.rows(1.0, 3))}
"""


def _estimate(measured: Measured, large: tuple[LayerShape, ...], images_per_second: float) -> str:
    layers, weights, macs = len(large), sum(layer.weights for layer in large), sum(layer.macs for layer in large)
    pass_seconds = IMAGENET_VALIDATION / images_per_second
    core_hours = IMAGENET_VALIDATION * macs / measured.macs_per_second / 3600
    levels_gb = 13 * weights * BYTES_PER_FLOAT / 1e9
    # Codes of up to 8 bits take one byte, wider ones two.
    codes_gb = 13 * weights * (7 * 1 + 4 * 2) / 1e9
    images_gb = IMAGENET_VALIDATION * 3 * 224 * 224 * BYTES_PER_FLOAT / 1e9
    counted = 13 * BITS * weights / 1e6
    training_hours = STAGE_ONE_EPOCHS * IMAGENET_TRAINING / (images_per_second / 3) / 3600
    rows = [
        _estimated_row(measured, layers, devices, population, pass_seconds)
        for devices in (1, 8, 64)
        for population in (20, 64)
    ]
    head = ["devices", "population", "candidates", "images, hours", "evolution and costs, hours", "devices busy, %"]
    return f"""## ImageNet and 64 devices, on paper

Not measured. ResNet-50: {layers} layers, {weights / 1e6:.1f} million weights, {macs / 1e9:.2f} billion MACs an image of
224x224; {IMAGENET_VALIDATION:,} validation images, 13 levels, {GENERATIONS} generations. Assumed:

- a device runs {images_per_second:,.0f} images a second, so a candidate's whole validation takes {pass_seconds:.0f} s
  (the core above: {core_hours:.1f} hours);
- on one device candidates see {100 * SEEN_SHARE:.0f} % of the images, as LeNet-5's did on MNIST; of several devices
  each round of a generation lasts a whole validation. Devices take the next candidate without waiting for one
  another, but a generation ends with its slowest, so this is an upper bound;
- no candidate is a repeat, and the evolution runs on a core like the one above.

{table(head, rows)}

What bounds what:

- **Images**: {IMAGENET_VALIDATION:,} in fp32 are {images_gb:.1f} GB, on every device. This is the first wall: search on
  a share of the images, or on devices that hold them. Time grows with them in a straight line.
- **Devices**: they share the candidates of one generation, so more of them than the population are idle. 64 devices
  need a population of 64; they do not make one candidate faster.
- **Population**: the evolution's own time grows as population^{measured.evolution.power:.2f}; at 64 it is
  {measured.evolution.at(64):.3f} s a generation, beside {pass_seconds:.0f} s of images.
- **Layers**: {layers} cost {1e3 * measured.costs.at(layers):.1f} ms per 20 candidates, so time is no bound. The
  space is: 13 x 11^{layers} genotypes, for which {GENERATIONS} generations are few.
- **Levels**: {levels_gb:.2f} GB for 13 on every device; their codes at all {BITS} numbers of bits would be
  {codes_gb:.1f} GB, of which 4 GiB are kept.
- **Exact accounting**: at most {counted:,.0f} million weights to count, {counted * measured.counting.slope / 60:.1f}
  minutes in all; with `--accounting paper` none.
- **Stage I**: {STAGE_ONE_EPOCHS} epochs of {IMAGENET_TRAINING:,} images, if training is a third as fast as validation:
  {training_hours:.0f} hours on one device, {training_hours / 64:.1f} on 64 if they scale perfectly.
"""


def _estimated_row(measured: Measured, layers: int, devices: int, population: int, pass_seconds: float) -> list[str]:
    # The first generation is twice as large.
    generations = GENERATIONS + 1
    rounds = math.ceil(population / devices)
    seen = SEEN_SHARE if devices == 1 else 1.0
    image_hours = generations * rounds * seen * pass_seconds / 3600
    own_hours = generations * (measured.evolution.at(population) + measured.costs.at(layers) * population / 20) / 3600
    busy = 100 * population / (rounds * devices)
    counts = [f"{devices}", f"{population}", f"{generations * population:,}"]
    return [*counts, f"{image_hours:.2f}", f"{own_hours:.4f}", f"{busy:.0f}"]


if __name__ == "__main__":
    main()
