"""From a network to a flat graph of tensor operations, by ``torch.export``."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind

from emomc.common.errors import UserError, first_line
from emomc.networks.interface import NetworkForm
from emomc.networks.joined import one_tensor_network
from emomc.networks.state import first_names
from emomc.runtime.notices import silent_logging

_PREFIX = "network."
"""What the wrapper of one tensor puts before every name of the network."""
_SUMS_OF_PRODUCTS: dict[Any, Any] = {
    torch.ops.aten.addmm.default: torch.ops.aten.mm.default,
    torch.ops.aten.baddbmm.default: torch.ops.aten.bmm.default,
}
"""Operation that adds to a product of matrices -> the product."""
_IMAGES = 2
"""Images of the example batch: one would be taken for a constant."""
_MOST_IMAGES = 1 << 16


def export_flat(
    network: nn.Module, input_shape: tuple[int, ...], form: NetworkForm = None
) -> tuple[fx.GraphModule, frozenset[str]]:
    """Return the network in eval mode as one graph without modules, and the names of its constants.

    Parameters and buffers that the graph uses keep their names; of several names of one tensor, the first. They are the
    network's own tensors. Constants are tensors that the code makes: no state dict holds them. The number of images is
    open. Inactive dropout is left out, and every ``view`` is a ``reshape``, which works for any memory format.

    Args:
        network: maps a float batch, such as images (n, channels, height, width), to one tensor, or as ``form`` says.
        input_shape: of one input, such as (channels, height, width) of an image.
        form: how it is seen as a function of one tensor.

    Raises:
        UserError: the network fails on images of that shape, or cannot be exported.
    """
    name = type(network).__name__
    wrapper = one_tensor_network(network, form)
    parameter = next((one for one in network.parameters() if one.is_floating_point()), torch.empty(0))
    images = torch.zeros(_IMAGES, *input_shape, device=parameter.device, dtype=parameter.dtype)
    with _quiet_eval(network):
        try:
            wrapper(images)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"expected a network that takes images of shape {tuple(input_shape)}, found that {name} fails on one: "
                f"{first_line(error)}"
            ) from error
        try:
            shapes = ({0: Dim("batch", min=_IMAGES, max=_MOST_IMAGES)},)
            with _silent():
                program = torch.export.export(wrapper, (images,), dynamic_shapes=shapes, strict=False)
        except Exception as error:
            raise UserError(
                f"expected a network that torch.export can follow, found that {name} cannot be exported: "
                f"{_reason(error)}; branches on values and fixed numbers of images are the usual causes"
            ) from error
    return _flatten(program, network)


@contextlib.contextmanager
def _quiet_eval(network: nn.Module) -> Iterator[None]:
    """Put a network into eval mode without gradients and without attention's fused kernel, which hides its layers."""
    training = {module: module.training for module in network.modules()}
    fast_path = torch.backends.mha.get_fastpath_enabled()
    try:
        network.eval()
        torch.backends.mha.set_fastpath_enabled(False)
        with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for module, mode in training.items():
            module.training = mode


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep the exporter from logging and printing what its error says, and more."""
    with (
        silent_logging(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        yield


def _flatten(program: ExportedProgram, network: nn.Module) -> tuple[fx.GraphModule, frozenset[str]]:
    """Turn the inputs for parameters, buffers and constants back into attributes."""
    known = first_names(network)
    owned = dict(network.named_parameters(remove_duplicate=False)) | dict(network.named_buffers(remove_duplicate=False))
    saved = network.state_dict().keys()
    root = nn.Module()
    # Control flow keeps its own graphs as attributes.
    for attribute, child in program.graph_module.named_children():
        root.add_module(attribute, child)
    graph = fx.Graph()
    values: dict[fx.Node, fx.Node] = {}
    specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs if hasattr(spec.arg, "name")}
    constants = set()
    for node in program.graph.nodes:
        spec = specs.get(node.name) if node.op == "placeholder" else None
        if spec is None or spec.kind is InputKind.USER_INPUT:
            if node.op != "output":
                values[node] = graph.node_copy(node, values.__getitem__)
            else:
                (answer,) = node.args[0]
                graph.output(values[answer])
            continue
        target = str(spec.target)
        target = known.get(target.removeprefix(_PREFIX), target.removeprefix(_PREFIX))
        tensor = owned[target] if target in owned else program.constants[str(spec.target)]
        if target not in saved:
            constants.add(target)
        _place(root, target, tensor)
        values[node] = graph.get_attr(target)
    _simplify(graph)
    graph.lint()
    return fx.GraphModule(root, graph, type(network).__name__), frozenset(constants)


def _place(root: nn.Module, name: str, tensor: torch.Tensor) -> None:
    """Put a tensor under a dotted name."""
    *folders, last = name.split(".")
    owner = root
    for folder in folders:
        if not hasattr(owner, folder):
            owner.add_module(folder, nn.Module())
        owner = owner.get_submodule(folder)
    if isinstance(tensor, nn.Parameter):
        owner.register_parameter(last, tensor)
    else:
        owner.register_buffer(last, tensor)


def _simplify(graph: fx.Graph) -> None:
    aten = torch.ops.aten
    kinds = (aten.dropout, aten.feature_dropout, aten.alpha_dropout, aten.feature_alpha_dropout)
    dropouts = {kind.default for kind in kinds}
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        if node.target in dropouts and not node.args[2]:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
        elif node.target is aten.view.default:
            node.target = aten.reshape.default
        elif node.target in _SUMS_OF_PRODUCTS and not node.kwargs:
            _split_sum_of_product(graph, node)
    graph.eliminate_dead_code()


def _split_sum_of_product(graph: fx.Graph, node: fx.Node) -> None:
    """Replace bias + x @ weight by two operations, so that the input of the product is its first argument."""
    bias, given, weight = node.args
    with graph.inserting_before(node):
        product = graph.call_function(_SUMS_OF_PRODUCTS[node.target], (given, weight))
        result = graph.call_function(torch.ops.aten.add.Tensor, (product, bias))
    node.replace_all_uses_with(result)
    graph.erase_node(node)


def _reason(error: Exception) -> str:
    """Return the line of an exporter's error that says most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "Could not" in line or "onstraint" in line or "not supported" in line]
    return (telling or lines or [type(error).__name__])[0]
