"""What the lowering of one operation may ask for and make."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from torch import Tensor, fx

from emomc.common.errors import UserError
from emomc.compression.activation_grid import ActivationGrid
from emomc.compression.widths import UNCOMPRESSED_BITS
from emomc.export.c.program import Buffer, Call, Constant, Values
from emomc.networks.layers import LayerShape, output_first
from emomc.packed_file.network import PackedLayer

Pair = tuple[int, int]


class Scope:
    """The tensors of a graph as far as it is lowered, and the calls that make them."""

    def __init__(
        self, results: Mapping[fx.Node, Any], layers: Mapping[fx.Node, tuple[LayerShape, PackedLayer | None]]
    ) -> None:
        """Start without calls.

        Args:
            results: node -> what it gives for one image; tensors that depend on the image have no content.
            layers: node -> the layer that it calls, and its packed weights if it has some.
        """
        self.calls: list[Call] = []
        self.values: dict[fx.Node, Any] = {}
        """Node -> ``Values``, or a list of them, for what depends on the image."""
        self._results = results
        self._layers = layers
        self._computed: dict[str, PackedLayer] = {}
        self._constants: dict[fx.Node, Constant] = {}

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        """Return the shape of a tensor for one image; of several, that of the first."""
        found = self._results[node]
        return tuple((found[0] if isinstance(found, (tuple, list)) else found).shape)

    def shares_memory(self, node: fx.Node, other: fx.Node) -> bool:
        """Say whether what is written over one node's tensors is seen in the other's, as torch runs them."""
        places = [
            {part.untyped_storage().data_ptr() for part in (found if isinstance(found, (tuple, list)) else [found])}
            for found in (self._results[node], self._results[other])
        ]
        return bool(places[0] & places[1])

    def argument(self, node: fx.Node, position: int, name: str, otherwise: Any = None) -> Any:
        """Return an argument of a node; nodes in it become their values or, if they depend on the image, stay."""
        given = node.args[position] if len(node.args) > position else node.kwargs.get(name, otherwise)
        return fx.node.map_arg(given, lambda one: one if one in self.values else self._results[one])

    def input(self, node: fx.Node, position: int = 0) -> Values:
        """Return the values of an argument that must depend on the image.

        Raises:
            UserError: it does not.
        """
        given = node.args[position]
        if not isinstance(given, fx.Node) or not isinstance(self.values.get(given), Values):
            raise UserError(f"expected operations on the image that can be written in C, found {describe(node)}")
        return cast(Values, self.values[given])

    def shared_constant(self, node: fx.Node, position: int, name: str) -> Constant | None:
        """Return an argument that is a tensor or None as a constant, once for all that use the same node."""
        source = node.args[position] if len(node.args) > position else node.kwargs.get(name)
        if source is None:
            return None
        if not isinstance(source, fx.Node) or source in self.values:
            raise UserError(
                f"expected operations that can be written in C, found a computed {name} in {describe(node)}"
            )
        return self._constant(source)

    def operand(self, source: fx.Node) -> tuple[Values | Constant, tuple[int, ...]]:
        """Return a tensor, which may depend on the image or not, and its shape.

        Raises:
            UserError: it is not written in C, as the places of the largest numbers are not.
        """
        if source not in self.values:
            return self._constant(source), self.shape(source)
        values = self.values[source]
        if not isinstance(values, Values):
            raise UserError(f"expected operations that can be written in C, found {describe(source)}")
        return values, values.shape

    def _constant(self, source: fx.Node) -> Constant:
        if source not in self._constants:
            found = constant(self._results[source])
            own_name = str(source.target) if source.op == "get_attr" else None
            self._constants[source] = Constant(found.numbers, own_name)
        return self._constants[source]

    def layer(self, node: fx.Node) -> tuple[LayerShape, PackedLayer]:
        """Return the layer that a node calls and its weights; those that are computed or fixed, in float32.

        Raises:
            UserError: the weights depend on the image.
        """
        if node not in self._layers:
            raise UserError(f"expected operations that can be written in C, found {describe(node)}")
        shape, packed = self._layers[node]
        if packed is None and shape.name not in self._computed:
            weight = node.args[1]
            if shape.kind == "product" or not isinstance(weight, fx.Node) or weight in self.values:
                raise UserError(
                    f"expected operations that can be written in C, found {describe(node)} of two activations"
                )
            numbers = output_first(self._results[weight].detach().float(), shape).contiguous().numpy()
            self._computed[shape.name] = PackedLayer(shape.name, UNCOMPRESSED_BITS, numbers, np.zeros(0, np.float32))
        return shape, packed or self._computed[shape.name]

    def new(self, shape: Sequence[int]) -> Values:
        """Return values in a buffer of their own."""
        return Values(Buffer(math.prod(shape)), tuple(shape))

    def call(
        self,
        function: str,
        *arguments: Any,
        in_place: tuple[Values, ...] = (),
        grid: ActivationGrid | None = None,
    ) -> Values:
        """Add a call whose last argument that is ``Values`` is its output; return the output."""
        output = [one for one in arguments if isinstance(one, Values)][-1]
        self.calls.append(Call(function, arguments, output, in_place, grid=grid))
        return output


def constant(tensor: Tensor) -> Constant:
    """Return a tensor as a constant of the program."""
    return Constant(np.ascontiguousarray(tensor.detach().cpu().numpy().astype(np.float32)))


def describe(node: fx.Node) -> str:
    """Return the name of a node's operation; of one of several results, that of what gives them."""
    if node.target is operator.getitem:
        return describe(cast(fx.Node, node.args[0]))
    return str(node.target).removesuffix(".default")


def pair(values: Any, dimensions: int) -> Pair:
    """Return a size over one or two dimensions as (y, x); a single number holds for both; y of one dimension is 1."""
    listed = [int(value) for value in values] if isinstance(values, Sequence) else [int(values)]
    if len(listed) == 1:
        listed *= dimensions
    return (1, listed[0]) if dimensions == 1 else (listed[0], listed[1])
