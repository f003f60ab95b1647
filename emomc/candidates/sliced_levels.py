"""The smaller networks that levels of channels are, each made when first needed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Generic, TypeVar

from emomc.compression.levels import CHANNEL, Level, LevelName
from emomc.library.library import Library
from emomc.library.sliced_library import SlicedLibrary
from emomc.networks.channel_slicing import slice_network
from emomc.networks.channels import ChannelGroups, find_channels
from emomc.networks.graph import NetworkGraph

T = TypeVar("T")


class SlicedLevels(Generic[T]):
    """Makes one thing for each level of channels, from its own library and graph, and keeps it."""

    def __init__(self, library: Library, graph: NetworkGraph, make: Callable[[Library, NetworkGraph], T]) -> None:
        """Prepare.

        Args:
            library: the whole library.
            graph: of the whole network.
            make: makes the thing for a level's library and graph.
        """
        self._library = library
        self._graph = graph
        self._make = make
        self._made: dict[LevelName, T] = {}

    def get(self, level: LevelName, whole: T) -> T:
        """Return what belongs to a level: ``whole`` if it has all channels."""
        if Level.of(level).pattern != CHANNEL or isinstance(self._library, SlicedLibrary):
            return whole
        if level not in self._made:
            self._made[level] = self._slice(level)
        return self._made[level]

    @cached_property
    def _groups(self) -> ChannelGroups:
        manifest = self._library.manifest
        return find_channels(self._graph, manifest.input_shape, manifest.excluded_layers)

    def _slice(self, level: LevelName) -> T:
        library, groups = self._library, self._groups
        removed = groups.removed(library.load_masks(level, library.load_state(level)))
        graph = slice_network(groups, removed, library.manifest.input_shape)
        if not self._graph.norms:
            graph = graph.without_folding()
        return self._make(SlicedLibrary(library, level, groups, removed, graph), graph)
