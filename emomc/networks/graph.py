"""The graph of a network: its layers, what can be folded into them, and what identifies its computation."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from typing import Any

import torch
from torch import fx, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from emomc.common.errors import UserError, UserNote
from emomc.networks.feature_maps import MapSchedule, schedule_maps
from emomc.networks.graph_export import export_flat
from emomc.networks.graph_layers import GraphLayer, TensorSizes, arguments, find_layers, record_sizes
from emomc.networks.interface import NetworkForm
from emomc.networks.layers import LayerShape

aten = torch.ops.aten

# Shares of the multiplications below this are not worth a note.
_SMALL_SHARE = 0.0005


class NetworkWarning(UserNote):
    """Something in a user's network that is left as it is."""


@dataclasses.dataclass(frozen=True)
class FoldableNorm:
    """A BatchNorm that is the only user of the only call of a layer."""

    layer: str
    node: fx.Node
    mean: str
    """Name of the running mean in the state dict; the others likewise."""
    variance: str
    gamma: str | None
    beta: str | None
    epsilon: float


@dataclasses.dataclass(frozen=True)
class NetworkGraph:
    """A network in eval mode as one graph of tensor operations."""

    module: fx.GraphModule
    """The graph, with the network's own tensors under their names."""
    graph_layers: tuple[GraphLayer, ...]
    """In the order of their first call."""
    norms: tuple[FoldableNorm, ...]
    """The BatchNorms that can be folded."""
    constants: frozenset[str]
    """Tensors of the graph that no state dict holds, since the code makes them."""
    output_shape: tuple[int, ...]
    """Shape of the class scores of one image."""
    digest: str
    """Of the operations, their arguments and the shapes: the same for the same computation, whatever the values."""
    maps: MapSchedule
    """Its feature maps, and how long each is needed."""
    notes: tuple[str, ...]
    """A sentence for each thing in the network that is neither compressed nor costed."""
    channels_last: bool = True
    """Whether it runs in channels-last memory format, which is faster."""

    @property
    def layers(self) -> tuple[LayerShape, ...]:
        """The layers in forward order."""
        return tuple(layer.shape for layer in self.graph_layers)

    @property
    def foldable(self) -> dict[str, FoldableNorm]:
        """Layer name -> the BatchNorm that can be folded into it."""
        return {norm.layer: norm for norm in self.norms}

    @property
    def state(self) -> dict[str, torch.Tensor]:
        """Name -> tensor of all that the computation needs from a state dict."""
        return {name: tensor for name, tensor in self.module.state_dict().items() if name not in self.constants}

    def without_folding(self) -> NetworkGraph:
        """Return the same graph with every BatchNorm kept."""
        return dataclasses.replace(self, norms=())

    def in_contiguous_format(self) -> NetworkGraph:
        """Return the same graph, run in contiguous memory format."""
        return dataclasses.replace(self, channels_last=False)

    def layer(self, name: str) -> LayerShape:
        """Return the layer of a name."""
        return next(layer for layer in self.layers if layer.name == name)


def trace_layers(network: nn.Module, input_shape: tuple[int, ...]) -> tuple[LayerShape, ...]:
    """Return the layers of a network in forward order.

    Args:
        network: any module that takes a float batch, such as images (n, channels, height, width).
        input_shape: of one input, such as (channels, height, width) of an image.

    Raises:
        UserError: see ``trace_network``.
    """
    return trace_network(network, input_shape).layers


def trace_network(network: nn.Module, input_shape: tuple[int, ...], form: NetworkForm = None) -> NetworkGraph:
    """Export a network and find its layers.

    Args:
        network: any module that takes a float batch, such as images (n, channels, height, width).
        input_shape: of one input, such as (channels, height, width) of an image.
        form: how it is seen as a function of one tensor, such as the index of one of several outputs.

    Raises:
        UserError: the network fails on images of that shape, cannot be exported, returns no tensor of class scores, or
            has no layer to compress.
    """
    module, constants = export_flat(network, input_shape, form)
    parameter = next((one for one in network.parameters() if one.is_floating_point()), torch.empty(0))
    image = torch.zeros(1, *input_shape, device=parameter.device, dtype=parameter.dtype)
    graph = describe_graph(module, constants, image)
    if not any(layer.stored for layer in graph.layers):
        raise UserError(f"expected a network with convolution or linear layers, found none in {type(network).__name__}")
    notes = tuple(_notes(network, module, list(graph.graph_layers), image))
    return dataclasses.replace(graph, notes=notes)


def describe_graph(
    module: fx.GraphModule, constants: frozenset[str], image: torch.Tensor, notes: tuple[str, ...] = ()
) -> NetworkGraph:
    """Find the layers of a flat graph, and what else is to be known of it.

    Args:
        module: the graph.
        constants: names of its tensors that no state dict holds.
        image: a batch of one.
        notes: see ``NetworkGraph``.
    """
    with torch.inference_mode(False):
        sizes = record_sizes(module, image)
        layers = find_layers(module, sizes)
    (answer,) = next(node for node in module.graph.nodes if node.op == "output").args
    return NetworkGraph(
        module=module,
        graph_layers=tuple(layers),
        norms=tuple(_foldable_norms(layers, sizes)),
        constants=constants,
        output_shape=sizes[answer][1:],
        digest=_digest(module, sizes),
        maps=schedule_maps(module, layers, sizes),
        notes=notes,
        # Only images have such a format, and torch cannot give it to tensors of five dimensions.
        channels_last=image.ndim == 4 and all(tensor.ndim != 5 for tensor in module.state_dict().values()),
    )


def _foldable_norms(layers: Iterable[GraphLayer], sizes: TensorSizes) -> Iterable[FoldableNorm]:
    for layer in layers:
        node, *further = layer.nodes
        users = list(node.users)
        if further or not layer.shape.stored or len(users) != 1 or users[0].target is not aten.batch_norm.default:
            continue
        given, gamma, beta, mean, variance, training, _, epsilon, *_ = arguments(users[0])
        kept = all(part is None or part.op == "get_attr" for part in (gamma, beta))
        # The channels that the norm scales are the second dimension.
        channels = len(sizes[node]) in (2, 3, 4) and sizes[node][1] == layer.shape.out_channels
        if layer.shape.kind == "linear":
            channels = channels and len(sizes[node]) == 2
        if given is not node or training or not kept or not channels or mean is None or mean.op != "get_attr":
            continue
        names = [None if part is None else str(part.target) for part in (gamma, beta)]
        yield FoldableNorm(
            layer.shape.name, users[0], str(mean.target), str(variance.target), names[0], names[1], float(epsilon)
        )


def _digest(module: fx.GraphModule, sizes: TensorSizes) -> str:
    """Return a digest of the computation: names of nodes and values of tensors do not matter, their order does."""
    numbers = {node: number for number, node in enumerate(module.graph.nodes)}

    def plain(value: Any) -> Any:
        if isinstance(value, fx.Node):
            return ["node", numbers[value]]
        if isinstance(value, (tuple, list)):
            return [plain(part) for part in value]
        if isinstance(value, dict):
            return {str(key): plain(part) for key, part in value.items()}
        return str(value)

    lines = [
        [node.op, str(node.target), plain(node.args), plain(node.kwargs), sizes.get(node)]
        for node in module.graph.nodes
    ]
    return hashlib.sha256(json.dumps(lines, sort_keys=True).encode()).hexdigest()


def _notes(network: nn.Module, module: fx.GraphModule, layers: list[GraphLayer], image: torch.Tensor) -> Iterable[str]:
    used = {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.Linear)
    unused = [
        name
        for name, part in network.named_modules()
        if isinstance(part, kinds) and not any(f"{name}.{key}" in used for key, _ in part.named_parameters())
    ]
    if unused:
        yield f"layers that the answer does not depend on are left out: {', '.join(unused)}"
    fixed = [layer.shape.name for layer in layers if not layer.shape.stored and layer.shape.kind != "product"]
    if fixed:
        yield f"layers whose weights are computed or fixed are costed but not compressed: {', '.join(fixed)}"
    products = [layer.shape.name for layer in layers if layer.shape.kind == "product"]
    if products:
        yield f"products of two tensors, as in attention, are costed but not compressed: {len(products)} of them"
    weights = {name for layer in layers for name in _parameters_behind(layer)}
    biases = {layer.bias for layer in layers}
    norms = {
        str(part.target)
        for node in module.graph.nodes
        if node.target is aten.batch_norm.default
        for part in arguments(node)[1:5]
        if isinstance(part, fx.Node)
    }
    others = [name for name, _ in module.named_parameters() if name not in weights | norms and name not in biases]
    others = [name for name in others if not name.endswith("bias")]
    if others:
        named = ", ".join(others[:6]) + (f" and {len(others) - 6} more" if len(others) > 6 else "")
        yield f"no energy is counted for parameters that the cost model does not know, only bytes: {named}"
    if image.device.type != "meta":
        yield from _uncounted(module, layers, image)


def _parameters_behind(layer: GraphLayer) -> set[str]:
    """Return the names of the tensors that a layer's weights are, or are computed from."""
    if layer.shape.kind == "product":
        operands = (operand for node in layer.nodes for operand in node.all_input_nodes)
        return {str(operand.target) for operand in operands if operand.op == "get_attr"}
    pending, found = list(layer.weights), set()
    while pending:
        node = pending.pop()
        if node.op == "get_attr":
            found.add(str(node.target))
        pending.extend(node.all_input_nodes)
    return found


def count_macs(network: nn.Module, image: torch.Tensor) -> int:
    """Return the multiply-accumulates of one image as torch counts them, operation by operation.

    Args:
        network: in eval mode.
        image: a batch of one.
    """
    totals = []
    # Fused attention would hide its products from the counter.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        for count in (2, 3):
            with FlopCounterMode(display=False) as counter:
                network(image.expand(count, *image.shape[1:]))
            totals.append(counter.get_total_flops() // 2)
    # What the third image adds, and what does not depend on the images.
    return 2 * totals[0] - totals[1]


def _uncounted(module: fx.GraphModule, layers: list[GraphLayer], image: torch.Tensor) -> Iterable[str]:
    """Compare the multiplications of the layers with those that torch counts."""
    counted = count_macs(module, image)
    known = sum(layer.shape.macs for layer in layers)
    if counted > known and (counted - known) / counted > _SMALL_SHARE:
        yield (
            f"{100 * (counted - known) / counted:.1f} % of the multiply-accumulates are in operations that the cost "
            f"model has no formula for: they cost nothing"
        )
