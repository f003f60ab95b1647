"""Compare the cost model with ZigZag, an independent model of accelerators.

Needs the extra ``zigzag`` (``pip install -e .[zigzag]``). For every different layer of VGG-16, LeNet-5 and MobileNet,
every dataflow and several memory hierarchies, ZigZag searches the loop order of least energy for the dataflow's spatial
mapping; the two counts of the cost model are ranked against it. Fails if ``reuse`` falls below 0.9 on a network.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import json
import logging
import platform
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from benchmarks.common.command_line import argument_parser, command_with
from benchmarks.common.page import publish
from benchmarks.common.tables import table
from emomc.common.files import read_json, write_json
from emomc.hardware.call_table import tabulate_calls
from emomc.hardware.dataflows import DATAFLOWS
from emomc.hardware.description import Hardware, Memory, OperationalArray, Precision
from emomc.hardware.energy import estimate_energy
from emomc.hardware.mac_energy import AffineMac
from emomc.hardware.workload import Workload
from emomc.networks.build import build_network
from emomc.networks.graph import trace_layers
from emomc.networks.layers import LayerShape

NETWORKS = {"vgg16": (3, 32, 32), "lenet5": (1, 32, 32), "mobilenet": (3, 32, 32)}
UNROLLED = {"xy": ("OX", "OY"), "icoc": ("C", "K"), "fxfy": ("FX", "FY"), "xfx": ("OX", "FX")}
BITS = 16
TIE = 0.01  # energies within 1 % share a rank
LEAST_CORRELATION = 0.9
EXPLANATION = """\
Every different layer of the network, every dataflow and several memory hierarchies. ZigZag searches the loop order of
least energy for the dataflow's spatial mapping. Nothing is pruned and all operands have 16 bits, as ZigZag knows no
sparsity; one access moves one 16-bit word, so its truncation to whole words does not matter. A MAC costs 1, the buffer
6 and DRAM 200 per 16 bits (the ratios of Eyeriss); a register costs 0.1 or, as in Eyeriss, 1.

- *Across layers*: Spearman's rank correlation over the layers, mean of the four dataflows (and the worst).
- *Across dataflows*: the same over the four dataflows within a layer, mean of the layers (and the worst). Four ranks
  are few: one exchange of neighbours gives 0.80.
- *Energy*: ours over ZigZag's, median (and range) over all layers and dataflows.
- Energies within 1 % share a rank. The paper's counts know the buffer alone; what registers and DRAM cost, the same
  for every dataflow, is added to them.
- `reuse` lies below 1 because ZigZag also pays for writing what arrives into the registers (and into the buffer, where
  it comes from DRAM); the dearer the register, the more.
- Where `reuse` lies above 1, the maps are small and the kernel unrolled: ZigZag skips the padding border, a part of the
  map for `reuse` (at 2x2 pixels most of a 3x3 window). This makes the worst layers of MobileNet.
- A hierarchy without registers is left out: ZigZag then gives all dataflows the same energy.
"""
REGISTER = Memory("register", ("I", "W", "O"), BITS, 1.0, 1.0, per_pe=True)
CHEAP_REGISTER = dataclasses.replace(REGISTER, r_cost=0.1, w_cost=0.1)
BUFFER = Memory("buffer", ("I", "W", "O"), BITS, 6.0, 6.0)
DRAM = Memory("dram", ("I", "W", "O"), BITS, 200.0, 200.0)


def hardware(name: str, sizes: tuple[int, int] | None, *memories: Memory) -> Hardware:
    sources = {"mac": "Eyeriss, ISCA 2016: energies relative to a MAC", "memories": "the same"}
    array = OperationalArray(sizes, AffineMac(1.0, 0.0))
    return Hardware(name, "relative", "mac16", "reuse", Precision(BITS, BITS), array, memories, sources=sources)


HARDWARE = {
    "16x16 PEs, registers 0.1": hardware("cheap_registers", (16, 16), CHEAP_REGISTER, BUFFER),
    "16x16 PEs, registers 1": hardware("registers", (16, 16), REGISTER, BUFFER),
    "16x16 PEs, registers 0.1, DRAM": hardware("dram", (16, 16), CHEAP_REGISTER, BUFFER, DRAM),
    "fully unrolled, registers 0.1": hardware("unrolled", None, CHEAP_REGISTER, BUFFER),
}


def different_layers(network: str) -> list[LayerShape]:
    """Return the layers of a network, each shape once."""
    shape = NETWORKS[network]
    torch.manual_seed(0)
    layers = trace_layers(build_network(network, in_channels=shape[0], num_classes=10), shape)
    return list({dataclasses.replace(layer, name=""): layer for layer in reversed(layers)}.values())[::-1]


def zigzag_energy(layer: LayerShape, dataflow: str, target: Hardware, loops: int) -> float:
    """Return ZigZag's energy of one layer, in the hardware's unit."""
    from zigzag.mapping.temporal_mapping import TemporalMappingType
    from zigzag.stages.evaluation.cost_model_evaluation import CostModelStage
    from zigzag.stages.main import MainStage
    from zigzag.stages.mapping.spatial_mapping_generation import SpatialMappingGeneratorStage
    from zigzag.stages.mapping.temporal_mapping_generator_stage import TemporalMappingGeneratorStage
    from zigzag.stages.parser.accelerator_parser import AcceleratorParserStage
    from zigzag.stages.parser.workload_parser import WorkloadParserStage
    from zigzag.stages.results.reduce_stages import MinimalEnergyStage
    from zigzag.stages.workload_iterator import WorkloadStage

    extents = zigzag_extents(layer)
    with tempfile.TemporaryDirectory() as folder:
        accelerator, mapping = Path(folder) / "accelerator.yaml", Path(folder) / "mapping.yaml"
        accelerator.write_text(yaml.safe_dump(zigzag_accelerator(target, extents, dataflow), sort_keys=False))
        mapping.write_text(yaml.safe_dump(zigzag_mapping(target, extents, dataflow)))
        stages = [
            WorkloadParserStage,
            AcceleratorParserStage,
            WorkloadStage,
            MinimalEnergyStage,
            SpatialMappingGeneratorStage,
            MinimalEnergyStage,
            TemporalMappingGeneratorStage,
            CostModelStage,
        ]
        run = MainStage(
            stages,
            accelerator=str(accelerator),
            workload=zigzag_workload(layer, extents),
            mapping=str(mapping),
            loma_lpf_limit=loops,
            loma_show_progress_bar=False,
            nb_mappings_generated=1,
            access_same_data_considered_as_no_access=True,
            temporal_mapping_type=TemporalMappingType("uneven"),
        )
        return float(run.run()[0][0].energy_total)


def zigzag_extents(layer: LayerShape) -> dict[str, int]:
    (call,) = layer.calls
    oy, ox = call.output_size
    fy, fx = layer.kernel_size
    c, k = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    return {"G": layer.groups, "K": k, "C": c, "OY": oy, "OX": ox, "FY": fy, "FX": fx}


def zigzag_workload(layer: LayerShape, extents: dict[str, int]) -> list[dict[str, Any]]:
    (sy, sx), (dy, dx) = layer.stride, layer.dilation
    iy, ix = layer.calls[0].input_size
    # Without its padding ZigZag would fetch the border from DRAM.
    border_x = max(0, sx * (extents["OX"] - 1) + dx * (extents["FX"] - 1) + 1 - ix)
    border_y = max(0, sy * (extents["OY"] - 1) + dy * (extents["FY"] - 1) + 1 - iy)
    return [
        {
            "id": 0,
            "operator_type": "Conv",
            "equation": "O[g][k][oy][ox]+=W[g][k][c][fy][fx]*I[g][c][iy][ix]",
            "dimension_relations": [f"ix={sx}*ox+{dx}*fx", f"iy={sy}*oy+{dy}*fy"],
            "loop_dims": list(extents),
            "loop_sizes": list(extents.values()),
            "operand_precision": {"I": BITS, "W": BITS, "O": BITS, "O_final": BITS},
            "operand_source": {"W": 0, "I": 0},
            "pr_loop_dims": ["IX", "IY"],
            "pr_loop_sizes": [ix, iy],
            "padding": [[border_x - border_x // 2, border_x // 2], [border_y - border_y // 2, border_y // 2]],
        }
    ]


def array_sizes(target: Hardware, extents: dict[str, int], dataflow: str) -> list[int]:
    sizes = target.operational_array.sizes
    return list(sizes) if sizes else [extents[name] for name in UNROLLED[dataflow]]


def zigzag_mapping(target: Hardware, extents: dict[str, int], dataflow: str) -> list[dict[str, Any]]:
    sizes = array_sizes(target, extents, dataflow)
    unrolled = {
        f"D{axis + 1}": [f"{name}, {min(extents[name], sizes[axis])}"] for axis, name in enumerate(UNROLLED[dataflow])
    }
    links = {"O": "O", "W": "I2", "I": "I1"}
    return [{"name": "default", "spatial_mapping": unrolled, "memory_operand_links": links}]


def zigzag_accelerator(target: Hardware, extents: dict[str, int], dataflow: str) -> dict[str, Any]:
    """Describe the hardware in ZigZag's schema; a memory per PE becomes a register of one word for each operand."""
    memories = {}
    names = {"I": "I1", "W": "I2", "O": "O"}
    for memory in target.memories:
        for operands in [[names[o]] for o in memory.operands] if memory.per_pe else [list(names.values())]:
            reads = [f"{operand}, tl" for operand in operands] + (["O, th"] if "O" in operands else [])
            writes = [f"{operand}, fh" for operand in operands] + (["O, fl"] if "O" in operands else [])
            port = {"bandwidth_min": BITS, "bandwidth_max": BITS}
            memories[f"{memory.name}_{'_'.join(operands)}"] = {
                "size": BITS if memory.per_pe else 10**12,
                "r_cost": memory.r_cost,
                "w_cost": memory.w_cost,
                "area": 0,
                "latency": 1,
                "operands": operands,
                "ports": [
                    {"name": "r_port_1", "type": "read", "allocation": reads, **port},
                    {"name": "w_port_1", "type": "write", "allocation": writes, **port},
                ],
                "served_dimensions": [] if memory.per_pe else ["D1", "D2"],
            }
    array = {"unit_energy": 1.0, "unit_area": 1, "dimensions": ["D1", "D2"]}
    array["sizes"] = array_sizes(target, extents, dataflow)
    return {"name": target.name, "memories": memories, "operational_array": array}


def our_energy(layers: Sequence[LayerShape], dataflow: str, target: Hardware, counts: str) -> np.ndarray:
    """Return the energy of each layer, shape (layers,).

    The paper's counts know the buffer alone; what registers and DRAM cost, the same for every dataflow, is added.
    """
    bits, density = np.full((len(layers), 1), BITS), np.ones((len(layers), 1))

    def one_by_one(described: Hardware) -> np.ndarray:
        return np.array(
            [
                estimate_energy(Workload([layer], bits[:1], density[:1]), dataflow=dataflow, hardware=described)[0]
                for layer in layers
            ]
        )

    if counts == "reuse":
        return one_by_one(target)
    unrolled = dataclasses.replace(target.operational_array, sizes=None)
    energy = one_by_one(dataclasses.replace(target, counts="paper", operational_array=unrolled, memories=(BUFFER,)))
    calls = tabulate_calls(layers)
    for memory in target.memories:
        if memory.per_pe:
            energy += calls.macs * (3 * memory.r_cost + memory.w_cost)
        elif memory is target.off_chip:
            energy += (calls.input_values + calls.weights) * memory.r_cost + calls.output_values * memory.w_cost
    return energy


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


def measure(cache: Path, loops: int) -> dict[str, float]:
    """Return ZigZag's energies by a key of hardware, dataflow and layer shape; what the cache has is not run again."""
    known: dict[str, float] = read_json(cache, "energies by ZigZag") if cache.exists() else {}
    for title, target in HARDWARE.items():
        for network in NETWORKS:
            for layer in different_layers(network):
                for dataflow in DATAFLOWS:
                    key = energy_key(title, dataflow, layer)
                    if key not in known:
                        known[key] = zigzag_energy(layer, dataflow, target, loops)
            write_json(cache, known)
            print(f"{title}, {network}: done", file=sys.stderr)
    return known


def energy_key(title: str, dataflow: str, layer: LayerShape) -> str:
    return f"{title} {dataflow} {json.dumps(dataclasses.replace(layer, name='').to_dict(), sort_keys=True)}"


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How well some counts agree with ZigZag on one network and hardware."""

    title: str
    network: str
    layers: int
    counts: str
    across_layers: list[float]
    """By dataflow."""
    across_dataflows: list[float]
    """By layer, where the dataflows differ."""
    ratio: np.ndarray

    @property
    def holds(self) -> bool:
        means = (np.mean(self.across_layers), np.mean(self.across_dataflows or [1.0]))
        return self.counts != "reuse" or min(means) >= LEAST_CORRELATION

    @property
    def cells(self) -> list[str]:
        """A line of the page's table."""
        dataflows = _mean_and_worst(self.across_dataflows) if self.across_dataflows else "-"
        ratios = f"{np.median(self.ratio):.2f} ({self.ratio.min():.2f} to {self.ratio.max():.2f})"
        ratios = "-" if self.counts == "MACs alone" else ratios
        across_layers = _mean_and_worst(self.across_layers)
        return [self.title, self.network, str(self.layers), self.counts, across_layers, dataflows, ratios]


def _mean_and_worst(values: list[float]) -> str:
    return f"{np.mean(values):.2f} ({min(values):.2f})"


def compare(known: dict[str, float]) -> list[Agreement]:
    """Rank both counts, and the number of MACs, against ZigZag's energies."""
    rows = []
    for title, target in HARDWARE.items():
        for network in NETWORKS:
            layers = different_layers(network)
            theirs = np.array([[known[energy_key(title, d, layer)] for layer in layers] for d in DATAFLOWS])
            sides = {
                counts: np.array([our_energy(layers, d, target, counts) for d in DATAFLOWS])
                for counts in ("paper", "reuse")
            }
            sides["MACs alone"] = np.broadcast_to(tabulate_calls(layers).macs, theirs.shape)
            for counts, ours in sides.items():
                by_dataflow = [rank_correlation(a, b) for a, b in zip(ours, theirs, strict=True)]
                by_layer = [rank_correlation(a, b) for a, b in zip(ours.T, theirs.T, strict=True)]
                known_by_dataflow = [value for value in by_dataflow if value is not None]
                known_by_layer = [value for value in by_layer if value is not None]
                found = (len(layers), counts, known_by_dataflow, known_by_layer, ours / theirs)
                rows.append(Agreement(title, network, *found))
    return rows


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/results/cost_vs_zigzag.md"))
    parser.add_argument("--cache", type=Path, default=Path("runs/zigzag.json"), help="ZigZag's energies, to go on from")
    parser.add_argument("--loops", type=int, default=6, help="loops that ZigZag orders at most")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    rows = compare(measure(options.cache, options.loops))
    head = ["hardware", "network", "layers", "counts", "across layers", "across dataflows", "energy"]
    page = f"""# The cost model against ZigZag

`{command_with(loops=options.loops)}`, ZigZag {version("zigzag-dse")}, {datetime.date.today()}, \
{platform.machine()}; nothing is random.

{EXPLANATION}
{table(head, [row.cells for row in rows])}
"""
    publish(page, options.out)
    if not all(row.holds for row in rows):
        raise SystemExit(f"expected rank correlations of reuse >= {LEAST_CORRELATION}, found less")


if __name__ == "__main__":
    main()
