"""Loading a packed file as a network that can be run."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor, nn

from emomc.common.errors import UserError, require
from emomc.compression.activation_grid import ActivationGrid
from emomc.compression.activations import ActivationRounding
from emomc.compression.quantization import dequantize
from emomc.networks.build import build_network
from emomc.networks.channel_slicing import slice_network
from emomc.networks.channels import find_channels
from emomc.networks.folding import FoldedNetwork
from emomc.networks.graph import NetworkGraph, trace_network
from emomc.networks.layers import as_stored
from emomc.networks.preparation import plain_copy
from emomc.networks.zoo import NETWORKS
from emomc.packed_file.network import NetworkDescription, PackedLayer, PackedNetwork, read_channel_bits
from emomc.packed_file.reader import read_packed


def load_compressed(path: Path | str, network: nn.Module | None = None) -> nn.Module:
    """Return the network of a packed file, in eval mode, with BatchNorm folded.

    Its weights are exactly those that the search evaluated. Logits are bit-identical on the same machine with the same
    batch size, memory format (a search uses channels-last), precision and number of threads.

    Args:
        path: a file written by ``emomc-export --format emomc``; it need not be trusted.
        network: a user's network before folding, with any weights; it is not changed. None for a network of the zoo. A
            class that is only named in the file is never imported.

    Raises:
        UserError: the file is damaged or hostile, or ``network`` is missing or does not fit.
    """
    return unpack_network(read_packed(path), network)


def unpack_network(packed: PackedNetwork, network: nn.Module | None = None) -> nn.Module:
    """Return the network that was packed; see ``load_compressed``."""
    return round_inputs(unpack_folded(packed, network), packed).module


def unpack_folded(packed: PackedNetwork, network: nn.Module | None = None) -> FoldedNetwork:
    """Return the network that was packed with what is known of its layers; see ``load_compressed``.

    Inputs of layers are not rounded: see ``round_inputs``.
    """
    description = packed.description
    own = network is None
    shape, form = description.input_shape, description.form
    network = _own_network(description) if network is None else plain_copy(network, shape, form)
    graph = trace_network(network, shape, form)
    if description.kept_channels:
        graph = _without_channels(graph, description)
    if any(norm.mean in packed.tensors for norm in graph.norms):
        graph = graph.without_folding()
    # Correcting a layer's bias gives it one.
    bare = FoldedNetwork(graph).module.state_dict().keys()
    folded = FoldedNetwork(graph, _layers_with_further_biases(graph, packed, bare))
    state = _state(packed, folded)
    _check_fit(state, folded, description.network, own=own)
    # What was built on no device has no memory of its own to copy into.
    folded.module.load_state_dict(state, strict=False, assign=own)
    folded.module.requires_grad_(False)
    return folded


def _without_channels(graph: NetworkGraph, description: NetworkDescription) -> NetworkGraph:
    """Return the graph of what is left of a network.

    Raises:
        UserError: the network has other layers or channels than the file says.
    """
    groups, rows = find_channels(graph, description.input_shape), {}
    for name, text in description.kept_channels.items():
        require(name in groups.rows, f"a layer of {description.network} whose channels are left", name)
        rows[name] = read_channel_bits(text, len(groups.rows[name]))
    removed = groups.removed_by_rows(rows)
    some = all(not removed.issuperset(space.tolist()) for space in groups.spaces)
    require(some, "channels left of every layer", "none")
    return slice_network(groups, removed, description.input_shape)


def round_inputs(folded: FoldedNetwork, packed: PackedNetwork) -> FoldedNetwork:
    """Make a network round the inputs of its layers as the packed network says, in place; return it."""
    grids = input_grids(packed)
    if grids:
        ActivationRounding(folded, optional=len(grids) < len(packed.layers)).use(grids)
    return folded


def input_grids(packed: PackedNetwork) -> dict[str, ActivationGrid]:
    """Return layer name -> the grid of its inputs, of the layers whose inputs are rounded."""
    return {layer.name: layer.inputs for layer in packed.layers if layer.inputs is not None}


def dense_state(packed: PackedNetwork, network: nn.Module | None = None) -> dict[str, Tensor]:
    """Return the state dict of the folded network, weights in float32; ``network`` as for ``load_compressed``."""
    folded = unpack_folded(packed, network)
    constants = folded.graph.constants
    return {name: tensor for name, tensor in folded.module.state_dict().items() if name not in constants}


def _layers_with_further_biases(graph: NetworkGraph, packed: PackedNetwork, known: Collection[str]) -> list[str]:
    further = packed.tensors.keys() - known
    if not further:
        return []
    every = FoldedNetwork(graph, [layer.name for layer in graph.layers if layer.stored])
    return [layer for layer, key in every.bias_keys.items() if key in further]


def _state(packed: PackedNetwork, folded: FoldedNetwork) -> dict[str, Tensor]:
    shapes = {layer.name: layer for layer in folded.layers}
    kinds = {name: tensor.dtype for name, tensor in folded.module.state_dict().items()}
    state = {name: torch.from_numpy(tensor.copy()) for name, tensor in packed.tensors.items()}
    # Biases may be in float16.
    halves = [name for name, tensor in state.items() if tensor.dtype == torch.float16]
    state.update({name: state[name].to(kinds.get(name)) for name in halves})
    for layer in packed.layers:
        shape = shapes.get(layer.name)
        if shape is None or layer.codes.shape[0] != shape.out_channels:
            state[f"{layer.name}.weight"] = layer_weight(layer)
        else:
            state[shape.weight_key] = as_stored(layer_weight(layer), shape)
    return state


def layer_weight(layer: PackedLayer) -> Tensor:
    """Return a layer's weights in float32: code times scale."""
    codes = torch.from_numpy(layer.codes)
    return dequantize(codes, torch.from_numpy(layer.scale)) if len(layer.scale) else codes.clone()


def _own_network(description: NetworkDescription) -> nn.Module:
    if description.network not in NETWORKS:
        raise UserError(
            f"expected network=, an instance of {description.network} for the weights in the file, found none: "
            f"a file never makes code run"
        )
    # The meta device takes no memory: arguments from the file are not trusted before the shapes are checked.
    with torch.device("meta"):
        return build_network(
            description.network,
            in_channels=description.input_shape[0],
            num_classes=len(description.class_names),
            network_args=description.network_args,
        )


def _check_fit(state: dict[str, Tensor], folded: FoldedNetwork, name: str, *, own: bool) -> None:
    constants = folded.graph.constants
    expected = {key: tensor for key, tensor in folded.module.state_dict().items() if key not in constants}
    if state.keys() != expected.keys():
        odd = sorted(state.keys() ^ expected.keys())[0]
        where = "the file" if odd in state else "the network"
        raise UserError(f"expected the file to hold the tensors of {name}, found {odd} only in {where}")
    for key, tensor in state.items():
        shape, kind = expected[key].shape, expected[key].dtype
        if tensor.shape != shape or (own and tensor.dtype != kind):
            raise UserError(
                f"expected {key} of shape {tuple(shape)} and {kind}, found {tuple(tensor.shape)} and {tensor.dtype}"
            )
