"""Measure the fillers, which the paper's size of CSR leaves out, on a trained library.

    python -m benchmarks.quality.fillers --library runs/lenet5-mnist/library

For each level and number of bits: bits per weight of the whole network by the paper's CSR formula N p (q + 3), of the
same stream with its fillers (3-bit index), of CSR with the best index width per layer, and of the best coding per
layer. Densities are those after quantization; the share of fillers is among the entries of the 3-bit stream. Writes
``docs/results/fillers.md``.
"""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from benchmarks.common.command_line import argument_parser
from benchmarks.common.page import made_by, publish
from benchmarks.common.tables import table
from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.compression.code_counts import CodeCounts, count_codes
from emomc.compression.codings import stream_bits
from emomc.compression.quantizers import Quantizer
from emomc.library.library import Library
from emomc.library.network_sources import library_graph

BITS = (2, 3, 4, 6, 8)
PAPER_INDEX_BITS = 3
HEAD = ("level, %", "bits", "density after", "paper", "true, 3-bit", "fillers' share", "true / paper")
HEAD += ("best index", "best coding")


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--library", type=Path, default=Path("runs/lenet5-mnist/library"))
    parser.add_argument("--levels", type=int, nargs="+", default=[80, 50, 35, 20])
    parser.add_argument("--output", type=Path, default=Path("docs/results/fillers.md"))
    arguments = parser.parse_args()
    library = Library.open(arguments.library)
    networks = CompressedNetworks(library, library_graph(library), Quantizer())
    rows = [_row(networks, level, bits) for level in arguments.levels for bits in BITS]
    page = f"""# Fillers of CSR on a trained library

{made_by()}; {platform.machine()}, torch {torch.__version__}.
{library.manifest.network} on {library.manifest.data["dataset"]}, criterion {library.manifest.settings["criterion"]},
seed {library.manifest.settings["seed"]}, quantizer {networks.quantizer.method}. Bits per weight, all layers together.
"density after" counts the weights that are not zero after quantization; "paper" is N p (q + 3) with the mask's density,
"true" the same stream with its fillers and without the weights that were rounded to zero.

{table(HEAD, rows)}
"""
    publish(page, arguments.output)


def _row(networks: CompressedNetworks, level: int, bits: int) -> list[str]:
    layers = networks.library.manifest.compressed_layers
    counts = [count_codes(networks.quantized(level, layer.name, bits).codes.numpy()) for layer in layers]
    weights = sum(layer.weights for layer in layers)
    remaining = sum(networks.library.record(level).remaining.values())
    nonzeros = sum(count.nonzeros for count in counts)
    fillers = sum(_fillers(count) for count in counts)
    entries = nonzeros + fillers
    paper = remaining * (bits + PAPER_INDEX_BITS) / weights
    true = entries * (bits + PAPER_INDEX_BITS) / weights
    best_index = sum(stream_bits(count, bits, "csr") for count in counts) / weights
    best = sum(stream_bits(count, bits, "best") for count in counts) / weights
    shares = [f"{nonzeros / weights:.3f}", f"{paper:.3f}", f"{true:.3f}", f"{100 * fillers / entries:.1f} %"]
    return [str(level), str(bits), *shares, f"{true / paper:.2f}", f"{best_index:.3f}", f"{best:.3f}"]


def _fillers(counts: CodeCounts) -> int:
    """Fillers at the paper's index width; none where no gap is that long."""
    return int(counts.overflows[PAPER_INDEX_BITS]) if len(counts.overflows) > PAPER_INDEX_BITS else 0


if __name__ == "__main__":
    main()
