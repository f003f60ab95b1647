"""Digests of tensors, independent of any file format."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import torch
from torch import Tensor


class TensorDigest:
    """The SHA-256 of tensors' shapes, types and values, which may come in parts."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def begin(self, shape: tuple[int, ...], kind: torch.dtype) -> None:
        """Add the shape and the type of a tensor; its values follow."""
        self._digest.update(f"{shape} {kind}".encode())

    def add(self, part: Tensor) -> None:
        """Add the values of the tensor, or of its next rows."""
        self._digest.update(part.detach().cpu().contiguous().numpy().tobytes())

    def hex(self) -> str:
        """Return the digest as 64 hex digits."""
        return self._digest.hexdigest()


def tensor_digest(*tensors: Tensor) -> str:
    """Return the SHA-256 of tensors' shapes, types and values."""
    digest = TensorDigest()
    for tensor in tensors:
        digest.begin(tuple(tensor.shape), tensor.dtype)
        digest.add(tensor)
    return digest.hex()


def state_digest(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a state dict's names, shapes, types and values, independent of any file format."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, list(tensor.shape), str(tensor.dtype)]).encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
