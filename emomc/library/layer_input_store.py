"""What the layers of each level see of some images, on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save

from emomc.common.errors import UserError
from emomc.common.files import atomic_write
from emomc.compression.layer_inputs import LayerInputs


class LayerInputStore:
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
        with atomic_write(self._file(percent)) as partial:
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
