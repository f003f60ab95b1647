"""Checking that a network gives the same scores after it was written in another way."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from emomc.common.errors import UserError
from emomc.networks.folding import FoldedNetwork
from emomc.networks.graph import NetworkGraph, NetworkWarning
from emomc.networks.interface import NetworkForm
from emomc.networks.joined import one_tensor_network
from emomc.networks.state import unique_state

TOLERANCE = 1e-4
"""Largest deviation of a score, as a fraction of the largest score."""


def deviation(scores: Tensor, expected: Tensor) -> float:
    """Return the largest difference of scores from those expected, as a fraction of the largest; NaN counts as inf."""
    found = (scores - expected).abs().max() / expected.abs().max().clamp(min=torch.finfo(expected.dtype).tiny)
    return float(found) if bool(found.isfinite()) else float("inf")


@torch.no_grad()
def checked_graph(graph: NetworkGraph, network: nn.Module, images: Tensor, form: NetworkForm = None) -> NetworkGraph:
    """Return the graph of a network, rewritten only in ways that give the network's own scores.

    Args:
        graph: of the network.
        network: on the CPU, with trained weights.
        images: float, (n, channels, height, width), normalised.
        form: how it is seen as a function of one tensor.

    Returns:
        The graph, or one that is run in contiguous memory format, or whose BatchNorms are kept: a note says so.

    Raises:
        UserError: even that one gives other scores.
    """
    training = network.training
    expected = one_tensor_network(network.eval(), form)(images)
    network.train(training)
    found = _deviation_of(graph, network, images, expected)
    if found <= TOLERANCE:
        return graph
    contiguous = "run in channels-last memory format, which is faster"
    folding = "folded: its BatchNorms are kept"
    others = {
        f"is not {contiguous}": graph.in_contiguous_format(),
        f"is not {folding}": graph.without_folding(),
        f"is not {contiguous}, and not {folding}": graph.in_contiguous_format().without_folding(),
    }
    for what, other in others.items():
        if _deviation_of(other, network, images, expected) <= TOLERANCE:
            note = f"the network {what}; that would change the scores by {found:.1e} of the largest"
            warnings.warn(note, NetworkWarning, stacklevel=2)
            return other
    raise UserError(
        f"expected {type(network).__name__} to give the scores of its exported graph, found a difference of "
        f"{found:.1e} of the largest: a forward that depends on the values of an image, or on the number of images, "
        f"cannot be exported"
    )


def _deviation_of(graph: NetworkGraph, network: nn.Module, images: Tensor, expected: Tensor) -> float:
    folded = FoldedNetwork(graph).to(torch.device("cpu"))
    folded.load(folded.fold(unique_state(network)))
    return deviation(folded.module(images.contiguous(memory_format=folded.memory_format)), expected)
