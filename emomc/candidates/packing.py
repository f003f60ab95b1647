"""Build the content of a packed file from a candidate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.candidates.genotype import Genotype
from emomc.compression.levels import LevelName
from emomc.compression.widths import UNCOMPRESSED_BITS
from emomc.library.library import Library
from emomc.library.manifest import DENSE
from emomc.library.sliced_library import SlicedLibrary
from emomc.packed_file.network import NetworkDescription, PackedLayer, PackedNetwork, channel_bits
from emomc.packed_file.size import bytes_of_bias, bytes_of_scales, fixed_bytes


def describe(library: Library) -> NetworkDescription:
    """Return the description of a library's network; a user's source file is given by name, without its folder."""
    manifest = library.manifest
    kept = library.kept_channels if isinstance(library, SlicedLibrary) else {}
    where, _, name = manifest.network.rpartition(":")
    return NetworkDescription(
        network=f"{Path(where).name}:{name}" if where else manifest.network,
        network_args=dict(manifest.network_args),
        network_source_sha256=manifest.network_source_sha256,
        input_shape=manifest.input_shape,
        class_names=tuple(manifest.class_names),
        mean=tuple(manifest.mean or ()),
        std=tuple(manifest.std or ()),
        network_output=manifest.network_output,
        interface=None if manifest.task is None else manifest.task.interface,
        kept_channels={name: channel_bits(rows) for name, rows in kept.items()},
    )


def pack_candidate(networks: CompressedNetworks, genotype: Genotype) -> PackedNetwork:
    """Return a candidate's codes, scales, grids and other tensors, exactly as its evaluation used them.

    Args:
        networks: the library's compressed networks.
        genotype: level and bits of each searched layer.
    """
    networks = networks.of(genotype.level)
    level = networks.level(genotype.level)
    bits_of = dict(zip(networks.layers, genotype.bits, strict=True))
    grids = networks.grids(genotype) or {}
    layers = []
    for layer in networks.library.manifest.stored_layers:
        bits = bits_of.get(layer.name, UNCOMPRESSED_BITS)
        if bits == UNCOMPRESSED_BITS:
            weights, scale = _array(level.full_precision(layer.name)), np.zeros(0, np.float32)
        else:
            which = genotype.level, layer.name, bits, genotype.finetuned
            weights, scale = _array(networks.quantized(*which).codes), _array(networks.folded_scale(*which))
        half = networks.half and len(scale) > 1
        layers.append(PackedLayer(layer.name, bits, weights, scale, grids.get(layer.name), half))
    widths = networks.activation_bits(genotype)
    halves = {networks.half_bias(layer, bits, widths[layer]) for layer, bits in bits_of.items()}
    tensors = {name: tensor.half() if name in halves else tensor for name, tensor in networks.rest(genotype).items()}
    return PackedNetwork(
        describe(networks.library),
        tuple(layers),
        {name: _array(tensor) for name, tensor in tensors.items()},
    )


def library_fixed_bytes(networks: CompressedNetworks) -> int:
    """Return the bytes of a packed file that are the same for every candidate of a library.

    The biases of layers that are compressed are not among them: see ``bias_bytes``.
    """
    manifest, level = networks.library.manifest, networks.level(_any_level(networks))
    dimensions = {layer.name: level.weights[layer.name].ndim for layer in manifest.stored_layers}
    biases = [key for layer in networks.layers if (key := networks.bias_key(layer)) is not None]
    return fixed_bytes(describe(networks.library), dimensions, level.rest, biases)


def scale_bytes(networks: CompressedNetworks) -> NDArray[np.int64]:
    """Return the bytes of the scales of each layer of the library where it is quantized, shape (layers,).

    A layer that is never compressed has none.
    """
    factors = networks.level(_any_level(networks)).factors
    found = []
    for layer in networks.library.manifest.layers:
        many = networks.quantizer.per_channel or layer.name in factors
        scales = 0 if layer.name not in networks.shapes else layer.out_channels if many else 1
        found.append(bytes_of_scales(scales, half=networks.half))
    return np.array(found, np.int64)


def bias_bytes(networks: CompressedNetworks, *, half: bool) -> NDArray[np.int64]:
    """Return the bytes of the bias of each layer of the library, in float16 or float32, shape (layers,).

    A layer that is never compressed has none here.
    """
    rest = networks.level(_any_level(networks)).rest
    found = []
    for layer in networks.library.manifest.layers:
        key = networks.bias_key(layer.name) if layer.name in networks.shapes else None
        found.append(0 if key is None else bytes_of_bias(len(rest[key]), half=half))
    return np.array(found, np.int64)


def _any_level(networks: CompressedNetworks) -> LevelName:
    levels = networks.library.levels
    return DENSE if DENSE in levels else levels[0]


def _array(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().cpu().contiguous().numpy()
    return array
