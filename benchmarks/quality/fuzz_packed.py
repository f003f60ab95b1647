"""Mutate packed files and read them: each must end in an error for the user or in a network within the format's ranges.

Each is read in Python, and in C under the address and undefined-behaviour sanitizers; what both read must have the same
weights, and C may not refuse what Python reads.

python -m benchmarks.quality.fuzz_packed --files 100000 --output docs/results/fuzz_packed.md
"""

from __future__ import annotations

import collections
import datetime
import math
import platform
import re
import resource
import struct
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.common.command_line import argument_parser, command_with
from benchmarks.common.page import publish
from benchmarks.common.tables import table
from benchmarks.quality.reader_in_c import SANITIZERS, ReaderInC, expected_answer
from emomc.common.errors import UserError
from emomc.compression.activation_grid import ActivationGrid
from emomc.compression.codings import CODINGS, MAX_WEIGHTS
from emomc.compression.float16 import round_scales
from emomc.compression.widths import UNCOMPRESSED_BITS
from emomc.export.loading import unpack_network
from emomc.packed_file.layout import HEADER, LAYER, VERSION
from emomc.packed_file.network import NetworkDescription, PackedLayer, PackedNetwork
from emomc.packed_file.reader import parse_packed
from emomc.packed_file.writer import pack_bytes

SHAPES = {
    "conv1": (6, 1, 5, 5),
    "conv2": (16, 6, 5, 5),
    "conv3": (120, 16, 5, 5),
    "linear1": (84, 120),
    "linear2": (10, 84),
}
SEEDS = 80
IN_C = (2, 3, 4)
"""Versions that the reader in C reads, too."""
OLD = Path(__file__).parents[2] / "tests" / "emomc" / "packed_file"
"""Folder of files that were written in versions 1 and 2, of three layers."""
SLOWEST_ALLOWED_S = 10.0
WORDS = (0, 1, 2, 3, 31, 32, 255, 2**16 - 1, 2**16, 2**28, 2**28 + 1, 2**31 - 1, 2**31, 2**32 - 1)


def seed_network(rng: np.random.Generator) -> PackedNetwork:
    """Make a LeNet-5 of random codes, most of them zero, so that its file is small; two small layers may be dense."""
    layers = []
    rounded = rng.random() < 0.5
    for name, shape in SHAPES.items():
        grid = random_grid(rng) if rounded else None
        bits = int(rng.choice([2, 3, 4, 8, 9, 12, 16, *[UNCOMPRESSED_BITS] * (name == "conv1")]))
        kept = rng.random(shape) < rng.choice([0.0, 0.01, 0.05, *[1.0] * (name in ("conv1", "conv2"))])
        if bits == UNCOMPRESSED_BITS:
            weights = rng.normal(size=shape).astype(np.float32)
            layers.append(PackedLayer(name, bits, weights, np.zeros(0, np.float32), grid))
            continue
        largest = 2 ** (bits - 1) - 1
        codes = rng.integers(-largest, largest + 1, shape) * kept
        scale = rng.normal(size=int(rng.choice([1, shape[0]]))).astype(np.float32)
        half = len(scale) > 1 and rng.random() < 0.5
        if half:
            scale = round_scales(torch.from_numpy(scale)).numpy()
        layers.append(PackedLayer(name, bits, codes.astype(np.int8 if bits <= 8 else np.int16), scale, grid, half))
    kind = np.float16 if rng.random() < 0.5 else np.float32
    tensors = {f"{name}.bias": rng.normal(size=shape[0]).astype(kind) for name, shape in SHAPES.items()}
    description = NetworkDescription(
        "lenet5", {}, None, (1, 32, 32), tuple("0123456789"), (float(rng.random()),), (0.5,)
    )
    return PackedNetwork(description, tuple(layers), tensors)


def random_grid(rng: np.random.Generator) -> ActivationGrid:
    """Make a grid of a layer's inputs."""
    return ActivationGrid(int(rng.integers(2, 16)), bool(rng.random() < 0.5), float(np.float32(rng.random() + 1e-3)))


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Change a file in one to four places."""
    changed = bytearray(data)
    front = min(HEADER.size + 8 + LAYER.size * len(SHAPES) + 400, len(changed))
    for _ in range(int(rng.integers(1, 5))):
        # Most of a file is streams: half of the changes go to what describes them.
        place = int(rng.integers(0, front if rng.random() < 0.5 else len(changed)))
        kind = int(rng.integers(0, 7))
        if kind == 0:
            changed[place] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            changed[place] = int(rng.integers(0, 256))
        elif kind == 2:
            place -= place % 4
            changed[place : place + 4] = struct.pack("<I", int(rng.choice(WORDS)))
        elif kind == 3:
            source, length = int(rng.integers(0, len(changed))), int(rng.integers(1, 64))
            piece = changed[source : source + length]
            changed[place : place + len(piece)] = piece
        elif kind == 4:
            changed[place : place + 16] = bytes(len(changed[place : place + 16]))
        elif kind == 5 and rng.random() < 0.3:
            del changed[place : place + int(rng.integers(1, 64))]
        elif kind == 6 and rng.random() < 0.3:
            changed[place:place] = rng.integers(0, 256, int(rng.integers(1, 64)), np.uint8).tobytes()
        if len(changed) < 8:
            break
    return bytes(changed)


def repair(data: bytes, rng: np.random.Generator) -> bytes:
    """Make the checksum right again, and most times the declared size too."""
    body = bytearray(data[:-4])
    if len(body) >= HEADER.size and rng.random() < 0.8:
        body[16:24] = struct.pack("<Q", len(body) + 4)
    return bytes(body) + struct.pack("<I", zlib.crc32(body))


def check_ranges(network: PackedNetwork) -> None:
    """Raise if a network that was read is not well-formed; told apart from the reader's own checks."""
    weights = 0
    for layer in network.layers:
        weights += layer.codes.size
        if layer.bits == UNCOMPRESSED_BITS:
            fits = layer.codes.dtype == np.float32 and np.isfinite(layer.codes).all()
        else:
            largest = 2 ** (layer.bits - 1) - 1
            fits = 2 <= layer.bits <= 16 and len(layer.scale) in (1, layer.codes.shape[0])
            fits = fits and layer.codes.dtype in (np.int8, np.int16) and np.isfinite(layer.scale).all()
            fits = fits and -largest <= int(layer.codes.min()) and int(layer.codes.max()) <= largest
        grid = layer.inputs
        fits = fits and (grid is None or (2 <= grid.bits <= 15 and 0 < grid.step < math.inf))
        if not fits:
            raise RuntimeError(f"layer {layer.name} is out of range")
    for name, tensor in network.tensors.items():
        if np.issubdtype(tensor.dtype, np.floating) and not np.isfinite(tensor).all():
            raise RuntimeError(f"tensor {name} is not finite")
    if weights > MAX_WEIGHTS:
        raise RuntimeError(f"{weights} weights are too many")


def kind_of(error: UserError) -> str:
    """Return the first words of an error, numbers and names left out."""
    text = re.sub(r"\(layer .*", "", str(error)).split(", found")[0]
    text = re.sub(r"'[^']*'|\[.*|\(.*|[^\x20-\x7e]+", "", text)
    words = [word for word in text.split() if word.isalpha() or word.endswith(",")]
    return " ".join(words[:7])


def run(files: int, seed: int, folder: Path) -> str:
    """Read that many mutated files and return the report.

    Args:
        files: how many.
        seed: of what is changed.
        folder: for the reader in C.
    """
    in_c = ReaderInC(folder)
    rng = np.random.default_rng(seed)
    names = list(CODINGS)
    seeds = [pack_bytes(seed_network(rng), names[index % len(names)]) for index in range(SEEDS)]
    old = [path.read_bytes() for path in sorted(OLD.glob("version_*/*.emomc"))]
    seeds += old
    errors: collections.Counter[str] = collections.Counter()
    answers: collections.Counter[str] = collections.Counter()
    read = both = 0
    kept: list[PackedNetwork] = []
    slowest = slowest_c = 0.0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    for index in range(files):
        data = mutate(seeds[int(rng.integers(0, len(seeds)))], rng)
        if index % 2:
            data = repair(data, rng)
        begin = time.perf_counter()
        try:
            network = parse_packed(data)
        except UserError as error:
            if "\n" in str(error):
                raise RuntimeError(f"file {index}: an error of several lines") from error
            errors[kind_of(error)] += 1
            network = None
        slowest = max(slowest, time.perf_counter() - begin)
        begin = time.perf_counter()
        answer = in_c.read(data, SLOWEST_ALLOWED_S)
        slowest_c = max(slowest_c, time.perf_counter() - begin)
        answers[answer if answer.startswith("refused") else "read"] += 1
        if network is None:
            continue
        read += 1
        check_ranges(network)
        if struct.unpack_from("<I", data, 8)[0] in IN_C:
            both += 1
            if answer != expected_answer(network):
                raise RuntimeError(f"file {index}: read in Python, but in C: {answer}")
        if read % 20 == 0 and len(kept) < 500:
            kept.append(network)
    in_c.close()
    seconds = time.perf_counter() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    if slowest > SLOWEST_ALLOWED_S:
        raise RuntimeError(f"a file took {slowest:.1f} s")
    built = sum(map(can_be_built, kept))
    outcomes = [
        ["refused with an error", f"{sum(errors.values()):,}", f"{files - answers['read']:,}"],
        ["read", f"{read:,}", f"{answers['read']:,}"],
        ["crash, hang or value out of range", "0", "0"],
    ]
    in_c_frequent = [[text, f"{count:,}"] for text, count in answers.most_common(20) if text != "read"]
    frequent = [[f"{kind} ...", f"{count:,}"] for kind, count in errors.most_common(20)]
    sizes = sorted(map(len, seeds))
    return f"""# Mutated packed files

`{command_with(files=files, seed=seed)}`, {datetime.date.today()}, {platform.machine()},
Python {platform.python_version()}, numpy {np.__version__}.

{files:,} files made from {SEEDS} packed LeNet-5 in all codings, half of them with grids of inputs, and
{len(old)} small files of versions 1 and 2, of {sizes[0]:,} to {sizes[-1]:,} bytes, by one to four changes: bits, bytes,
words, copies, zeros, cuts, insertions; half of them in the header and records. In every
second file the checksum was made right again. In Python, each ended in a
one-line error or in a network whose codes, bits, scales, shapes and grids are in range. In C, compiled with
`-fsanitize={SANITIZERS}`, each ended in an error or was unpacked. Anything else would have stopped the run, as
would a file of version 2 to {VERSION} that Python reads and C does not, or with other weights or grids:
{both:,} files were compared.
C reads no files of version 1, and leaves finite numbers, texts and the last bits of streams unchecked.

{table(["outcome", "in Python", "in C"], outcomes)}

Of those that Python read, {len(kept):,} were made into a module as `load_compressed` does: {built:,} were LeNet-5,
{len(kept) - built:,} did not fit the network that they name and were refused.

The slowest file took {1000 * slowest:.1f} ms in Python and {1000 * slowest_c:.1f} ms in C (the run stops at
{SLOWEST_ALLOWED_S:.0f} s); mutating, reading and checking took {1e6 * seconds / files:.0f} microseconds
a file on average, and the process grew by {grown:.0f} MiB.

The most frequent errors in Python, numbers and names left out:

{table(["error", "files"], frequent)}

The most frequent in C:

{table(["error", "files"], in_c_frequent)}
"""


def can_be_built(network: PackedNetwork) -> bool:
    """Whether a network that was read fits the one that it names; anything but an error for the user is raised."""
    try:
        return isinstance(unpack_network(network), nn.Module)
    except UserError:
        return False


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--files", type=int, default=100_000, help="mutated files to read")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=None, help="markdown file to write, besides printing")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        page = run(arguments.files, arguments.seed, Path(folder))
    publish(page, arguments.output)


if __name__ == "__main__":
    main()
