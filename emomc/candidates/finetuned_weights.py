"""Read and write the weights of fine-tuned candidates."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from emomc.common.errors import UserError
from emomc.common.files import atomic_write
from emomc.common.json_values import parse_json
from emomc.compression.quantization import QuantizedTensor
from emomc.runtime.tensor_files import read_tensors

_CODES, _SCALE, _REST = "codes.", "scale.", "rest."


@dataclasses.dataclass(frozen=True)
class FinetunedNetwork:
    """The weights of one fine-tuned candidate."""

    layers: dict[str, QuantizedTensor]
    """Layer name -> codes and steps, before any BatchNorm is folded in."""
    rest: dict[str, Tensor]
    """Every other entry of the folded network's state dict, as ``FoldedState.rest``."""

    def fits(self, weights: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> bool:
        """Say whether layers and shapes are those of a network.

        Args:
            weights: layer name -> its weights, output channels first.
            state: the folded network's state dict.
        """
        layers = self.layers.keys() == weights.keys() and all(
            layer.codes.shape == weights[name].shape
            and layer.scale.ndim == 1
            and len(layer.scale) in (1, len(layer.codes))
            for name, layer in self.layers.items()
        )
        return layers and all(name in state and state[name].shape == rest.shape for name, rest in self.rest.items())

    @property
    def nbytes(self) -> int:
        """Memory size, bytes."""
        layers = sum(layer.codes.nbytes + layer.scale.nbytes for layer in self.layers.values())
        return layers + sum(tensor.nbytes for tensor in self.rest.values())


def finetuned_path(folder: Path, name: str) -> Path:
    """Return the file of the weights of a fine-tuned candidate.

    Raises:
        UserError: the name, which may come from a file, cannot be that of a file in the folder.
    """
    if Path(name).name != name:
        raise UserError(f"expected the name of fine-tuned weights in {folder}, found {name!r}")
    return folder / f"{name}.safetensors"


def write_finetuned(path: Path, finetuned: FinetunedNetwork) -> None:
    """Write a fine-tuned candidate as safetensors, completely or not at all."""
    tensors = {_REST + name: tensor for name, tensor in finetuned.rest.items()}
    for name, layer in finetuned.layers.items():
        tensors |= {_CODES + name: layer.codes, _SCALE + name: layer.scale}
    # In one entry: safetensors writes several entries in a varying order.
    bits = {"bits": json.dumps({name: layer.bits for name, layer in finetuned.layers.items()}, sort_keys=True)}
    with atomic_write(path) as partial:
        partial.write_bytes(save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, metadata=bits))


def read_finetuned(path: Path, device: str = "cpu") -> FinetunedNetwork:
    """Read what ``write_finetuned`` wrote.

    Raises:
        UserError: the file is missing or damaged.
    """
    tensors, metadata = read_tensors(path, "fine-tuned weights")
    tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
    try:
        bits = {str(name): int(value) for name, value in parse_json(metadata["bits"]).items()}
        layers = {name: QuantizedTensor(tensors[_CODES + name], tensors[_SCALE + name], bits[name]) for name in bits}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"expected fine-tuned weights in {path}, found a file that cannot be read: {error}") from None
    rest = {key.removeprefix(_REST): tensor for key, tensor in tensors.items() if key.startswith(_REST)}
    return FinetunedNetwork(layers, rest)
