"""Evaluation of exported files on images, one function per format."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from emomc.common.errors import UserError
from emomc.data.resident import ResidentBlocks
from emomc.export.c.compiling import CompiledSource
from emomc.export.loading import round_inputs, unpack_folded
from emomc.export.onnx_pixels import PIXELS, as_pixels, properties_of
from emomc.lightning_modules.candidate import CandidateClassifier
from emomc.networks.equivalence import TOLERANCE, deviation
from emomc.networks.folding import FoldedNetwork
from emomc.networks.interface import NetworkInterface
from emomc.packed_file.network import PackedNetwork
from emomc.packed_file.reader import read_packed
from emomc.runtime.compilation import CompiledNetwork
from emomc.runtime.trainers import validation_trainer

ROUNDED_TOLERANCE = 0.02
"""Largest deviation of an image's scores where inputs of layers are rounded, as a fraction of the largest score."""


@dataclasses.dataclass(frozen=True)
class EvaluationConditions:
    """The conditions under which a search evaluated a network."""

    batch_size: int
    """Images per forward pass."""
    precision: str = "32-true"
    """Arithmetic, as Lightning names it."""
    memory_format: torch.memory_format = torch.channels_last
    """Of the network and its images."""
    compiled: bool = False
    """Whether whole batches went through a compiled graph."""


@dataclasses.dataclass(frozen=True)
class ReadBack:
    """What an exported file gives for some images."""

    correct: int
    """Images classified correctly."""
    other_class: int | None = None
    """Images that get another class than from the network that was searched; None: not compared one by one."""


@dataclasses.dataclass(frozen=True, eq=False)
class ExpectedScores:
    """What a search's network gives for some images."""

    images: Tensor
    """Float, (n, channels, height, width), normalised."""
    scores: Tensor
    """(n, classes)."""
    rounded: bool = False
    """Whether inputs of layers are rounded. An input half-way between two codes may go either way, which moves the
    scores of that image: then the median image decides, not the worst."""

    def check(self, scores: Tensor, what: str) -> None:
        """Check the scores of something else for the same images.

        Raises:
            UserError: one differs by more than ``TOLERANCE`` of the largest; with rounded inputs, those of half of the
                images differ by more than ``ROUNDED_TOLERANCE``.
        """
        # A program in C gives the values of an answer in a row.
        scores = scores.reshape(self.scores.shape)
        if self.rounded:
            pairs = zip(scores, self.scores, strict=True)
            found, allowed = statistics.median(deviation(*pair) for pair in pairs), ROUNDED_TOLERANCE
        else:
            found, allowed = deviation(scores, self.scores), TOLERANCE
        if found > allowed:
            raise UserError(
                f"expected {what} to give the scores of the network that was searched, found a difference of "
                f"{found:.1e} of the largest: nothing is written"
            )


@torch.no_grad()
def scores_packed(path: Path, packed: PackedNetwork, images: Tensor, network: nn.Module | None) -> Tensor:
    """Return the class scores of a packed file, (n, classes)."""
    scores: Tensor = _read_packed(path, network).module(images)
    return scores


@torch.no_grad()
def scores_dense(path: Path, packed: PackedNetwork, images: Tensor, network: nn.Module | None) -> Tensor:
    """Return the class scores of a state dict, (n, classes)."""
    scores: Tensor = _read_dense(path, packed, network).module(images)
    return scores


def scores_onnx(path: Path, packed: PackedNetwork, images: Tensor, network: nn.Module | None) -> Tensor:
    """Return the class scores of an ONNX file in onnxruntime, (n, classes)."""
    return _run_onnx(_session(path), images, packed.description.interface)


def scores_c(path: Path, packed: PackedNetwork, images: Tensor, network: nn.Module | None) -> Tensor:
    """Return the class scores of a source in C, compiled here, (n, classes)."""
    with CompiledSource(path) as compiled:
        return compiled.scores(images)


def read_back_packed(
    path: Path,
    packed: PackedNetwork,
    images: Tensor,
    labels: Tensor,
    conditions: EvaluationConditions,
    network: nn.Module | None,
) -> ReadBack:
    """Evaluate a packed file as the search does; on the same machine the count is the same."""
    return _evaluate(_read_packed(path, network), packed, images, labels, conditions)


def read_back_dense(
    path: Path,
    packed: PackedNetwork,
    images: Tensor,
    labels: Tensor,
    conditions: EvaluationConditions,
    network: nn.Module | None,
) -> ReadBack:
    """Evaluate a state dict as the search does; on the same machine the count is the same."""
    return _evaluate(_read_dense(path, packed, network), packed, images, labels, conditions)


def read_back_c(
    path: Path,
    packed: PackedNetwork,
    images: Tensor,
    labels: Tensor,
    conditions: EvaluationConditions,
    network: nn.Module | None,
) -> ReadBack:
    """Compile a source in C and run it, and compare each class with that of the network that was packed.

    Both compute in float32, in another order: a few images may get another class.
    """
    with CompiledSource(path) as compiled:
        return _read_back(compiled.scores, packed, images, labels, conditions, network)


def read_back_onnx(
    path: Path,
    packed: PackedNetwork,
    images: Tensor,
    labels: Tensor,
    conditions: EvaluationConditions,
    network: nn.Module | None,
) -> ReadBack:
    """Run an ONNX file in onnxruntime, and compare each class with that of the network that was packed.

    Both compute in float32 what is not computed with integers: a few images may get another class.
    """
    session = _session(path)
    return _read_back(lambda part: _run_onnx(session, part, None), packed, images, labels, conditions, network)


@torch.no_grad()
def _read_back(
    run: Callable[[Tensor], Tensor],
    packed: PackedNetwork,
    images: Tensor,
    labels: Tensor,
    conditions: EvaluationConditions,
    network: nn.Module | None,
) -> ReadBack:
    """Count the right classes, and those that differ from those of the network that was packed."""
    searched = round_inputs(unpack_folded(packed, network), packed).module.to(memory_format=conditions.memory_format)
    correct = other_class = 0
    for part, label in zip(images.split(conditions.batch_size), labels.split(conditions.batch_size), strict=True):
        classes = run(part).argmax(1)
        expected = searched(part.contiguous(memory_format=conditions.memory_format)).argmax(1)
        correct += int((classes == label).sum())
        other_class += int((classes != expected).sum())
    return ReadBack(correct, other_class)


@contextlib.contextmanager
def running_packed(path: Path, packed: PackedNetwork, network: nn.Module | None) -> Iterator[nn.Module]:
    """Give the network of a packed file."""
    yield _read_packed(path, network).module


@contextlib.contextmanager
def running_dense(path: Path, packed: PackedNetwork, network: nn.Module | None) -> Iterator[nn.Module]:
    """Give the network of a state dict."""
    yield _read_dense(path, packed, network).module


@contextlib.contextmanager
def running_onnx(path: Path, packed: PackedNetwork, network: nn.Module | None) -> Iterator[nn.Module]:
    """Give an ONNX file in onnxruntime as a network."""
    session = _session(path)
    yield Running(lambda inputs: _run_onnx(session, inputs, packed.description.interface))


@contextlib.contextmanager
def running_c(path: Path, packed: PackedNetwork, network: nn.Module | None) -> Iterator[nn.Module]:
    """Give a source in C, compiled here, as a network."""
    shape = unpack_folded(packed, network).graph.output_shape
    with CompiledSource(path) as compiled:
        yield Running(lambda inputs: compiled.scores(inputs).reshape(len(inputs), *shape))


class Running(nn.Module):
    """Something that runs outside torch, in the form of a network."""

    def __init__(self, run: Callable[[Tensor], Tensor]) -> None:
        """Take a function of a float batch, (n, ...)."""
        super().__init__()
        self._run = run

    def forward(self, inputs: Tensor) -> Tensor:
        """Return what it gives."""
        return self._run(inputs.detach().cpu().float()).to(inputs.device)


def _read_packed(path: Path, network: nn.Module | None) -> FoldedNetwork:
    packed = read_packed(path)
    return round_inputs(unpack_folded(packed, network), packed)


def _read_dense(path: Path, packed: PackedNetwork, network: nn.Module | None) -> FoldedNetwork:
    loaded = unpack_folded(packed, network)
    loaded.module.load_state_dict(load_file(path), strict=False)
    # A state dict holds no grids of inputs.
    return round_inputs(loaded, packed)


def _run_onnx(session: Any, images: Tensor, interface: NetworkInterface | None) -> Tensor:
    given, properties = session.get_inputs(), properties_of(session)
    if given[0].name == PIXELS:
        values = [as_pixels(images, properties)]
    else:
        inputs = [images] if interface is None else interface.split_inputs(images)
        values = [part.contiguous().numpy() for part in inputs]
    feed = {one.name: value for one, value in zip(given, values, strict=True)}
    outputs = [torch.from_numpy(scores) for scores in session.run(None, feed)]
    return outputs[0] if interface is None else interface.join_outputs(outputs)


def _session(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise UserError("expected the packages of pip install 'emomc[export]', found no onnxruntime") from None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    if properties_of(session).get("target") != "onnxruntime":
        # What the file says, and not what onnxruntime makes of it: it would round weights in float32 itself.
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session


def _evaluate(
    loaded: FoldedNetwork, packed: PackedNetwork, images: Tensor, labels: Tensor, conditions: EvaluationConditions
) -> ReadBack:
    loaded = loaded.to(torch.device("cpu"))
    network = loaded.module.to(memory_format=conditions.memory_format)
    runner = CompiledNetwork(network, conditions.batch_size) if conditions.compiled else network
    module = CandidateClassifier(runner, len(packed.description.class_names), conditions.batch_size)
    blocks = ResidentBlocks(images, labels, conditions.batch_size, conditions.memory_format)
    trainer = validation_trainer(torch.device("cpu"), conditions.precision)
    trainer.validate(module, blocks, verbose=False)
    return ReadBack(module.correct)
