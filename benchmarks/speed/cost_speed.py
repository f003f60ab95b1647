"""Time the cost model on a population and check it against a plain Python loop over the same formulas.

The loop shares nothing with the package but the layers and the hardware's numbers. Then every shipped hardware, aim
and dataflow is timed with MobileNetV2 and memories of finite size. Times are those of the processor: others may use it.
"""

from __future__ import annotations

import datetime
import itertools
import math
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.models import mobilenet_v2

from benchmarks.common.command_line import argument_parser, command_with
from benchmarks.common.tables import table
from emomc.common.files import write_text
from emomc.compression.codings import PAPER_CODINGS
from emomc.hardware.cycles import estimate_cycles
from emomc.hardware.dataflows import DATAFLOWS
from emomc.hardware.description import Hardware, load_hardware, preset_names
from emomc.hardware.energy import estimate_energy
from emomc.hardware.mac_energy import AffineMac, BilinearMac
from emomc.hardware.mapping import AIMS, LATENCY
from emomc.hardware.size import estimate_size
from emomc.hardware.workload import Workload
from emomc.networks.build import build_network
from emomc.networks.graph import trace_layers, trace_network
from emomc.networks.layers import LayerShape

TOLERANCE = 1e-12
UNROLLED = {"xy": ("ox", "oy"), "icoc": ("c", "k"), "fxfy": ("fx", "fy"), "xfx": ("ox", "fx")}


def chance(p: float, n: float) -> float:
    """1 - (1 - p)^n."""
    return p if n == 1 else 1.0 if p == 1 else -math.expm1(n * math.log1p(-p))


def mac_energy(hardware: Hardware, q: float) -> float:
    mac = hardware.operational_array.mac
    if isinstance(mac, AffineMac):
        return mac.base + mac.per_weight_bit * q
    assert isinstance(mac, BilinearMac)
    return mac.per_bit2 * q * hardware.precision.I + mac.add


def paper_layer(layer: LayerShape, q: float, p: float, dataflow: str, hardware: Hardware) -> float:
    memory = hardware.memories[0]
    pixels = layer.calls[0].output_pixels
    c, k = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    side, kernel = layer.kernel_size[0], math.prod(layer.kernel_size)
    macs = layer.macs
    if layer.kind == "linear":
        weight, inputs, outputs, sums = macs, macs * p, layer.out_channels * pixels, 0.0
    elif dataflow == "xy":
        weight, inputs, outputs, sums = macs / pixels, macs * p, macs / (kernel * c), 0.0
    elif dataflow == "icoc":
        weight = macs
        inputs = macs / k * (1.0 if k > 24 else chance(p, k))
        outputs = sums = macs / c * (1.0 if c > 24 else chance(p, c))
    elif dataflow == "fxfy":
        weight, inputs = macs / pixels, macs * p
        outputs = sums = macs / kernel * chance(p, kernel)
    else:
        weight = macs / math.sqrt(pixels)
        inputs = outputs = sums = macs / side * chance(p, side)
    reads = inputs + sums + weight * (q + memory.extra_weight_bits) / 16
    return macs * p * mac_energy(hardware, q) + reads * memory.r_cost + outputs * memory.w_cost


def reuse_layer(layer: LayerShape, q: float, p: float, dataflow: str, hardware: Hardware) -> float:
    (call,) = layer.calls
    (oy, ox), (fy, fx) = call.output_size, layer.kernel_size
    c, k = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    extent = {"c": c, "k": k, "ox": ox, "oy": oy, "fx": fx, "fy": fy}
    used = dict.fromkeys(extent, 1.0)
    for axis, name in enumerate(UNROLLED[dataflow]):
        sizes = hardware.operational_array.sizes
        used[name] = extent[name] / math.ceil(extent[name] / sizes[axis]) if sizes else extent[name]
    left = {name: extent[name] / used[name] for name in extent}
    pes = math.prod(used.values())
    steps = layer.macs / pes

    def window(o: float, f: float, axis: int) -> float:
        return min(o * f, layer.stride[axis] * (o - 1) + layer.dilation[axis] * (f - 1) + 1)

    inputs = used["c"] * window(used["ox"], used["fx"], 1) * window(used["oy"], used["fy"], 0)
    weights = used["c"] * used["k"] * used["fx"] * used["fy"]
    outputs = used["k"] * used["ox"] * used["oy"]
    output_values = layer.out_channels * ox * oy
    register, buffer, dram = hardware.memories
    act, out = hardware.precision.I, hardware.precision.O
    read = {memory.name: (memory.r_cost or 0.0) / memory.word_bits for memory in hardware.memories}
    write = {memory.name: (memory.w_cost or 0.0) / memory.word_bits for memory in hardware.memories}

    def array(hold: str) -> float:
        """What the buffer and the registers take where one operand is held; nothing is skipped."""
        ti = left["k"] if hold == "I" else 1.0
        tw = left["ox"] * left["oy"] if hold == "W" else 1.0
        to = left["c"] * left["fx"] * left["fy"] if hold == "O" else 1.0
        accesses = steps * outputs / to
        sums = (accesses - output_values) * out
        taken = steps * inputs / ti * act + steps * weights / tw * q + sums
        given = sums + output_values * act
        out_of_pes = layer.macs * (act + q + out) + layer.macs / to * out
        into_pes = layer.macs / ti * act + layer.macs / tw * q + layer.macs * out
        into_pes += layer.macs / to * out * (1 - output_values / accesses)
        shared = taken * read[buffer.name] + given * write[buffer.name]
        return shared + out_of_pes * read[register.name] + into_pes * write[register.name]

    # Of every layer one operand fits into the buffer: all pass once.
    arriving = layer.in_channels * math.prod(call.input_size) * act + layer.weights * q
    leaving = output_values * act
    energy = layer.macs * mac_energy(hardware, q) + min(array(hold) for hold in "IWO")
    energy += arriving * (read[dram.name] + write[buffer.name]) + leaving * (read[buffer.name] + write[dram.name])
    return energy


def coded_bits(weights: int, q: float, p: float, coding: str) -> float:
    if coding == "normal":
        return weights * q
    return weights * p * (q + 3 if coding == "csr" else round(q + math.log2(weights)))


def timed(call: Callable[[], np.ndarray], repeats: int) -> tuple[np.ndarray, float, float]:
    """Return the result, the median and the longest of some timings in milliseconds."""
    result, times = call(), []
    for _ in range(repeats):
        start = time.thread_time()
        result = call()
        times.append((time.thread_time() - start) * 1e3)
    return result, statistics.median(times), max(times)


def tiled_rows(candidates: int, repeats: int, seed: int) -> tuple[list[list[str]], float]:
    """Time MobileNetV2 on every shipped hardware for every aim, under the slowest dataflow.

    Returns:
        The lines of the table, and the longest median in milliseconds.
    """
    graph = trace_network(mobilenet_v2(num_classes=10).eval(), (3, 224, 224))
    generator = np.random.default_rng(seed)
    shape = (candidates, len(graph.layers))
    bits, density = generator.integers(2, 13, shape), generator.integers(5, 101, shape) / 100
    coded = bits * density * np.array([layer.weights for layer in graph.layers])
    rows, longest = [], 0.0
    for name, aim in itertools.product(preset_names(), AIMS):
        hardware = load_hardware(name)
        if not hardware.has_energy and aim != LATENCY:
            continue
        medians = {}
        for dataflow in DATAFLOWS:
            costed = estimate_cycles if aim == LATENCY else estimate_energy

            def call(d: str = dataflow, h: Hardware = hardware, a: str = aim, f: Any = costed) -> np.ndarray:
                workload = Workload(graph.layers, bits, density, coded, maps=graph.maps)
                found: np.ndarray = f(workload, dataflow=d, hardware=h, aim=a)
                return found

            medians[dataflow] = timed(call, repeats)[1]
        slowest = max(medians, key=lambda d: medians[d])
        longest = max(longest, medians[slowest])
        rows.append([name, aim, f"{min(medians.values()):.0f}", f"{medians[slowest]:.0f} ({slowest})"])
        print(" | ".join(rows[-1]), flush=True)
    return rows, longest


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--candidates", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit_ms", type=float, default=50.0, help="longest median that is accepted")
    parser.add_argument("--tiled_limit_ms", type=float, default=100.0, help="the same for MobileNetV2")
    parser.add_argument("--out", type=Path, default=Path("docs/results/cost_speed.md"))
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    layers = trace_layers(build_network("vgg16", in_channels=3, num_classes=10), (3, 32, 32))
    generator = np.random.default_rng(options.seed)
    shape = (options.candidates, len(layers))
    bits, density = generator.integers(2, 13, shape), generator.integers(5, 101, shape) / 100
    rows_q, rows_p = bits.tolist(), density.tolist()
    rows, failed = [], False

    def row(what: str, call: Callable[[], np.ndarray], loop: Callable[[float, float, LayerShape], float]) -> None:
        nonlocal failed
        ours, median_ms, longest_ms = timed(call, options.repeats)
        start = time.thread_time()
        plain = [
            sum(loop(q, p, layer) for q, p, layer in zip(qs, ps, layers, strict=True))
            for qs, ps in zip(rows_q, rows_p, strict=True)
        ]
        loop_ms = (time.thread_time() - start) * 1e3
        error = float(np.max(np.abs(ours / np.array(plain) - 1)))
        failed |= error > TOLERANCE or median_ms > options.limit_ms
        rows.append([what, f"{median_ms:.1f}", f"{longest_ms:.1f}", f"{loop_ms:.0f}", f"{error:.1e}"])
        print(" | ".join(rows[-1]), flush=True)

    fpga, eyeriss = load_hardware("emomc_fpga"), load_hardware("eyeriss_ratio")
    for title, hardware, one in (
        ("paper, emomc_fpga", fpga, paper_layer),
        ("reuse, eyeriss_ratio", eyeriss, reuse_layer),
    ):
        for dataflow in DATAFLOWS:
            row(
                f"energy, {title}, {dataflow}",
                lambda h=hardware, d=dataflow: estimate_energy(Workload(layers, bits, density), dataflow=d, hardware=h),
                lambda q, p, layer, h=hardware, d=dataflow, f=one: f(layer, q, p, d, h) * h.energy_scale,
            )
    for coding in PAPER_CODINGS:
        row(
            f"size, {coding}",
            lambda name=coding: estimate_size(Workload(layers, bits, density), coding=name),
            lambda q, p, layer, name=coding: coded_bits(layer.weights, q, p, name) / 8192,
        )
    tiled, longest = tiled_rows(options.candidates, options.repeats, options.seed)
    failed |= longest > options.tiled_limit_ms
    head = ["what", "call, median ms", "call, longest ms", "loop, ms", "largest relative difference"]
    text = f"""# Speed of the cost model

`{command_with(candidates=options.candidates, seed=options.seed)}`, {datetime.date.today()}, {platform.machine()}, \
{os.cpu_count()} cores (load {os.getloadavg()[0]:.1f}), Python {platform.python_version()}, numpy {np.__version__}.

{options.candidates:,} candidates of VGG-16 (14 layers, 3x32x32 images), each with its own bits (2 to 12) and density \
(0.05 to 1) in every layer, in one call; milliseconds of {options.repeats} calls, against one pass of a plain Python \
loop over the same formulas. All times are those of the processor.

{table(head, rows)}

MobileNetV2 (53 layers, 3x224x224 images) with its feature maps, so that layers are tiled and maps stay on chip, in \
the same way; energies, for the aim latency cycles. Bound: {options.tiled_limit_ms:g} ms.

{table(["hardware", "aim", "fastest dataflow, median ms", "slowest dataflow, median ms"], tiled)}
"""
    write_text(options.out, text)
    if failed:
        raise SystemExit(f"expected differences <= {TOLERANCE} and medians within the limits, found worse")


if __name__ == "__main__":
    main()
