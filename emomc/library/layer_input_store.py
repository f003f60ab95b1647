"""Store the measured layer inputs of each level on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save

from emomc.common.cache import BoundedCache
from emomc.common.errors import UserError
from emomc.common.files import atomic_write, read_bytes
from emomc.compression.layer_inputs import LayerInputs
from emomc.compression.levels import Level, LevelName, label_of
from emomc.runtime.tensor_files import MOST_BYTES, parse_tensors


class LayerInputStore:
    """The layer inputs of each level, one file per level, measured on one set of images.

    Each file is named by its level and holds the digest of the level's weights: a level made again is measured again.
    What was read is kept up to a memory limit.
    """

    def __init__(self, folder: Path, digests: Mapping[LevelName, str], *, max_cache_bytes: int = 1 << 30) -> None:
        """Set the folder; nothing is read yet.

        Args:
            folder: folder of the files, named by a digest of the images and the device.
            digests: level -> digest of its weights.
            max_cache_bytes: memory limit of what was read.
        """
        self.folder = folder
        self._digests = dict(digests)
        self._levels: BoundedCache[LevelName, dict[str, LayerInputs]] = BoundedCache(max_cache_bytes, _bytes_of)
        self._sha256: dict[LevelName, str] = {}

    @property
    def digest(self) -> str:
        """Digest of the images and the device that were used."""
        return self.folder.name

    def has(self, level: LevelName) -> bool:
        """Whether a level was measured."""
        try:
            self.level(level)
        except _NotMeasured:
            return False
        return True

    def level(self, level: LevelName) -> dict[str, LayerInputs]:
        """Return the inputs of each layer of a level.

        Raises:
            UserError: the level was not measured, or was measured with other weights.
        """
        return self._levels.get(level, lambda: self._read(level))

    def sha256(self, level: LevelName) -> str:
        """Return the SHA-256, 64 hex digits, of the file that a level's inputs were read from; errors as ``level``."""
        if level not in self._sha256:
            self.level(level)
        return self._sha256[level]

    def write(self, level: LevelName, layers: Mapping[str, LayerInputs]) -> None:
        """Write the layer inputs of a level."""
        tensors = {}
        for name, inputs in layers.items():
            tensors[f"{name}.mean_patch"] = inputs.mean_patch.cpu().contiguous()
            tensors[f"{name}.range"] = torch.tensor([inputs.low, inputs.high], dtype=torch.float64)
            if inputs.covariance is not None:
                tensors[f"{name}.covariance"] = inputs.covariance.cpu().contiguous()
        with atomic_write(self._file(level)) as partial:
            partial.write_bytes(save(tensors, metadata={"weights": self._digests[level]}))

    def _file(self, level: LevelName) -> Path:
        return self.folder / f"level_{Level.of(level).slug}.safetensors"

    def _read(self, level: LevelName) -> dict[str, LayerInputs]:
        file = self._file(level)
        if not file.is_file():
            raise _NotMeasured(level, file)
        content = read_bytes(file, "layer inputs", most_bytes=MOST_BYTES)
        tensors, metadata = parse_tensors(content, file, "layer inputs")
        if metadata.get("weights") != self._digests.get(level):
            raise _NotMeasured(level, file)
        self._sha256[level] = hashlib.sha256(content).hexdigest()
        try:
            names = [key.removesuffix(".range") for key in tensors if key.endswith(".range")]
            return {name: _inputs_of(name, tensors) for name in names}
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"expected layer inputs in {file}, found a file that cannot be read: {error}") from None


def _inputs_of(name: str, tensors: Mapping[str, torch.Tensor]) -> LayerInputs:
    low, high = tensors[f"{name}.range"].tolist()
    return LayerInputs(tensors[f"{name}.mean_patch"], low, high, tensors.get(f"{name}.covariance"))


class _NotMeasured(UserError):
    """A level has no file, or one of other weights."""

    def __init__(self, level: LevelName, file: Path) -> None:
        super().__init__(
            f"expected the layer inputs of level {label_of(level)} at {file}, found none of its weights: "
            f"search the library again"
        )


def _bytes_of(level: Mapping[str, LayerInputs]) -> int:
    return sum(
        tensor.nbytes
        for inputs in level.values()
        for tensor in (inputs.mean_patch, inputs.covariance)
        if tensor is not None
    )
