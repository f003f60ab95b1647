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
from emomc.export.loading import load_compressed, unpack_network
from emomc.lightning_modules.candidate import CandidateClassifier
from emomc.packed_file.network import PackedNetwork
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


def count_correct_packed(
    path: Path,
    packed: PackedNetwork,
    images: Tensor,
    labels: Tensor,
    conditions: EvaluationConditions,
    network: nn.Module | None,
) -> int:
    """Evaluate a packed file as the search does; on the same machine the count is the same."""
    return _count_correct(load_compressed(path, network), packed, images, labels, conditions)


def count_correct_dense(
    path: Path,
    packed: PackedNetwork,
    images: Tensor,
    labels: Tensor,
    conditions: EvaluationConditions,
    network: nn.Module | None,
) -> int:
    """Evaluate a state dict as the search does; on the same machine the count is the same."""
    loaded = unpack_network(packed, network)
    loaded.load_state_dict(load_file(path))
    return _count_correct(loaded, packed, images, labels, conditions)


def count_correct_onnx(
    path: Path,
    packed: PackedNetwork,
    images: Tensor,
    labels: Tensor,
    conditions: EvaluationConditions,
    network: nn.Module | None,
) -> int:
    """Run an ONNX file in onnxruntime, in float32; the count may differ slightly from the search's."""
    try:
        import onnxruntime
    except ImportError:
        raise UserError("expected the packages of pip install 'emomc[export]', found no onnxruntime") from None
    session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    correct = 0
    for part, label in zip(images.split(conditions.batch_size), labels.split(conditions.batch_size), strict=True):
        (logits,) = session.run(None, {name: part.contiguous().numpy()})
        correct += int((torch.from_numpy(logits).argmax(1) == label).sum())
    return correct


def _count_correct(
    loaded: nn.Module, packed: PackedNetwork, images: Tensor, labels: Tensor, conditions: EvaluationConditions
) -> int:
    loaded = loaded.to(memory_format=torch.channels_last)
    if ranges := conditions.input_ranges:
        ActivationRounding(loaded, tuple(ranges), conditions.activation_bits).use(ranges)
    module = CandidateClassifier(loaded, len(packed.description.class_names), conditions.batch_size)
    blocks = ResidentBlocks(images, labels, conditions.batch_size)
    trainer = validation_trainer(torch.device("cpu"), conditions.precision)
    trainer.validate(module, blocks, verbose=False)
    return module.correct
