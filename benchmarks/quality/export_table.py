"""Export every point of a LeNet-5 front and compare what comes back with what the search promised.

    python -m benchmarks.quality.export_table --run runs/lenet5-mnist --output docs/results/lenet5_mnist_export.md

Bytes promised, bytes of the file, of the best coding today and in version 1 of the packed file, gzip of the level's
float32 checkpoint; test accuracy promised, read back from the packed file, under onnxruntime, and by the reader in C on
the first 1,000 test images.
"""

from __future__ import annotations

import datetime
import gzip
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from benchmarks.common.command_line import argument_parser, command_with
from benchmarks.common.page import publish
from benchmarks.common.tables import table
from emomc.cli.export_run import pack_point
from emomc.common.errors import UserError
from emomc.common.run_folder import find_finished_search
from emomc.compression.codings import CODINGS, stream_bits
from emomc.data.splits import load_split
from emomc.export.formats import ExportOptions, FormatName, export_network, verify_export
from emomc.export.loading import unpack_network
from emomc.export.verification import EvaluationConditions
from emomc.fronts.front_file import read_front
from emomc.fronts.picks import standard_picks
from emomc.library.data_sources import library_data
from emomc.library.library import Library
from emomc.packed_file.layout import CHECKSUM, CODINGS_1, HEADER, LAYER_1, TENSOR_1, aligned
from emomc.packed_file.network import PackedNetwork, metadata_of
from emomc.packed_file.size import layer_bytes
from emomc.packed_file.writer import pack_bytes
from emomc.runtime.notices import quiet_lightning

READER = Path(__file__).parents[2] / "examples" / "c_reader"
C_IMAGES = 1000
COLUMNS = (
    "point",
    "level, %",
    "promised, B",
    "file, B",
    "file in the best coding, B",
    "version 1 in its best coding, B",
    "gzip of fp32 checkpoint, B",
    "promised, %",
    "read back, %",
    "onnxruntime, %",
    "C, % of the first {images:,}",
    "same class in C as in torch",
)


class Exporter:
    """Exports points of one front and runs the files."""

    def __init__(self, run: Path, search: str | None, data_dir: str | None, folder: Path) -> None:
        self.search = find_finished_search(run, search)
        self.front = read_front(self.search.front)
        self.library = Library.open(self.search.run.library)
        if self.library.manifest.network != "lenet5":
            raise UserError(
                f"expected a run of lenet5, the network that runs in C, found {self.library.manifest.network}"
            )
        self.folder = folder
        self.images, self.labels = load_split(library_data(self.library, data_dir=data_dir), "test")
        shutil.copytree(READER, folder / "reader")
        subprocess.run(["make", "-s", "lenet5"], cwd=folder / "reader", check=True)
        self.raw = folder / "images.raw"
        self.raw.write_bytes(self._pixels().numpy().tobytes())

    def row(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Export one point in two formats and run it in three ways."""
        packed = pack_point(self.library, None, self.front, point, self.search)
        file, graph = self.folder / "network.emomc", self.folder / "network.onnx"
        size = export_network(file, packed, "emomc", options=ExportOptions(self.front["coding"]))
        export_network(graph, packed, "onnx")
        in_c, same = self._in_c(file, packed)
        return {
            "point": point["index"],
            "level": point["level"],
            "promised": point.get("size_bytes"),
            "file": size,
            "best": len(pack_bytes(packed, "best")),
            "version_1": version_1_bytes(packed),
            "gzip": len(gzip.compress(save(self.library.load_state(int(point["level"]))), 9)),
            "promised_correct": point["test_correct"],
            "read_back": self._verify(file, "emomc", packed),
            "onnx": self._verify(graph, "onnx", packed),
            "c": in_c,
            "same": same,
        }

    def _verify(self, path: Path, format: FormatName, packed: PackedNetwork) -> int:
        conditions = EvaluationConditions(
            self.library.manifest.evaluation_batch_size, self.front["settings"]["precision"]
        )
        return verify_export(path, format, packed, self.images, self.labels, conditions).correct

    def _pixels(self) -> Tensor:
        """Undo the normalisation: the pixels, as a camera gives them."""
        manifest = self.library.manifest
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (manifest.mean, manifest.std))
        return ((self.images[:C_IMAGES] * std + mean) * 255).round().to(torch.uint8)

    def _in_c(self, file: Path, packed: PackedNetwork) -> tuple[int, int]:
        """Return how many images the reader in C classifies rightly, and how many as torch does."""
        command = [self.folder / "reader" / "lenet5", file, self.raw]
        lines = subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()
        found = torch.tensor([int(line.split()[0]) for line in lines])
        with torch.no_grad():
            expected = unpack_network(packed)(self.images[:C_IMAGES]).argmax(1)
        return int((found == self.labels[:C_IMAGES]).sum()), int((found == expected).sum())


def version_1_bytes(packed: PackedNetwork) -> int:
    """Return the bytes of the file that version 1 had for a network, each layer in the shortest of its codings."""
    layers, tensors = packed.layers, packed.tensors
    names = sum(len(name.encode()) for name in (*(layer.name for layer in layers), *tensors))
    before = HEADER.size + 8 * len(packed.description.mean) + LAYER_1.size * len(layers) + TENSOR_1.size * len(tensors)
    size = aligned(before + names + len(metadata_of(packed.description))) + CHECKSUM.size
    for layer in layers:
        bits = min(stream_bits(layer.codes, layer.bits, coding) for coding in list(CODINGS)[:CODINGS_1])
        size += int(layer_bytes(np.array(bits), 4 * len(layer.scale)))
    return size + sum(aligned(tensor.nbytes) for tensor in tensors.values())


def report(exporter: Exporter, rows: list[dict[str, Any]], command: str, seconds: float) -> str:
    """Return the page."""
    front, images = exporter.front, len(exporter.labels)
    in_c = min(C_IMAGES, images)

    def percent(correct: int | None, of: int) -> str:
        return "" if correct is None else f"{100 * correct / of:.2f}"

    lines = []
    for row in rows:
        sizes = [_number(row["promised"]), *(f"{row[key]:,}" for key in ("file", "best", "version_1", "gzip"))]
        shares = [percent(row[key], images) for key in ("promised_correct", "read_back", "onnx")]
        last = [percent(row["c"], in_c), f"{row['same']:,} of {in_c:,}"]
        lines.append([str(row["point"]), str(row["level"]), *sizes, *shares, *last])
    head = [column.format(images=in_c) for column in COLUMNS]
    exact = sum(row["promised"] == row["file"] for row in rows)
    back = sum(row["promised_correct"] == row["read_back"] for row in rows)
    onnx = max(abs(row["promised_correct"] - row["onnx"]) for row in rows)
    same = min(row["same"] for row in rows)
    smaller, smallest = (sorted(row["gzip"] / row[key] for row in rows)[len(rows) // 2] for key in ("file", "best"))
    saved = sorted(100 - 100 * row["best"] / row["version_1"] for row in rows)
    picks = [(pick.pick.kind.value, pick.index) for pick in standard_picks(front)]
    of_index = {row["point"]: row for row in rows}
    return f"""# Export: what was promised and what came back

`{command}`, {datetime.date.today()}, {platform.machine()}, torch {torch.__version__}.

The front of `{exporter.search.path.name}` ({front["network"]} on {front["dataset"]}, coding {front["coding"]},
accounting {front["accounting"]}, seed {front["settings"]["seed"]}), {len(rows)} points, {images:,} test images,
{seconds:.0f} s.

- {exact} of {len(rows)} files have exactly the bytes that the search counted; the median file is {smaller:.1f} times
  smaller than the gzip of its level's float32 checkpoint; with the best coding per layer, {smallest:.1f} times.
- In the best coding, a file is {saved[0]:.1f} to {saved[-1]:.1f} % smaller than it was in version 1 in the best of its
  codings, {saved[len(saved) // 2]:.1f} % at the median. At the picks: {
        ", ".join(
            f"{kind} (point {index}) {100 - 100 * of_index[index]['best'] / of_index[index]['version_1']:.1f} %"
            for kind, index in picks
            if index in of_index
        )
    }.
- {back} of {len(rows)} files, read back, classify exactly as many test images rightly as the search said.
- Under onnxruntime the count differs by at most {onnx} of {images:,} images.
- The reader in C gives the class that torch gives on at least {same:,} of {in_c:,} images.

{table(head, lines)}
"""


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of a run of lenet5, or of one of its searches")
    parser.add_argument("--search", help="name of the search, where the run has several")
    parser.add_argument("--data_dir", help="folder of the data, if it is not where emomc-pretrain had it")
    parser.add_argument("--output", type=Path, help="markdown file to write, besides printing")
    arguments = parser.parse_args()
    begun = time.perf_counter()
    with quiet_lightning(), tempfile.TemporaryDirectory() as folder:
        exporter = Exporter(arguments.run, arguments.search, arguments.data_dir, Path(folder))
        rows = [exporter.row(point) for point in exporter.front["points"]]
    command = command_with(run=arguments.run, search=exporter.search.path.name)
    publish(report(exporter, rows, command, time.perf_counter() - begun), arguments.output)


if __name__ == "__main__":
    main()
