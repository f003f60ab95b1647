"""A level of channels as the library of the smaller network that is left."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from torch import Tensor

from emomc.compression.levels import LevelName
from emomc.library.library import Library
from emomc.networks.channels import ChannelGroups
from emomc.networks.graph import NetworkGraph


class SlicedLibrary(Library):
    """One level of a library, whose tensors are those of the smaller network; nothing is written."""

    def __init__(
        self, whole: Library, level: LevelName, groups: ChannelGroups, removed: frozenset[int], graph: NetworkGraph
    ) -> None:
        """Take what the level has lost.

        Args:
            whole: the library.
            level: one of its levels of channels.
            groups: the channels of the whole network.
            removed: the labels of those that are gone.
            graph: of the smaller network.
        """
        record = whole.record(level)
        super().__init__(whole.path, dataclasses.replace(whole.manifest, layers=graph.layers, levels=(record,)))
        self._whole = whole
        self._groups = groups
        self.removed = removed

    def load_state(self, level: LevelName) -> dict[str, Tensor]:
        """Read the level's state dict, on the CPU; see ``Library.load_state``."""
        return self._groups.slice_state(self._whole.load_state(level), self.removed)

    def load_masks(self, level: LevelName, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the masks of the level: true where a weight of the smaller network is stored."""
        layers = {layer.name: layer.weight_key for layer in self._whole.manifest.compressed_layers}
        masks = self._whole.load_masks(level, self._whole.load_state(level))
        sliced = self._groups.slice_state({layers[name]: mask for name, mask in masks.items()}, self.removed)
        return {name: sliced[key] for name, key in layers.items()}

    @property
    def kept_channels(self) -> dict[str, tuple[bool, ...]]:
        """Layer name -> whether each output channel of the whole network is left, of layers that say which."""
        return self._groups.kept_rows(self.removed)
