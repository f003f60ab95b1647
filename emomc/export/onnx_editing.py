"""Editing the nodes and constants of an ONNX graph."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emomc.common.errors import UserError


def import_onnx() -> Any:
    """Return the package onnx with what is used of it.

    Raises:
        UserError: the extra ``export`` is not installed.
    """
    try:
        import onnx
        import onnx.checker
        import onnx.shape_inference
        import onnxscript  # noqa: F401  # torch's exporter needs it
    except ImportError as error:
        raise UserError(f"expected the packages of pip install 'emomc[export]', found no {error.name}") from None
    return onnx


class GraphEditor:
    """The nodes and constants of a graph, to be changed in place."""

    def __init__(self, model: Any) -> None:
        """Take a model; ``write`` changes it."""
        self._model = model
        self.onnx = import_onnx()
        self.nodes: list[Any] = list(model.graph.node)
        """In an order in which they can run."""
        self.constants: dict[str, Any] = {tensor.name: tensor for tensor in model.graph.initializer}
        """Name -> tensor."""

    @property
    def inputs(self) -> list[Any]:
        """The inputs of the graph."""
        return list(self._model.graph.input)

    def replace_input(self, value: Any) -> None:
        """Give the graph one input instead of those that it has."""
        del self._model.graph.input[:]
        self._model.graph.input.append(value)

    def producer(self, name: str) -> Any | None:
        """Return the node that makes a value; None for inputs of the graph and constants."""
        return next((node for node in self.nodes if name in node.output), None)

    def consumers(self, name: str) -> list[Any]:
        """Return the nodes that use a value; an output of the graph is used by the graph itself as well."""
        users = [node for node in self.nodes if name in node.input]
        return users + [value for value in self._model.graph.output if value.name == name]

    def only_consumer(self, name: str) -> Any | None:
        """Return the one node that uses a value; None if there are others, or if the graph returns it."""
        users = self.consumers(name)
        return users[0] if len(users) == 1 and hasattr(users[0], "op_type") else None

    def value(self, name: str) -> NDArray[Any]:
        """Return the numbers of a constant."""
        array: NDArray[Any] = self.onnx.numpy_helper.to_array(self.constants[name])
        return array

    def constant(self, name: str, numbers: NDArray[Any]) -> str:
        """Add a constant, or take the one of this name; return its name."""
        if name not in self.constants:
            self.constants[name] = self.onnx.numpy_helper.from_array(np.asarray(numbers), name)
        return name

    def make(self, operation: str, inputs: list[str], output: str, **attributes: Any) -> Any:
        """Return a new node, named like its output."""
        return self.onnx.helper.make_node(operation, inputs, [output], name=output, **attributes)

    def attributes(self, node: Any) -> dict[str, Any]:
        """Return the attributes of a node by name."""
        return {attribute.name: self.onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}

    def insert_before(self, node: Any, nodes: Iterable[Any]) -> None:
        """Insert nodes before another one."""
        place = self._place(node)
        self.nodes[place:place] = nodes

    def insert_first(self, nodes: Iterable[Any]) -> None:
        """Insert nodes that depend on constants alone."""
        self.nodes[:0] = nodes

    def replace(self, node: Any, nodes: Iterable[Any]) -> None:
        """Put nodes in the place of another one."""
        place = self._place(node)
        self.nodes[place : place + 1] = nodes

    def rename_uses(self, old: str, new: str) -> None:
        """Make all nodes use another value; the outputs of the graph stay."""
        for node in self.nodes:
            for index, name in enumerate(node.input):
                if name == old:
                    node.input[index] = new

    def write(self) -> None:
        """Change the model: nodes without effect and constants without use are left out."""
        graph = self._model.graph
        needed = {value.name for value in graph.output}
        kept = []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                needed.update(node.input)
                kept.append(node)
        made = {name for node in kept for name in node.output}
        infos = [value for value in graph.value_info if value.name in made]
        tensors = [tensor for name, tensor in self.constants.items() if name in needed]
        for field, values in ((graph.node, reversed(kept)), (graph.initializer, tensors), (graph.value_info, infos)):
            values = list(values)
            del field[:]
            field.extend(values)

    def _place(self, node: Any) -> int:
        return next(index for index, other in enumerate(self.nodes) if other is node)
