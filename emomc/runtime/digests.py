"""Digests of tensors, independent of any file format."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import torch
from torch import Tensor


def tensor_digest(*tensors: Tensor) -> str:
    """Return the SHA-256 of tensors' shapes, types and values."""
    digest = hashlib.sha256()
    for tensor in tensors:
        begin_tensor(digest, tuple(tensor.shape), tensor.dtype)
        add_tensor(digest, tensor)
    return digest.hexdigest()


def begin_tensor(digest: hashlib._Hash, shape: tuple[int, ...], kind: torch.dtype) -> None:
    """Add the shape and the type of a tensor to a digest; its values follow, whole or in parts."""
    digest.update(f"{shape} {kind}".encode())


def add_tensor(digest: hashlib._Hash, part: Tensor) -> None:
    """Add the values of a tensor, or of a part of its rows, to a digest."""
    digest.update(part.detach().cpu().contiguous().numpy().tobytes())


def state_digest(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a state dict's names, shapes, types and values, independent of any file format."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, list(tensor.shape), str(tensor.dtype)]).encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
