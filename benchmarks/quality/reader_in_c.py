"""The reader in C, compiled with checks of every memory access, as a process that reads one file after another."""

from __future__ import annotations

import select
import shutil
import subprocess
from pathlib import Path

import numpy as np

from emomc.common.errors import UserError
from emomc.packed_file.network import PackedNetwork

ROOT = Path(__file__).parents[2]
SANITIZERS = "address,undefined"


class ReaderInC:
    """Reads packed files in C, under the address and undefined-behaviour sanitizers."""

    def __init__(self, folder: Path) -> None:
        """Compile it and start it.

        Args:
            folder: for the program, and for the files that it reads.

        Raises:
            UserError: there is no C compiler with these sanitizers.
        """
        compiler = shutil.which("cc")
        if compiler is None:
            raise UserError("expected a C compiler (cc), found none")
        program, reader = folder / "fuzz_unpack", ROOT / "examples" / "c_reader"
        sources = [ROOT / "benchmarks" / "quality" / "fuzz_unpack.c", reader / "emomc.c"]
        flags = ["-std=c99", "-O1", "-g", f"-fsanitize={SANITIZERS}", "-fno-sanitize-recover=all", "-I", str(reader)]
        made = subprocess.run([compiler, *flags, "-o", program, *sources], capture_output=True, text=True)
        if made.returncode:
            raise UserError(
                f"expected a C compiler with the sanitizers {SANITIZERS}, found: {made.stderr.strip()[:200]}"
            )
        self._path = folder / "network.emomc"
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def read(self, data: bytes, most_s: float) -> str:
        """Return what it says of a file: ``refused: REASON`` or ``read LAYERS SUM``.

        Raises:
            RuntimeError: it crashed, a sanitizer stopped it, or it took longer than ``most_s`` seconds.
        """
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        self._path.write_bytes(data)
        process.stdin.write(f"{self._path}\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], most_s)
        answer = process.stdout.readline().strip() if ready else ""
        if not answer:
            raise RuntimeError("the reader in C crashed" if ready else f"the reader in C took more than {most_s} s")
        return answer

    def close(self) -> None:
        """End the process.

        Raises:
            RuntimeError: it did not end in order, for one because memory was lost.
        """
        self._process.communicate()
        if self._process.returncode:
            raise RuntimeError(f"the reader in C ended with status {self._process.returncode}")


def expected_answer(network: PackedNetwork) -> str:
    """Return what the reader in C should say of a network that was read in Python.

    Only weights that are not zero count, so this needs little memory also for a file that declares many weights.
    """
    before, total = 0, 0
    for layer in network.layers:
        places = np.flatnonzero(layer.codes)
        weights = layer.codes.ravel()[places].astype(np.float32)
        if len(layer.scale):
            channels = places // (layer.codes.size // len(layer.scale))
            with np.errstate(over="ignore"):  # a scale may be anything
                weights = weights * layer.scale[channels] + np.float32(0)  # no negative zero
        total += int((weights.view(np.uint32) * (before + 1 + places).astype(np.uint64)).sum())
        before += layer.codes.size
        if layer.inputs is not None:
            step = np.float32(layer.inputs.step).view(np.uint32)
            total += int(step) * (2 * layer.inputs.bits + layer.inputs.signed)
    return f"read {len(network.layers)} {total % 2**64}"
