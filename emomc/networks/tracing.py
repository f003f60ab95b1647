"""The compressible layers of a network, found by tracing one forward pass."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from emomc.common.errors import UserError, UserNote, first_line
from emomc.networks.layers import LayerCall, LayerShape, pair


class NetworkWarning(UserNote):
    """Something in a user's network that is left as it is."""


@dataclasses.dataclass(frozen=True)
class NetworkTrace:
    """What one forward pass shows of a network."""

    layers: tuple[LayerShape, ...]
    """Convolution and linear layers in the order of their first call."""
    foldable: dict[str, str]
    """Layer name -> name of the BatchNorm that is the only consumer of the layer's only output."""
    unused: tuple[str, ...]
    """Convolution and linear layers that the forward pass never calls."""
    uncosted: dict[str, str]
    """Module name -> type name of modules with parameters that no cost formula covers; BatchNorm costs nothing."""
    output_shape: tuple[int, ...]
    """Shape of the output for one image, the batch dimension left out."""

    def notes(self) -> list[str]:
        """Return a sentence for each thing in the network that is neither compressed nor costed."""
        notes = []
        if self.unused:
            notes.append(f"layers that the forward pass never calls stay as they are: {', '.join(self.unused)}")
        if self.uncosted:
            named = ", ".join(f"{name or 'the network itself'} ({kind})" for name, kind in self.uncosted.items())
            notes.append(f"no energy is counted for parameters that the cost model does not know, only bytes: {named}")
        return notes


def trace_layers(network: nn.Module, input_shape: tuple[int, int, int]) -> tuple[LayerShape, ...]:
    """Return the compressible layers of a network in forward order.

    Args:
        network: any module that takes a float batch of shape (n, channels, height, width).
        input_shape: (channels, height, width) of one image.

    Raises:
        UserError: see ``trace_network``.
    """
    return trace_network(network, input_shape).layers


def trace_network(network: nn.Module, input_shape: tuple[int, int, int]) -> NetworkTrace:
    """Run one image of zeros through the network in eval mode and record what its layers see.

    Args:
        network: any module that takes a float batch of shape (n, channels, height, width) and returns one tensor.
        input_shape: (channels, height, width) of one image.

    Raises:
        UserError: the forward pass fails, its output is not one tensor, two layers share their weights, or no
            convolution or linear layer is called.
    """
    modules = {name: module for name, module in network.named_modules() if _is_compressible(module)}
    _refuse_shared_weights(modules)
    norms = {name: module for name, module in network.named_modules() if _is_batch_norm(module)}
    record = _Record()
    handles = [module.register_forward_hook(record.layer_hook(name)) for name, module in modules.items()]
    handles += [module.register_forward_pre_hook(record.norm_hook(name)) for name, module in norms.items()]
    was_training = {module: module.training for module in network.modules()}
    parameter = next(network.parameters(), torch.empty(0))
    try:
        network.eval()
        with torch.no_grad(), record.uses:
            output = network(torch.zeros(1, *input_shape, device=parameter.device, dtype=parameter.dtype))
    except Exception as error:
        raise UserError(
            f"expected a network that takes images of shape {tuple(input_shape)}, found that "
            f"{type(network).__name__} fails on one: {first_line(error)}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
        for module, training in was_training.items():
            module.training = training
    if not isinstance(output, Tensor):
        raise UserError(
            f"expected {type(network).__name__} to return one tensor of class scores, found {type(output).__name__}"
        )
    if not record.calls:
        raise UserError(
            f"expected a network with Conv2d or Linear layers, found none called in {type(network).__name__}"
        )
    record.uses.count(output)
    foldable = record.foldable(norms)
    layers = tuple(_shape_of(name, modules[name], tuple(calls)) for name, calls in record.calls.items())
    return NetworkTrace(
        layers=layers,
        foldable=foldable,
        unused=tuple(name for name in modules if name not in record.calls),
        uncosted=_uncosted(network, {*modules, *norms}),
        output_shape=tuple(output.shape[1:]),
    )


class _UseCounter(TorchFunctionMode):
    """Counts how often each tensor is consumed by an operation that makes another tensor."""

    def __init__(self) -> None:
        super().__init__()
        self._uses: Counter[int] = Counter()
        # Tensors are told apart by id, which is theirs only as long as they live.
        self._alive: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        # Asking for a size or a dtype is no use.
        if any(True for _ in _tensors_in(result)):
            self.count((args, kwargs))
        return result

    def count(self, tree: Any) -> None:
        for tensor in _tensors_in(tree):
            self._uses[id(tensor)] += 1
            self._alive.append(tensor)

    def used_once(self, tensor: Tensor) -> bool:
        return self._uses[id(tensor)] == 1


def _tensors_in(tree: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples, lists and mappings."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, (tuple, list)):
        for part in tree:
            yield from _tensors_in(part)
    elif isinstance(tree, Mapping):
        for part in tree.values():
            yield from _tensors_in(part)


class _Record:
    """What the hooks saw: calls per layer, outputs of layers, inputs of norms."""

    def __init__(self) -> None:
        self.calls: dict[str, list[LayerCall]] = {}
        self.uses = _UseCounter()
        self._outputs: dict[str, list[Tensor]] = {}
        self._norm_inputs: dict[str, list[Tensor]] = {}

    def layer_hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if isinstance(module, nn.Conv2d):
                call = LayerCall(pair(inputs[0].shape[-2:]), pair(output.shape[-2:]))
            else:
                positions = (1, math.prod(output.shape[1:-1]))
                call = LayerCall(positions, positions)
            self.calls.setdefault(name, []).append(call)
            self._outputs.setdefault(name, []).append(output)

        return hook

    def norm_hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self._norm_inputs.setdefault(name, []).append(inputs[0])

        return hook

    def foldable(self, norms: Mapping[str, nn.Module]) -> dict[str, str]:
        """Pair each layer that is called once with the norm that alone consumes its output."""
        norm_of_input = {id(inputs[0]): name for name, inputs in self._norm_inputs.items() if len(inputs) == 1}
        pairs = {}
        for layer, outputs in self._outputs.items():
            norm = norm_of_input.get(id(outputs[0]))
            if len(outputs) == 1 and norm is not None and self.uses.used_once(outputs[0]):
                # A norm over another axis than the layer's output channels, or without statistics, stays.
                channels_match = outputs[0].shape[1] == getattr(norms[norm], "num_features", None)
                if channels_match and outputs[0].ndim in (2, 4) and _has_statistics(norms[norm]):
                    pairs[layer] = norm
        return pairs


def _is_compressible(module: nn.Module) -> bool:
    return isinstance(module, (nn.Conv2d, nn.Linear))


def _is_batch_norm(module: nn.Module) -> bool:
    return isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))


def _has_statistics(norm: nn.Module) -> bool:
    return getattr(norm, "running_mean", None) is not None


def _shape_of(name: str, module: nn.Module, calls: tuple[LayerCall, ...]) -> LayerShape:
    if isinstance(module, nn.Conv2d):
        return LayerShape(
            name=name,
            kind="conv",
            in_channels=module.in_channels,
            out_channels=module.out_channels,
            calls=calls,
            kernel_size=pair(module.kernel_size),
            stride=pair(module.stride),
            dilation=pair(module.dilation),
            groups=module.groups,
        )
    linear = cast(nn.Linear, module)
    return LayerShape(name, "linear", linear.in_features, linear.out_features, calls)


def _uncosted(network: nn.Module, costed: Iterable[str]) -> dict[str, str]:
    known = set(costed)
    return {
        name: type(module).__name__
        for name, module in network.named_modules()
        if name not in known and next(module.parameters(recurse=False), None) is not None
    }


def _refuse_shared_weights(modules: Mapping[str, nn.Module]) -> None:
    owner: dict[int, str] = {}
    for name, module in modules.items():
        first = owner.setdefault(id(module.weight), name)
        if first != name:
            raise UserError(f"expected layers with weights of their own, found {name} sharing those of {first}")
