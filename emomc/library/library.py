"""The library of pre-pruned networks on disk: a manifest and one file of weights per level."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from emomc.common.errors import UserError, UserNote, first_line, is_whole, require
from emomc.common.files import read_json, sha256_of_file, whole_file, write_json
from emomc.networks.layers import LayerShape

FORMAT_VERSION = 1
MANIFEST = "library.json"
DENSE = 100

# A pruned tensor is stored as its nonzero values and a packed bit per weight.
_VALUES, _MASK = ".remaining", ".mask"


@dataclasses.dataclass(frozen=True)
class LevelRecord:
    """One level of the library."""

    percent: int
    """Weights remaining, percent."""
    file: str
    """Name of the file of weights, in the library's folder."""
    sha256: str
    """Digest of that file."""
    remaining: dict[str, int]
    """Layer name -> number of weights that remain."""
    validation_accuracy: float
    """Fraction of the validation images classified rightly, 0..1."""
    epochs: int
    """Epochs of training spent on this level."""

    def __post_init__(self) -> None:
        """Check the values, which a stranger may have written.

        Raises:
            UserError: a value is of another kind or out of its range, or the file's name leads out of the folder.
        """
        require(is_whole(self.percent) and self.percent <= 100, "a level of 1..100 %", self.percent)
        plain = isinstance(self.file, str) and Path(self.file).name == self.file
        require(plain, f"a plain file name for level {self.percent} %", self.file)
        require(isinstance(self.sha256, str), f"the sha256 of level {self.percent} % as a text", self.sha256)
        counts = isinstance(self.remaining, dict) and all(is_whole(count, 0) for count in self.remaining.values())
        require(counts, f"remaining weights by layer in level {self.percent} %", self.remaining)
        accuracy = self.validation_accuracy
        share = isinstance(accuracy, (int, float)) and 0 <= accuracy <= 1
        require(share, f"a validation_accuracy of 0..1 in level {self.percent} %", accuracy)
        require(is_whole(self.epochs, 0), f"epochs of at least 0 in level {self.percent} %", self.epochs)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a search needs to know of a library besides its weights."""

    network: str
    """Registered name, or ``file.py:Class`` / ``module:Class`` as it was named when the library was made."""
    network_args: dict[str, Any]
    network_source_sha256: str | None
    """Digest of the user's source file; None for the project's own networks."""
    data: dict[str, Any]
    """The fields of the ``DataConfig`` the library was trained on."""
    input_shape: tuple[int, int, int]
    """Channels, height, width."""
    class_names: tuple[str, ...]
    mean: tuple[float, ...] | None
    """Per channel, of pixels scaled to 0..1; None where a user's data does not say how it normalises."""
    std: tuple[float, ...] | None
    layers: tuple[LayerShape, ...]
    """Every convolution and linear layer, in forward order."""
    excluded_layers: tuple[str, ...]
    """Layers that stay uncompressed."""
    evaluation_batch_size: int
    """Images per batch of every evaluation: results are bit-identical for one batch size only."""
    settings: dict[str, Any]
    """The training settings that made the library."""
    data_source_sha256: str | None = None
    """Digest of the source file of a user's data module; None for the project's own."""
    levels: tuple[LevelRecord, ...] = ()
    """Descending, the dense network (100 %) first."""

    def __post_init__(self) -> None:
        """Check the values, which a stranger may have written.

        Raises:
            UserError: a value is of another kind or out of its range.
        """
        require(isinstance(self.network, str), "a network's name as network", self.network)
        for key in ("network_args", "data", "settings"):
            require(isinstance(getattr(self, key), dict), f"values by name as {key}", getattr(self, key))
        for key in ("network_source_sha256", "data_source_sha256"):
            require(isinstance(getattr(self, key), str | None), f"a text or nothing as {key}", getattr(self, key))
        require(isinstance(self.data.get("dataset"), str), "a dataset's name in data", self.data.get("dataset"))
        require(min(self.input_shape) >= 1, "an input_shape of at least 1 pixel and channel", self.input_shape)
        named = len(self.class_names) >= 2 and all(isinstance(name, str) for name in self.class_names)
        require(named, "at least 2 names of classes as class_names", self.class_names)
        for key in ("mean", "std"):
            values = getattr(self, key)
            channels = values is None or len(values) == self.input_shape[0]
            numbers = all(isinstance(value, (int, float)) for value in values or ())
            require(channels and numbers, f"a number for each channel as {key}", values)
        batch_size = self.evaluation_batch_size
        require(is_whole(batch_size), "an evaluation_batch_size of at least 1", batch_size)
        percents = [record.percent for record in self.levels]
        require(percents == sorted({*percents}, reverse=True), "levels that descend", percents)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def compressed_layers(self) -> tuple[LayerShape, ...]:
        """The layers whose weights are pruned and quantized."""
        return tuple(layer for layer in self.layers if layer.name not in self.excluded_layers)


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
        library._write_manifest()
        return library

    @classmethod
    def open(cls, path: Path | str) -> Library:
        """Read the manifest of a library.

        Raises:
            UserError: there is none, it is of another format version, or it is malformed.
        """
        path = Path(path)
        values = read_json(path / MANIFEST, "the manifest of a library")
        if not isinstance(values, dict) or values.get("format_version") != FORMAT_VERSION:
            found = values.get("format_version") if isinstance(values, dict) else type(values).__name__
            raise UserError(f"expected a library of format version {FORMAT_VERSION} at {path}, found {found!r}")
        try:
            manifest = _manifest_from(values)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"expected a complete manifest at {path / MANIFEST}, found a wrong entry: {first_line(error)}"
            ) from None
        return cls(path, manifest)

    def reread(self) -> None:
        """Read the manifest again, in which another process may have entered a level."""
        self.manifest = Library.open(self.path).manifest

    @property
    def dense_accuracy(self) -> float:
        """Validation accuracy of the dense network, 0..1."""
        return self.record(DENSE).validation_accuracy

    @property
    def percents(self) -> tuple[int, ...]:
        """The levels in the library, descending."""
        return tuple(record.percent for record in self.manifest.levels)

    def record(self, percent: int) -> LevelRecord:
        """Return the record of a level.

        Raises:
            UserError: the library has no such level.
        """
        for record in self.manifest.levels:
            if record.percent == percent:
                return record
        raise UserError(f"expected a level of {', '.join(map(str, self.percents))} % in {self.path}, found {percent}")

    def add_level(
        self,
        percent: int,
        state: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        *,
        validation_accuracy: float,
        epochs: int,
    ) -> LevelRecord:
        """Write a level's weights, then the manifest that names them.

        Args:
            percent: weights remaining, percent; a level of that percentage is replaced.
            state: the state dict of the network, removed weights zero.
            masks: layer name -> boolean tensor, true where the weight remains.
            validation_accuracy: 0..1.
            epochs: epochs of training spent on this level.
        """
        file = self.path / f"level_{percent:03d}.safetensors"
        with whole_file(file) as partial:
            # save_file would make a file that only its owner may read.
            partial.write_bytes(save(_pack(state, masks)))
        record = LevelRecord(
            percent,
            file.name,
            sha256_of_file(file),
            {name: int(mask.sum()) for name, mask in masks.items()},
            validation_accuracy,
            epochs,
        )
        others = [other for other in self.manifest.levels if other.percent != percent]
        levels = sorted([*others, record], key=lambda level: -level.percent)
        self.manifest = dataclasses.replace(self.manifest, levels=tuple(levels))
        self._write_manifest()
        return record

    def change_evaluation_batch_size(self, batch_size: int) -> None:
        """Let later evaluations take so many images at once; those made before keep what they were made with."""
        warnings.warn(
            f"evaluations of {self.path} take batches of {batch_size} images from now on, not of "
            f"{self.manifest.evaluation_batch_size}",
            UserNote,
            stacklevel=2,
        )
        self.manifest = dataclasses.replace(self.manifest, evaluation_batch_size=batch_size)
        self._write_manifest()

    def check_file(self, percent: int) -> Path:
        """Return the file of a level if it is the one that the manifest names.

        Raises:
            UserError: the level is not in the library, or its file is missing or another one.
        """
        record = self.record(percent)
        file = self.path / record.file
        if not file.is_file():
            raise UserError(f"expected the weights of level {percent} % at {file}, found no such file")
        found = sha256_of_file(file)
        if found != record.sha256:
            raise UserError(
                f"expected {file} with the checksum {record.sha256[:12]} of the manifest, found {found[:12]}: "
                f"the file was changed or swapped"
            )
        return file

    def load_state(self, percent: int) -> dict[str, Tensor]:
        """Read a level's state dict, on the CPU.

        Raises:
            UserError: the level is not in the library, or its file is missing or not the one the manifest names.
        """
        file = self.check_file(percent)
        try:
            return _unpack(load_file(file))
        except (safetensors.SafetensorError, KeyError, ValueError) as error:
            raise UserError(f"expected weights in {file}, found a file that cannot be read: {error}") from None

    def load_masks(self, percent: int, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the masks of a level whose state is ``state``: true where a weight is stored, even if it is zero."""
        with safetensors.safe_open(self.path / self.record(percent).file, framework="pt") as file:
            names = set(file.keys())
            masks = {}
            for layer in self.manifest.compressed_layers:
                weight = state[f"{layer.name}.weight"]
                key = f"{layer.name}.weight{_MASK}"
                masks[layer.name] = (
                    _unpack_mask(file.get_tensor(key), weight.shape)
                    if key in names
                    else torch.ones_like(weight, dtype=torch.bool)
                )
        return masks

    def _write_manifest(self) -> None:
        write_json(self.path / MANIFEST, {"format_version": FORMAT_VERSION, **dataclasses.asdict(self.manifest)})


def _manifest_from(values: dict[str, Any]) -> Manifest:
    fields = {
        field.name: values[field.name]
        if field.default is dataclasses.MISSING
        else values.get(field.name, field.default)
        for field in dataclasses.fields(Manifest)
    }
    channels, height, width = fields["input_shape"]
    for name in ("class_names", "mean", "std", "excluded_layers"):
        fields[name] = None if fields[name] is None and name in ("mean", "std") else tuple(fields[name])
    fields["input_shape"] = (int(channels), int(height), int(width))
    fields["layers"] = tuple(LayerShape.from_dict(layer) for layer in fields["layers"])
    fields["levels"] = tuple(LevelRecord(**level) for level in fields["levels"])
    return Manifest(**fields)


def _pack(state: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    packed = {}
    for key, value in state.items():
        mask = masks.get(key.removesuffix(".weight")) if key.endswith(".weight") else None
        tensor = value.detach().cpu().contiguous()
        if mask is None or bool(mask.all()):
            packed[key] = tensor
        else:
            on = mask.detach().cpu()
            packed[key + _VALUES] = tensor[on].contiguous()
            packed[key + _MASK] = torch.from_numpy(np.packbits(on.flatten().numpy()))
            packed[key + ".shape"] = torch.tensor(tensor.shape)
    return packed


def _unpack(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    state = {}
    for key, value in packed.items():
        if key.endswith(_VALUES):
            name = key.removesuffix(_VALUES)
            mask = _unpack_mask(packed[name + _MASK], torch.Size(packed[name + ".shape"].tolist()))
            require(int(mask.sum()) == len(value), f"{int(mask.sum())} values of {name}", len(value))
            state[name] = value.new_zeros(mask.shape)
            state[name][mask] = value
        elif not key.endswith((_MASK, ".shape")):
            state[key] = value
    return state


def _unpack_mask(bits: Tensor, shape: torch.Size) -> Tensor:
    # Whoever wrote the file says how large the tensor is: it takes no more memory than its bits on disk call for.
    require(len(bits) == (shape.numel() + 7) // 8, f"a mask of {shape.numel()} bits, in bytes", len(bits))
    flat = np.unpackbits(bits.numpy(), count=shape.numel())
    return torch.from_numpy(flat).bool().reshape(shape)
