"""Exported files as networks that run, one function per format."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from emomc.common.errors import UserError
from emomc.export.c.compiling import CompiledSource
from emomc.export.loading import load_compressed, round_inputs, unpack_folded
from emomc.export.onnx_pixels import PIXELS, as_pixels, properties_of
from emomc.networks.interface import NetworkInterface
from emomc.packed_file.network import PackedNetwork


@contextlib.contextmanager
def running_packed(path: Path, packed: PackedNetwork, network: nn.Module | None) -> Iterator[nn.Module]:
    """Give the network of a packed file."""
    yield load_compressed(path, network)


@contextlib.contextmanager
def running_dense(path: Path, packed: PackedNetwork, network: nn.Module | None) -> Iterator[nn.Module]:
    """Give the network of a state dict."""
    yield _read_dense(path, packed, network)


@contextlib.contextmanager
def running_onnx(path: Path, packed: PackedNetwork, network: nn.Module | None) -> Iterator[nn.Module]:
    """Give an ONNX file in onnxruntime as a network."""
    session = _session(path)
    yield _Running(lambda inputs: _run_onnx(session, inputs, packed.description.interface))


@contextlib.contextmanager
def running_c(path: Path, packed: PackedNetwork, network: nn.Module | None) -> Iterator[nn.Module]:
    """Give a source in C, compiled here, as a network."""
    shape = unpack_folded(packed, network).graph.output_shape
    with CompiledSource(path) as compiled:
        yield _Running(lambda inputs: compiled.scores(inputs).reshape(len(inputs), *shape))


class _Running(nn.Module):
    """Something that runs outside torch, in the form of a network."""

    def __init__(self, run: Callable[[Tensor], Tensor]) -> None:
        """Take a function of a float batch, (n, ...)."""
        super().__init__()
        self._run = run

    def forward(self, inputs: Tensor) -> Tensor:
        """Return what it gives."""
        return self._run(inputs.detach().cpu().float()).to(inputs.device)


def _read_dense(path: Path, packed: PackedNetwork, network: nn.Module | None) -> nn.Module:
    loaded = unpack_folded(packed, network)
    loaded.module.load_state_dict(load_file(path), strict=False)
    # A state dict holds no grids of inputs.
    return round_inputs(loaded, packed).module


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
