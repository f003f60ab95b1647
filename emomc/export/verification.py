"""Running an exported file over the test set, as its user would."""

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
from emomc.export.formats import ExportFormat
from emomc.export.loading import load_compressed, unpack_network
from emomc.lightning_modules.candidate import CandidateClassifier
from emomc.packed_file.writer import PackedNetwork
from emomc.runtime.trainers import ValidationTrainers


@dataclasses.dataclass(frozen=True)
class Verification:
    """What an exported file did on the test images."""

    correct: int
    """Images classified rightly."""
    images: int
    """Images in the set."""

    @property
    def accuracy(self) -> float:
        """Fraction classified rightly, 0..1."""
        return self.correct / self.images


def verify_export(
    path: Path,
    format: ExportFormat,
    packed: PackedNetwork,
    images: Tensor,
    labels: Tensor,
    *,
    batch_size: int,
    network: nn.Module | None = None,
    precision: str = "32-true",
    activation_bits: int = FULL_ACTIVATION_BITS,
    input_ranges: Mapping[str, Range] | None = None,
) -> Verification:
    """Read an exported file back and count the images that it classifies rightly.

    A packed file or a state dict runs as candidates do (Trainer, batch size, channels-last, precision), so its count is
    the search's on the same machine. ONNX runs in onnxruntime, in float32: a few of 1,000 images may differ.

    Args:
        path: the file.
        format: what it is; ``onnx-zigzag`` cannot be run.
        packed: what was exported.
        images: float, (n, channels, height, width), normalised.
        labels: int64, (n,).
        batch_size: images per forward pass.
        network: a user's network before folding.
        precision: Lightning's name of the arithmetic of the evaluation.
        activation_bits: of the layers' inputs, as they were simulated; ONNX runs without.
        input_ranges: layer name -> least and largest input, where they were.

    Raises:
        UserError: the file cannot be read, or the format cannot be run.
    """
    if format == "onnx-zigzag":
        raise UserError("expected a format that can be run to verify, found onnx-zigzag, which only ZigZag reads")
    if format == "onnx":
        return Verification(_correct_in_onnxruntime(path, images, labels, batch_size), len(labels))
    if format == "emomc":
        loaded = load_compressed(path, network)
    else:
        loaded = unpack_network(packed, network)
        loaded.load_state_dict(load_file(path))
    loaded = loaded.to(memory_format=torch.channels_last)
    if input_ranges:
        ActivationRounding(loaded, tuple(input_ranges), activation_bits).use(input_ranges)
    module = CandidateClassifier(loaded, len(packed.description.class_names), batch_size)
    blocks = ResidentBlocks(images, labels, batch_size)
    ValidationTrainers(torch.device("cpu"), precision).make().validate(module, blocks, verbose=False)
    return Verification(module.correct, module.seen)


def _correct_in_onnxruntime(path: Path, images: Tensor, labels: Tensor, batch_size: int) -> int:
    try:
        import onnxruntime
    except ImportError:
        raise UserError("expected the packages of pip install 'emomc[export]', found no onnxruntime") from None
    session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    correct = 0
    for part, label in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        (logits,) = session.run(None, {session.get_inputs()[0].name: part.contiguous().numpy()})
        correct += int((torch.from_numpy(logits).argmax(1) == label).sum())
    return correct
