"""Evaluation of exported files on images, one function per format."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from emomc.common.errors import UserError
from emomc.compression.activations import ActivationRounding, Range
from emomc.compression.widths import FULL_ACTIVATION_BITS
from emomc.data.resident import ResidentBlocks
from emomc.export.loading import unpack_folded
from emomc.lightning_modules.candidate import CandidateClassifier
from emomc.networks.equivalence import TOLERANCE, deviation
from emomc.networks.folding import FoldedNetwork
from emomc.packed_file.network import PackedNetwork
from emomc.packed_file.reader import read_packed
from emomc.runtime.compilation import CompiledNetwork
from emomc.runtime.trainers import validation_trainer


@dataclasses.dataclass(frozen=True)
class EvaluationConditions:
    """The conditions under which a search evaluated a network."""

    batch_size: int
    """Images per forward pass."""
    precision: str = "32-true"
    """Arithmetic, as Lightning names it."""
    activation_bits: int = FULL_ACTIVATION_BITS
    """Bits of the layers' inputs."""
    input_ranges: Mapping[str, Range] | None = None
    """Layer name -> smallest and largest input, if inputs are rounded."""
    memory_format: torch.memory_format = torch.channels_last
    """Of the network and its images."""
    compiled: bool = False
    """Whether whole batches went through a compiled graph."""


@dataclasses.dataclass(frozen=True, eq=False)
class ExpectedScores:
    """What a search's network gives for some images."""

    images: Tensor
    """Float, (n, channels, height, width), normalised."""
    scores: Tensor
    """(n, classes)."""

    def check(self, scores: Tensor, what: str) -> None:
        """Check the scores of something else for the same images.

        Raises:
            UserError: one differs by more than ``TOLERANCE`` of the largest.
        """
        found = deviation(scores, self.scores)
        if found > TOLERANCE:
            raise UserError(
                f"expected {what} to give the scores of the network that was searched, found a difference of "
                f"{found:.1e} of the largest: nothing is written"
            )


@torch.no_grad()
def scores_packed(path: Path, packed: PackedNetwork, images: Tensor, network: nn.Module | None) -> Tensor:
    """Return the class scores of a packed file, (n, classes)."""
    scores: Tensor = unpack_folded(read_packed(path), network).module(images)
    return scores


@torch.no_grad()
def scores_dense(path: Path, packed: PackedNetwork, images: Tensor, network: nn.Module | None) -> Tensor:
    """Return the class scores of a state dict, (n, classes)."""
    scores: Tensor = _read_dense(path, packed, network).module(images)
    return scores


def scores_onnx(path: Path, packed: PackedNetwork, images: Tensor, network: nn.Module | None) -> Tensor:
    """Return the class scores of an ONNX file in onnxruntime, (n, classes)."""
    return _run_onnx(_session(path), images)


def count_correct_packed(
    path: Path,
    packed: PackedNetwork,
    images: Tensor,
    labels: Tensor,
    conditions: EvaluationConditions,
    network: nn.Module | None,
) -> int:
    """Evaluate a packed file as the search does; on the same machine the count is the same."""
    return _count_correct(unpack_folded(read_packed(path), network), packed, images, labels, conditions)


def count_correct_dense(
    path: Path,
    packed: PackedNetwork,
    images: Tensor,
    labels: Tensor,
    conditions: EvaluationConditions,
    network: nn.Module | None,
) -> int:
    """Evaluate a state dict as the search does; on the same machine the count is the same."""
    return _count_correct(_read_dense(path, packed, network), packed, images, labels, conditions)


def count_correct_onnx(
    path: Path,
    packed: PackedNetwork,
    images: Tensor,
    labels: Tensor,
    conditions: EvaluationConditions,
    network: nn.Module | None,
) -> int:
    """Run an ONNX file in onnxruntime, in float32; the count may differ slightly from the search's."""
    session = _session(path)
    parts = zip(images.split(conditions.batch_size), labels.split(conditions.batch_size), strict=True)
    return sum(int((_run_onnx(session, part).argmax(1) == label).sum()) for part, label in parts)


def _read_dense(path: Path, packed: PackedNetwork, network: nn.Module | None) -> FoldedNetwork:
    loaded = unpack_folded(packed, network)
    loaded.module.load_state_dict(load_file(path), strict=False)
    return loaded


def _run_onnx(session: Any, images: Tensor) -> Tensor:
    (scores,) = session.run(None, {session.get_inputs()[0].name: images.contiguous().numpy()})
    return torch.from_numpy(scores)


def _session(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise UserError("expected the packages of pip install 'emomc[export]', found no onnxruntime") from None
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def _count_correct(
    loaded: FoldedNetwork, packed: PackedNetwork, images: Tensor, labels: Tensor, conditions: EvaluationConditions
) -> int:
    loaded = loaded.to(torch.device("cpu"))
    if ranges := conditions.input_ranges:
        ActivationRounding(loaded, conditions.activation_bits).use(ranges)
    network = loaded.module.to(memory_format=conditions.memory_format)
    runner = CompiledNetwork(network, conditions.batch_size) if conditions.compiled else network
    module = CandidateClassifier(runner, len(packed.description.class_names), conditions.batch_size)
    blocks = ResidentBlocks(images, labels, conditions.batch_size, conditions.memory_format)
    trainer = validation_trainer(torch.device("cpu"), conditions.precision)
    trainer.validate(module, blocks, verbose=False)
    return module.correct
