"""What layers see: the mean input under the kernel and the range of the inputs, measured and kept on disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save
from torch import Tensor, nn

from emomc.common.errors import UserError
from emomc.common.files import whole_file


@dataclasses.dataclass(frozen=True)
class LayerInputs:
    """The inputs of one convolution or linear layer, over images, output positions and calls."""

    mean_patch: Tensor
    """float64, (groups, inputs per group, *kernel): mean input under the kernel, padding included."""
    low: float
    """Least input."""
    high: float
    """Largest input."""

    @property
    def range(self) -> tuple[float, float]:
        """Least and largest input."""
        return self.low, self.high


class InputStore:
    """The inputs of the layers of each level, one file a level, measured with one set of images.

    Files are named by the level and carry the digest of its weights: a level that was made anew is measured anew.
    """

    def __init__(self, folder: Path, digests: Mapping[int, str]) -> None:
        """Look at a folder; nothing is read yet.

        Args:
            folder: of the files; its name stands for the images and the device.
            digests: level, percent -> digest of its weights.
        """
        self.folder = folder
        self._digests = dict(digests)
        self._levels: dict[int, dict[str, LayerInputs]] = {}

    @property
    def digest(self) -> str:
        """What was measured with: images and device."""
        return self.folder.name

    def has(self, percent: int) -> bool:
        """Whether a level was measured."""
        return self._read(percent) is not None

    def level(self, percent: int) -> dict[str, LayerInputs]:
        """Return the inputs of each layer of a level.

        Raises:
            UserError: the level was not measured, or with other weights.
        """
        found = self._read(percent)
        if found is None:
            raise UserError(
                f"expected what the layers of level {percent} % see at {self._file(percent)}, found none of its "
                f"weights: search the library again"
            )
        return found

    def write(self, percent: int, layers: Mapping[str, LayerInputs]) -> None:
        """Keep what was measured of a level."""
        tensors = {}
        for name, inputs in layers.items():
            tensors[f"{name}.mean_patch"] = inputs.mean_patch.cpu().contiguous()
            tensors[f"{name}.range"] = torch.tensor([inputs.low, inputs.high], dtype=torch.float64)
        with whole_file(self._file(percent)) as partial:
            partial.write_bytes(save(tensors, metadata={"weights": self._digests[percent]}))

    def _file(self, percent: int) -> Path:
        return self.folder / f"level_{percent:03d}.safetensors"

    def _read(self, percent: int) -> dict[str, LayerInputs] | None:
        if percent not in self._levels:
            file = self._file(percent)
            if not file.is_file():
                return None
            try:
                with safetensors.safe_open(file, framework="pt") as content:
                    if (content.metadata() or {}).get("weights") != self._digests.get(percent):
                        return None
                    tensors = {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118
                names = [key.removesuffix(".range") for key in tensors if key.endswith(".range")]
                self._levels[percent] = {
                    name: LayerInputs(tensors[f"{name}.mean_patch"], *tensors[f"{name}.range"].tolist())
                    for name in names
                }
            except (safetensors.SafetensorError, KeyError, TypeError) as error:
                raise UserError(
                    f"expected what layers see in {file}, found a file that cannot be read: {error}"
                ) from None
        return self._levels[percent]


@torch.no_grad()
def measure_inputs(network: nn.Module, layers: Iterable[str], batches: Iterable[Tensor]) -> dict[str, LayerInputs]:
    """Run images through a network and return what its layers see.

    Args:
        network: in eval mode.
        layers: names of convolutions and linear layers.
        batches: images, float, (n, channels, height, width), on the network's device.

    Raises:
        UserError: a layer is not called.
    """
    watched = {name: _Watched(network.get_submodule(name)) for name in layers}
    with ExitStack() as hooks:
        for watch in watched.values():
            handle = watch.layer.register_forward_pre_hook(watch.look)
            hooks.callback(handle.remove)
        for images in batches:
            network(images)
    silent = [name for name, watch in watched.items() if not watch.sums]
    if silent:
        raise UserError(f"expected every layer to be called, found that {silent[0]} is not")
    return {name: watch.inputs() for name, watch in watched.items()}


class _Watched:
    """Sums what one layer is given, over images and over calls with inputs of one shape."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer
        self.sums: dict[tuple[int, ...], Tensor] = {}
        self.counts: dict[tuple[int, ...], int] = {}
        self.low, self.high = float("inf"), float("-inf")

    def look(self, layer: nn.Module, arguments: tuple[Any, ...]) -> None:
        given = arguments[0]
        shape = tuple(given.shape[1:])
        total = given.sum(0, keepdim=True).double()
        self.sums[shape] = self.sums[shape] + total if shape in self.sums else total
        self.counts[shape] = self.counts.get(shape, 0) + len(given)
        self.low, self.high = min(self.low, float(given.min())), max(self.high, float(given.max()))

    def inputs(self) -> LayerInputs:
        """The sum of a layer's outputs is linear in its weights; the derivative is the sum of the inputs they meet."""
        weight = torch.zeros_like(self.layer.get_parameter("weight"), dtype=torch.float64)
        groups = int(getattr(self.layer, "groups", 1))
        met = torch.zeros_like(weight)
        positions = 0
        for shape, total in self.sums.items():
            with torch.enable_grad():
                tracked = weight.clone().requires_grad_(True)
                outputs = self._outputs(tracked, total)
                (gradient,) = torch.autograd.grad(outputs.sum(), tracked)
            met += gradient
            positions += self.counts[shape] * (outputs.numel() // len(weight))
        # Every output channel of a group meets the same inputs.
        patch = met.reshape(groups, len(weight) // groups, *weight.shape[1:])[:, 0] / positions
        return LayerInputs(patch, self.low, self.high)

    def _outputs(self, weight: Tensor, given: Tensor) -> Tensor:
        parameters: dict[str, Tensor | None] = {"weight": weight}
        if self.layer.bias is not None:
            parameters["bias"] = weight.new_zeros(len(weight))
        outputs: Tensor = torch.func.functional_call(self.layer, parameters, (given,))  # type: ignore[arg-type]
        return outputs
