"""Loading a packed file as a network that can be run."""

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
    """Return a packed network as a network that can be run; see ``load_compressed``."""
    description = packed.description
    own = network is None
    if network is None:
        network = _own_network(description)
    folded = fold_structure(network, trace_network(network, description.input_shape))
    state = dense_state(packed)
    # Bias correction adds a bias to layers without one.
    add_biases(folded, [layer.name for layer in packed.layers if f"{layer.name}.bias" in state])
    _check_fit(state, folded, own=own)
    # A network of the zoo was built on the meta device, without memory to copy into: assign the tensors.
    folded.load_state_dict(state, assign=own)
    return folded.requires_grad_(False)


def dense_state(packed: PackedNetwork) -> dict[str, Tensor]:
    """Return the state dict of the folded network, with weights in float32."""
    weights = {f"{layer.name}.weight": layer_weight(layer) for layer in packed.layers}
    return weights | {name: torch.from_numpy(tensor.copy()) for name, tensor in packed.tensors.items()}


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


def _check_fit(state: dict[str, Tensor], network: nn.Module, *, own: bool) -> None:
    expected = network.state_dict()
    if state.keys() != expected.keys():
        name = sorted(state.keys() ^ expected.keys())[0]
        where = "the file" if name in state else "the network"
        raise UserError(
            f"expected the file to hold the tensors of {type(network).__name__}, found {name} only in {where}"
        )
    for name, tensor in state.items():
        shape, kind = expected[name].shape, expected[name].dtype
        if tensor.shape != shape or (own and tensor.dtype != kind):
            raise UserError(
                f"expected {name} of shape {tuple(shape)} and {kind}, found {tuple(tensor.shape)} and {tensor.dtype}"
            )
