"""Digests of tensors, independent of any file format."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from torch import Tensor


def tensor_digest(*tensors: Tensor) -> str:
    """Return the SHA-256 of tensors' shapes, types and values."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def state_digest(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a state dict's names, shapes, types and values, independent of any file format."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, list(tensor.shape), str(tensor.dtype)]).encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
