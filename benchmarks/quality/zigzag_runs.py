"""Run ZigZag, an independent model of accelerators, on one layer and one described accelerator.

Needs the extra ``zigzag`` (``pip install -e .[zigzag]``), or ``PYTHONPATH`` with the packages of another environment.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import yaml

from emomc.hardware.description import Hardware, Memory
from emomc.networks.layers import LayerShape

UNROLLED = {"xy": ("OX", "OY"), "icoc": ("C", "K"), "fxfy": ("FX", "FY"), "xfx": ("OX", "FX")}
LINKS = {"O": "O", "W": "I2", "I": "I1"}
UNLIMITED = 1 << 40


def run_zigzag(layer: LayerShape, dataflow: str, target: Hardware, *, loops: int, pins_hold: bool) -> dict[str, float]:
    """Return ZigZag's energy, in the hardware's unit, and cycles of one layer; it takes the mapping of least energy.

    Args:
        layer: with one call.
        dataflow: which two loops the array unrolls.
        target: the accelerator.
        loops: how many loops ZigZag orders at most; more are found better, and slower.
        pins_hold: whether what a memory has read stays at its outputs for free, as long as it is narrow enough.
    """
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
            workload=zigzag_workload(layer, extents, target),
            mapping=str(mapping),
            loma_lpf_limit=loops,
            loma_show_progress_bar=False,
            nb_mappings_generated=1,
            access_same_data_considered_as_no_access=pins_hold,
            temporal_mapping_type=TemporalMappingType("uneven"),
        )
        found = run.run()[0][0]
    return {"energy": float(found.energy_total), "cycles": float(found.latency_total2)}


def zigzag_extents(layer: LayerShape) -> dict[str, int]:
    """Return the extent of each loop."""
    (call,) = layer.calls
    oy, ox = call.output_size
    fy, fx = layer.kernel_size
    c, k = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    return {"G": layer.groups, "K": k, "C": c, "OY": oy, "OX": ox, "FY": fy, "FX": fx}


def zigzag_workload(layer: LayerShape, extents: dict[str, int], target: Hardware) -> list[dict[str, Any]]:
    """Describe the layer; weights have the bits of an activation."""
    (sy, sx), (dy, dx) = layer.stride, layer.dilation
    iy, ix = layer.calls[0].input_size
    # Without its padding ZigZag would fetch the border from DRAM.
    border_x = max(0, sx * (extents["OX"] - 1) + dx * (extents["FX"] - 1) + 1 - ix)
    border_y = max(0, sy * (extents["OY"] - 1) + dy * (extents["FY"] - 1) + 1 - iy)
    bits = target.precision
    return [
        {
            "id": 0,
            "operator_type": "Conv",
            "equation": "O[g][k][oy][ox]+=W[g][k][c][fy][fx]*I[g][c][iy][ix]",
            "dimension_relations": [f"ix={sx}*ox+{dx}*fx", f"iy={sy}*oy+{dy}*fy"],
            "loop_dims": list(extents),
            "loop_sizes": list(extents.values()),
            "operand_precision": {"I": bits.I, "W": bits.I, "O": bits.O, "O_final": bits.I},
            "operand_source": {"W": 0, "I": 0},
            "pr_loop_dims": ["IX", "IY"],
            "pr_loop_sizes": [ix, iy],
            "padding": [[border_x - border_x // 2, border_x // 2], [border_y - border_y // 2, border_y // 2]],
        }
    ]


def zigzag_mapping(target: Hardware, extents: dict[str, int], dataflow: str) -> list[dict[str, Any]]:
    """Say which loops the array unrolls, and how far."""
    sizes = array_sizes(target, extents, dataflow)
    unrolled = {
        f"D{axis + 1}": [f"{name}, {min(extents[name], sizes[axis])}"] for axis, name in enumerate(UNROLLED[dataflow])
    }
    return [{"name": "default", "spatial_mapping": unrolled, "memory_operand_links": LINKS}]


def array_sizes(target: Hardware, extents: dict[str, int], dataflow: str) -> list[int]:
    """Return the PEs along both dimensions."""
    sizes = target.operational_array.sizes
    return list(sizes) if sizes else [extents[name] for name in UNROLLED[dataflow]]


def zigzag_accelerator(target: Hardware, extents: dict[str, int], dataflow: str) -> dict[str, Any]:
    """Describe the hardware in ZigZag's schema; a memory per PE becomes a register for each operand."""
    memories: dict[str, Any] = {}
    for memory in target.memories:
        for operands in [[o] for o in memory.operands] if memory.per_pe else [list(memory.operands)]:
            name = "_".join([memory.name, *(LINKS[operand] for operand in operands)])
            memories[name] = _zigzag_memory(memory, operands)
    array = {"unit_energy": 1.0, "unit_area": 1, "dimensions": ["D1", "D2"]}
    array["sizes"] = array_sizes(target, extents, dataflow)
    return {"name": target.name, "memories": memories, "operational_array": array}


def _zigzag_memory(memory: Memory, operands: list[str]) -> dict[str, Any]:
    """Give a shared memory one port for all it moves, as its one bandwidth says; a register a port each way."""
    reads = [f"{LINKS[one]}, tl" for one in operands] + (["O, th"] if "O" in operands else [])
    writes = [f"{LINKS[one]}, fh" for one in operands] + (["O, fl"] if "O" in operands else [])
    moved = memory.word_bits if memory.bw_bits_per_cycle is None else int(memory.bw_bits_per_cycle)
    width = {"bandwidth_min": memory.word_bits, "bandwidth_max": moved}
    if memory.per_pe or memory.bw_bits_per_cycle is None:
        ports = [
            {"name": "r_port_1", "type": "read", "allocation": reads, **width},
            {"name": "w_port_1", "type": "write", "allocation": writes, **width},
        ]
    else:
        ports = [{"name": "rw_port_1", "type": "read_write", "allocation": reads + writes, **width}]
    # ZigZag charges a word of the whole bandwidth, and a part of it for less.
    words = math.ceil(moved / memory.word_bits)
    return {
        "size": UNLIMITED if memory.size_bits is None else memory.size_bits,
        "r_cost": memory.r_cost * words,
        "w_cost": memory.w_cost * words,
        "area": 0,
        "latency": 1,
        "operands": [LINKS[operand] for operand in operands],
        "ports": ports,
        "served_dimensions": [] if memory.per_pe else ["D1", "D2"],
    }
