"""The class scores among what a network returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from emomc.common.errors import UserError


def select_answer(outputs: Any, choice: str | None = None) -> Tensor:
    """Return the class scores among the outputs of a network.

    Args:
        outputs: a tensor, or tensors in a tuple, a list or a mapping.
        choice: position or key of the scores; None: the only tensor, or the first of several in order.

    Raises:
        UserError: there is no such output, it is no tensor, or a mapping has several and none is chosen.
    """
    if isinstance(outputs, Tensor) and choice is None:
        return outputs
    if isinstance(outputs, Mapping):
        tensors = {str(key): value for key, value in outputs.items() if isinstance(value, Tensor)}
        if choice is None and len(tensors) == 1:
            choice = next(iter(tensors))
        answer = tensors.get(choice or "")
        known = ", ".join(tensors) or "none"
    else:
        listed = list(outputs) if isinstance(outputs, (tuple, list)) else []
        position = int(choice) if choice is not None and choice.isdecimal() else 0 if choice is None else -1
        answer = listed[position] if 0 <= position < len(listed) else None
        known = f"{len(listed)} in order" if listed else f"a {type(outputs).__name__}"
    if not isinstance(answer, Tensor):
        wanted = "one tensor of class scores" if choice is None else f"the class scores as output {choice}"
        raise UserError(f"expected {wanted}, found {known}: name it with --network_output KEY or INDEX")
    return answer


def auxiliary_answers(outputs: Any, answer: Tensor) -> list[Tensor]:
    """Return the other outputs that have the shape of the class scores: those of auxiliary heads."""
    values = outputs.values() if isinstance(outputs, Mapping) else outputs if isinstance(outputs, (tuple, list)) else []
    return [
        value for value in values if isinstance(value, Tensor) and value is not answer and value.shape == answer.shape
    ]


class AnswerOnly(nn.Module):
    """A network that returns its class scores alone."""

    def __init__(self, network: nn.Module, choice: str | None = None) -> None:
        """Take the network as it is, and which of its outputs are the scores; see ``select_answer``."""
        super().__init__()
        self.network = network
        self.choice = choice

    def forward(self, images: Tensor) -> Tensor:
        """Return the scores."""
        return select_answer(self.network(images), self.choice)
