"""Networks of several inputs or outputs as functions of one tensor, and such functions in the form of the network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from emomc.common.errors import UserError
from emomc.networks.answer import AnswerOnly
from emomc.networks.interface import NetworkForm, NetworkInterface, Path, leaves, nested


def one_tensor_network(network: nn.Module, form: NetworkForm) -> nn.Module:
    """Return a network as a function of one tensor to one tensor; its attribute ``network`` is the network itself."""
    wrapped = JoinedNetwork(network, form) if isinstance(form, NetworkInterface) else AnswerOnly(network, form)
    wrapped.training = network.training
    return wrapped


def arguments_of(given: Sequence[Any], named: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
    """Yield the path and the value of all that a network is called with."""
    yield from leaves(tuple(given))
    yield from leaves(named)


class JoinedNetwork(nn.Module):
    """A network as a function of its joined inputs, which returns its joined outputs."""

    def __init__(self, network: nn.Module, interface: NetworkInterface) -> None:
        """Take the network as it is."""
        super().__init__()
        self.network = network
        self.interface = interface

    def forward(self, joined: Tensor) -> Tensor:
        """Return the outputs, (n, values), for inputs (n, *input_shape)."""
        interface = self.interface
        inputs = dict(zip(interface.input_paths, interface.split_inputs(joined), strict=True))
        given = nested({path: value for path, value in inputs.items() if isinstance(path[0], int)})
        named = nested({path: value for path, value in inputs.items() if isinstance(path[0], str)})
        found = dict(leaves(self.network(*given, **dict(named))))
        return interface.join_outputs([found[path] for path in interface.output_paths])


class SeparatedNetwork(nn.Module):
    """A function of joined inputs in the form of the network that it stands for."""

    def __init__(self, joined: nn.Module, interface: NetworkInterface) -> None:
        """Take a network that maps joined inputs to joined outputs."""
        super().__init__()
        self.joined = joined
        self.interface = interface

    def forward(self, *given: Any, **named: Any) -> Any:
        """Return what the network would return; its lists are tuples here.

        Raises:
            UserError: it is called with other inputs than the network was.
        """
        interface, found = self.interface, dict(arguments_of(given, named))
        paths = interface.input_paths
        if {*paths} != found.keys():
            raise UserError(f"expected inputs at {paths}, found them at {[*found]}")
        joined = self.joined(interface.join_inputs([found[path] for path in paths]))
        return nested(dict(zip(interface.output_paths, interface.split_outputs(joined), strict=True)))
