"""From a packed file back to a network that runs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from emomc.common.errors import UserError
from emomc.compression.bias_correction import add_biases
from emomc.compression.quantization import dequantize
from emomc.networks.build import build_network
from emomc.networks.folding import fold_structure
from emomc.networks.tracing import trace_network
from emomc.networks.zoo import NETWORKS
from emomc.packed_file.network import NetworkDescription, PackedLayer, PackedNetwork
from emomc.packed_file.reader import read_packed


def load_compressed(path: Path | str, network: nn.Module | None = None) -> nn.Module:
    """Return the network of a packed file, in eval mode, its BatchNorm folded.

    Its weights are exactly those that were evaluated: logits are bit-identical on the same machine, with the same
    batch size, memory format (a search evaluates in channels-last), precision and threads.

    Args:
        path: a file that ``emomc-export --format emomc`` wrote; it may come from a stranger.
        network: the network before folding, values of any kind, where it is not one of the project's own. It is not
            changed. Its class is never imported because a file names it.

    Raises:
        UserError: the file is damaged or hostile, the network is a user's and was not given, or it does not fit.
    """
    return unpack_network(read_packed(path), network)


def unpack_network(packed: PackedNetwork, network: nn.Module | None = None) -> nn.Module:
    """Return the network that was packed; see ``load_compressed``."""
    description = packed.description
    own = network is None
    if network is None:
        network = _own_network(description)
    folded = fold_structure(network, trace_network(network, description.input_shape))
    state = dense_state(packed)
    # Correcting a layer's bias gives it one.
    add_biases(folded, [layer.name for layer in packed.layers if f"{layer.name}.bias" in state])
    _check_fit(state, folded, own=own)
    # What was built on no device has no memory of its own to copy into.
    folded.load_state_dict(state, assign=own)
    return folded.requires_grad_(False)


def dense_state(packed: PackedNetwork) -> dict[str, Tensor]:
    """Return the state dict of the folded network, weights in float32."""
    weights = {f"{layer.name}.weight": layer_weight(layer) for layer in packed.layers}
    return weights | {name: torch.from_numpy(tensor.copy()) for name, tensor in packed.tensors.items()}


def layer_weight(layer: PackedLayer) -> Tensor:
    """Return a layer's weights in float32, one multiplication each."""
    codes = torch.from_numpy(layer.codes)
    return dequantize(codes, torch.from_numpy(layer.scale)) if len(layer.scale) else codes.clone()


def _own_network(description: NetworkDescription) -> nn.Module:
    if description.network not in NETWORKS:
        raise UserError(
            f"expected network=, an instance of {description.network}, whose weights the file holds, found none: "
            f"the file alone does not make code run"
        )
    # On no device: arguments that a stranger chose take no memory before the weights are found to fit.
    with torch.device("meta"):
        return build_network(
            description.network,
            in_channels=description.input_shape[0],
            num_classes=len(description.class_names),
            network_args=description.network_args,
        )


def _check_fit(state: dict[str, Tensor], network: nn.Module, *, own: bool) -> None:
    expected = network.state_dict()
    if state.keys() != expected.keys():
        odd = sorted(state.keys() ^ expected.keys())[0]
        where = "the file" if odd in state else "the network"
        raise UserError(
            f"expected the file to hold the tensors of {type(network).__name__}, found {odd} only in {where}"
        )
    for name, tensor in state.items():
        shape, kind = expected[name].shape, expected[name].dtype
        if tensor.shape != shape or (own and tensor.dtype != kind):
            raise UserError(
                f"expected {name} of shape {tuple(shape)} and {kind}, found {tuple(tensor.shape)} and {tensor.dtype}"
            )
