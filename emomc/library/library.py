"""The library of pre-pruned networks on disk: a manifest and one file of weights per level."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from emomc.common.errors import UserError, UserNote
from emomc.common.files import atomic_write, sha256_of_file
from emomc.compression.levels import Level, LevelName, label_of
from emomc.library.level_file import mask_key, pack_level, unpack_level, unpack_mask
from emomc.library.manifest import DENSE, LevelRecord, Manifest, read_manifest, write_manifest
from emomc.runtime.tensor_files import read_checked, read_tensors


class Library:
    """Pre-pruned, fine-tuned checkpoints of one network on one dataset.

    Open one with ``Library.open(path)``; make one with ``Library.create(path, manifest)`` and ``add_level``.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def create(cls, path: Path, manifest: Manifest) -> Library:
        """Write the manifest of a library that holds no level yet.

        Args:
            path: the library's folder.
            manifest: everything but the levels.
        """
        library = cls(path, manifest)
        write_manifest(path, manifest)
        return library

    @classmethod
    def open(cls, path: Path | str) -> Library:
        """Read the manifest of a library.

        Raises:
            UserError: there is none, it is of another format version, or it is malformed.
        """
        path = Path(path)
        return cls(path, read_manifest(path))

    def reread(self) -> None:
        """Read the manifest again; another process may have added a level."""
        self.manifest = read_manifest(self.path)

    @property
    def dense_accuracy(self) -> float:
        """Validation accuracy of the dense network, 0..1."""
        return self.record(DENSE).validation_accuracy

    @property
    def levels(self) -> tuple[LevelName, ...]:
        """The names of the levels in the library, descending."""
        return tuple(record.name for record in self.manifest.levels)

    def record(self, level: LevelName) -> LevelRecord:
        """Return the record of a level.

        Raises:
            UserError: the library has no such level.
        """
        for record in self.manifest.levels:
            if record.name == level:
                return record
        labels = ", ".join(label_of(name) for name in self.levels)
        raise UserError(f"expected a level of {labels} in {self.path}, found {label_of(level)}")

    def add_level(
        self,
        level: LevelName,
        state: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        *,
        validation_accuracy: float,
        epochs: int,
        metric: float | None = None,
    ) -> LevelRecord:
        """Write a level's weights, then the manifest that names them.

        Args:
            level: its name; a level of that name is replaced.
            state: of the network, see ``unique_state``, with removed weights set to zero.
            masks: layer name -> boolean tensor, true where the weight remains.
            validation_accuracy: 0..1.
            epochs: epochs of training spent on this level.
            metric: value of the metric of a user's task; None for an image classifier.
        """
        kind = Level.of(level)
        file = self.path / f"level_{kind.slug}.safetensors"
        keys = {layer.name: layer.weight_key for layer in self.manifest.layers}
        of_weights = {keys[name]: mask for name, mask in masks.items()}
        with atomic_write(file) as partial:
            # save_file would make a file that only its owner may read.
            partial.write_bytes(save(pack_level(state, of_weights)))
        record = LevelRecord(
            kind.percent,
            file.name,
            sha256_of_file(file),
            {name: int(mask.sum()) for name, mask in masks.items()},
            validation_accuracy,
            epochs,
            kind.pattern,
            metric,
        )
        others = [other for other in self.manifest.levels if other.level != kind]
        levels = sorted([*others, record], key=lambda one: one.level.order, reverse=True)
        self.manifest = dataclasses.replace(self.manifest, levels=tuple(levels))
        write_manifest(self.path, self.manifest)
        return record

    def add_settings(self, settings: Mapping[str, Any]) -> None:
        """Record settings that the levels so far do not depend on, and that those to come do."""
        self.manifest = dataclasses.replace(self.manifest, settings={**self.manifest.settings, **settings})
        write_manifest(self.path, self.manifest)

    def change_evaluation_batch_size(self, batch_size: int) -> None:
        """Set the images per batch of later evaluations; the levels do not change."""
        warnings.warn(
            f"evaluations of {self.path} use batches of {batch_size} images from now on, not of "
            f"{self.manifest.evaluation_batch_size}",
            UserNote,
            stacklevel=2,
        )
        self.manifest = dataclasses.replace(self.manifest, evaluation_batch_size=batch_size)
        write_manifest(self.path, self.manifest)

    def check_file(self, level: LevelName) -> None:
        """Check that the file of a level is there and has its checksum.

        Raises:
            UserError: the level is not in the library, or its file is missing or has another checksum.
        """
        record = self.record(level)
        read_checked(self.path / record.file, f"the weights of level {label_of(level)}", record.sha256)

    def load_state(self, level: LevelName) -> dict[str, Tensor]:
        """Read a level's state dict, on the CPU.

        Raises:
            UserError: the level is not in the library, or its file is missing, damaged or has another checksum.
        """
        tensors = self._tensors(level)
        file = self.path / self.record(level).file
        try:
            state = unpack_level(tensors)
        except UserError as error:
            raise UserError(f"expected weights in {file}, found a file that cannot be read: {error}") from None
        for layer in self.manifest.stored_layers:
            weight = state.get(layer.weight_key)
            found = 0 if weight is None else weight.numel()
            if found != layer.weights:
                raise UserError(
                    f"expected weights of {self.manifest.network} in {file}, found {found} of {layer.weight_key} "
                    f"where the network has {layer.weights}"
                )
        return state

    def _tensors(self, level: LevelName) -> dict[str, Tensor]:
        record = self.record(level)
        tensors, _ = read_tensors(self.path / record.file, f"the weights of level {label_of(level)}", record.sha256)
        return tensors

    def load_masks(self, level: LevelName, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the masks of a level whose state is ``state``: true where a weight is stored, even if it is zero."""
        tensors = self._tensors(level)
        masks = {}
        for layer in self.manifest.compressed_layers:
            weight = state[layer.weight_key]
            mask = tensors.get(mask_key(layer.weight_key))
            whole = torch.ones_like(weight, dtype=torch.bool)
            masks[layer.name] = whole if mask is None else unpack_mask(mask, weight.shape)
        return masks
