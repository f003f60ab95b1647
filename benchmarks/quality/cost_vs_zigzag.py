"""Compare the cost model with ZigZag, an independent model of accelerators.

Needs the extra ``zigzag`` (``pip install -e .[zigzag]``) unless ``--measured_only``. For every different layer of
VGG-16, LeNet-5 and MobileNet, every dataflow and several memory hierarchies, ZigZag searches the loop order of least
energy for the dataflow's spatial mapping; energies and cycles are compared with it. Fails if ``reuse`` misses a bound.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import json
import logging
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.common.command_line import argument_parser, command_with
from benchmarks.common.page import publish
from benchmarks.common.tables import table
from benchmarks.quality.zigzag_runs import run_zigzag
from emomc.common.files import read_json, write_json
from emomc.hardware.cycles import estimate_cycles
from emomc.hardware.dataflows import DATAFLOWS
from emomc.hardware.description import OPERANDS, Hardware, Memory, OperationalArray, Precision
from emomc.hardware.energy import estimate_energy
from emomc.hardware.mac_energy import AffineMac
from emomc.hardware.workload import Workload
from emomc.networks.build import build_network
from emomc.networks.graph import trace_layers
from emomc.networks.layers import LayerShape

NETWORKS = {"lenet5": (1, 32, 32), "vgg16": (3, 32, 32), "mobilenet": (3, 32, 32)}
BITS = 16
TIE = 0.01  # values within 1 % share a rank
LEAST_CORRELATION = 0.9
ENERGY_RATIO = (0.8, 1.25)
CYCLE_RATIO = (0.7, 1.4)
VERSION = "3.9.1"
EXPLANATION = """\
Every different layer of the network, every dataflow and several memory hierarchies. ZigZag searches the loop order of
least energy for the dataflow's spatial mapping. Nothing is pruned and all operands have 16 bits, as ZigZag knows no
sparsity. A MAC costs 1, the buffer 6 and DRAM 200 per 16 bits (the ratios of Eyeriss), a register 0.1 or, as in
Eyeriss, 1. The buffer moves 512 bits a cycle through one port, DRAM 64. Registers hold one value. ZigZag counts every
access (`access_same_data_considered_as_no_access` off): with it on, a value stays at the outputs of a memory for free,
which is a register that the hierarchy does not have.

- *Across dataflows*: Spearman's rank correlation of the energies of the four dataflows within a layer, mean of the
  layers (and the worst). Four ranks are few: one exchange of neighbours gives 0.80. Values within 1 % share a rank.
- *Energy*, *cycles*: ours over ZigZag's, median (and range) over all layers and dataflows.
- Bounds: correlation 0.9, median energy 0.8 to 1.25, median cycles 0.7 to 1.4.
- Where energies lie above 1, the maps are small and the kernel unrolled: ZigZag skips the padding border, a part of the
  map for `reuse`. This makes the worst layers of MobileNet.
- Where they lie far below, the buffer is small: ZigZag's tiles of all three operands share it and one order of loops
  serves all memories; `reuse` lets one operand fill it and chooses for each memory alone.
- A hierarchy without registers is left out: ZigZag then gives all dataflows the same energy.
"""
BUFFER = Memory("buffer", OPERANDS, BITS, 6.0, 6.0, bw_bits_per_cycle=512)
DRAM = Memory("dram", OPERANDS, BITS, 200.0, 200.0, bw_bits_per_cycle=64)


def register(operands: Sequence[str], cost: float = 0.1) -> Memory:
    return Memory("register", tuple(operands), BITS, cost, cost, per_pe=True, size_bits=BITS)


def buffer(kib: int) -> Memory:
    return dataclasses.replace(BUFFER, size_bits=kib * 8192)


def hardware(*memories: Memory, sizes: tuple[int, int] | None = (16, 16)) -> Hardware:
    sources = {"mac": "Eyeriss, ISCA 2016: energies relative to a MAC", "memories": "the same"}
    array = OperationalArray(sizes, AffineMac(1.0, 0.0))
    return Hardware("compared", "relative", "mac16", "reuse", Precision(BITS, BITS), array, memories, sources=sources)


HARDWARE = {
    "registers 0.1": hardware(register("IWO"), BUFFER),
    "registers 1": hardware(register("IWO", 1.0), BUFFER),
    "registers 0.1, unrolled": hardware(register("IWO"), BUFFER, sizes=None),
    "register for W": hardware(register("W"), BUFFER),
    "register for O": hardware(register("O"), BUFFER),
    "register for I": hardware(register("I"), BUFFER),
    "registers 0.1, DRAM": hardware(register("IWO"), BUFFER, DRAM),
    "register for W, DRAM": hardware(register("W"), BUFFER, DRAM),
    "register for O, DRAM": hardware(register("O"), BUFFER, DRAM),
    "register for I, DRAM": hardware(register("I"), BUFFER, DRAM),
    "registers 0.1, 64 KiB, DRAM": hardware(register("IWO"), buffer(64), DRAM),
    "register for W, 16 KiB, DRAM": hardware(register("W"), buffer(16), DRAM),
}
Measured = dict[str, dict[str, float]]


def different_layers(network: str) -> list[LayerShape]:
    """Return the layers of a network, each shape once."""
    shape = NETWORKS[network]
    torch.manual_seed(0)
    layers = trace_layers(build_network(network, in_channels=shape[0], num_classes=10), shape)
    return list({dataclasses.replace(layer, name=""): layer for layer in reversed(layers)}.values())[::-1]


def rank_correlation(ours: np.ndarray, theirs: np.ndarray) -> float | None:
    """Return Spearman's correlation; values within 1 % share a rank; None where one side has a single rank."""
    ranks = np.array([_ranks(ours), _ranks(theirs)])
    if np.any(ranks.std(axis=1) == 0):
        return None
    return float(np.corrcoef(ranks)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    order = np.argsort(values)
    group = np.zeros(len(values), dtype=int)
    for before, after in itertools.pairwise(order):
        group[after] = group[before] + (values[after] > values[before] * (1 + TIE))
    positions = np.empty(len(values))
    for index in np.unique(group):
        positions[group == index] = np.mean(np.flatnonzero(group[order] == index))
    return positions


def measure(cache: Path, loops: int) -> None:
    """Keep ZigZag's energies and cycles by hardware, dataflow and layer shape; what is there is not run again."""
    known: Measured = read_json(cache, "results of ZigZag") if cache.exists() else {}
    for title, network in itertools.product(HARDWARE, NETWORKS):
        for layer, dataflow in itertools.product(different_layers(network), DATAFLOWS):
            key = energy_key(title, dataflow, layer)
            if key not in known:
                known[key] = run_zigzag(layer, dataflow, HARDWARE[title], loops=loops, pins_hold=False)
        write_json(cache, known)
        print(f"{title}, {network}: done", file=sys.stderr)


def energy_key(title: str, dataflow: str, layer: LayerShape) -> str:
    return f"{title} {dataflow} {json.dumps(dataclasses.replace(layer, name='').to_dict(), sort_keys=True)}"


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How well the reuse counts agree with ZigZag on one network and hardware."""

    title: str
    network: str
    layers: int
    across_dataflows: list[float]
    """By layer, where the dataflows differ."""
    energy: np.ndarray
    """Ours over ZigZag's, shape (dataflows, layers)."""
    cycles: np.ndarray

    @property
    def holds(self) -> bool:
        energy, cycles = np.median(self.energy), np.median(self.cycles)
        within = ENERGY_RATIO[0] <= energy <= ENERGY_RATIO[1] and CYCLE_RATIO[0] <= cycles <= CYCLE_RATIO[1]
        return bool(within and np.mean(self.across_dataflows or [1.0]) >= LEAST_CORRELATION)

    @property
    def cells(self) -> list[str]:
        """A line of the page's table."""
        found = self.across_dataflows
        correlation = f"{np.mean(found):.2f} ({min(found):.2f})" if found else "-"
        ratios = [f"{np.median(one):.2f} ({one.min():.2f} to {one.max():.2f})" for one in (self.energy, self.cycles)]
        return [self.title, self.network, str(self.layers), correlation, *ratios, "yes" if self.holds else "no"]


def compare(known: Measured) -> list[Agreement]:
    """Compare with what is known of ZigZag; hardware and networks that are not all known are left out."""
    rows = []
    for title, network in itertools.product(HARDWARE, NETWORKS):
        layers = different_layers(network)
        keys = [[energy_key(title, dataflow, layer) for layer in layers] for dataflow in DATAFLOWS]
        if not all(key in known for line in keys for key in line):
            continue
        theirs = {
            name: np.array([[known[key][name] for key in line] for line in keys]) for name in ("energy", "cycles")
        }
        energy = np.array([[ours(layer, d, HARDWARE[title])[0] for layer in layers] for d in DATAFLOWS])
        cycles = np.array([[ours(layer, d, HARDWARE[title])[1] for layer in layers] for d in DATAFLOWS])
        by_layer = [rank_correlation(a, b) for a, b in zip(energy.T, theirs["energy"].T, strict=True)]
        found = [value for value in by_layer if value is not None]
        rows.append(Agreement(title, network, len(layers), found, energy / theirs["energy"], cycles / theirs["cycles"]))
    return rows


def ours(layer: LayerShape, dataflow: str, target: Hardware) -> tuple[float, float]:
    """Return the energy and cycles of one dense layer of 16 bits."""
    workload = Workload([layer], [[BITS]], [[1.0]])
    energy = estimate_energy(workload, dataflow=dataflow, hardware=target)
    return float(energy[0]), float(estimate_cycles(workload, dataflow=dataflow, hardware=target)[0, 0])


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/results/cost_vs_zigzag.md"))
    parser.add_argument("--cache", type=Path, default=Path("runs/zigzag.json"), help="ZigZag's results, to go on from")
    parser.add_argument("--loops", type=int, default=6, help="loops that ZigZag orders at most, 1 or more")
    parser.add_argument("--measured_only", action="store_true", help="write the page from what the cache has")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    if not options.measured_only:
        measure(options.cache, options.loops)
    rows = compare(read_json(options.cache, "results of ZigZag"))
    missing = len(HARDWARE) * len(NETWORKS) - len(rows)
    head = ["hardware", "network", "layers", "across dataflows", "energy", "cycles", "within bounds"]
    page = f"""# The cost model against ZigZag

`{command_with(loops=options.loops)}`, ZigZag {VERSION}, {datetime.date.today()}, \
{platform.machine()}; nothing is random. Of {len(HARDWARE) * len(NETWORKS)} pairs of hardware and network {missing} \
were not measured.

{EXPLANATION}
{table(head, [row.cells for row in rows])}
"""
    publish(page, options.out)
    if not all(row.holds for row in rows):
        raise SystemExit("expected every row within its bounds, found some that are not")


if __name__ == "__main__":
    main()
