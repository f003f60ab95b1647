"""Weights that the user has: read without running any code that a file may hold."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from emomc.common.errors import UserError, first_line

WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net")
"""Keys under which checkpoints keep the weights; the first is Lightning's."""

_SHOWN = 3


def load_weights(network: nn.Module, path: Path) -> None:
    """Load a state dict into a network in place.

    The file is safetensors (by its suffix ``.safetensors``) or what ``torch.save`` wrote, read with ``weights_only``. A
    checkpoint that keeps its state dict under a key of ``WRAPPERS`` is unwrapped, and where every weight of the network
    stands behind one and the same prefix, such as ``network.`` in a LightningModule's checkpoint, the prefix is taken
    off and entries without it (a metric's, a loss's) are left out.

    Args:
        network: the network to fill; untouched after an error.
        path: the file.

    Raises:
        UserError: the file is missing, cannot be read, holds no state dict, or does not fit the network.
    """
    found = _state_dict(_read(path), path)
    wanted = network.state_dict()
    prefix = _prefix(found, wanted)
    if prefix:
        found = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
    check_fit(found, wanted, type(network).__name__, path)
    network.load_state_dict(found)


def _read(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"expected a file of weights at {path}, found no such file")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, SafetensorError, pickle.UnpicklingError) as error:
        raise UserError(
            f"expected weights in {path}, as safetensors or as torch.save writes a state dict, found a file that "
            f"cannot be read as such: {first_line(error)}"
        ) from error


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"expected a state dict in {path}, found a {type(content).__name__} without tensors by name")
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def _prefix(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Return what stands before every wanted name, "" if the names are found as they are or nothing fits."""
    if all(name in found for name in wanted):
        return ""
    first = next(iter(wanted), "")
    prefixes = [name.removesuffix(first) for name in found if name.endswith("." + first)]
    return next((prefix for prefix in prefixes if all(prefix + name in found for name in wanted)), "")


def check_fit(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], network: str, path: Path) -> None:
    """Check that a state dict has the names and shapes of another, and finite values.

    Args:
        found: what a file held.
        wanted: the network's own.
        network: its name, for the error.
        path: the file, for the error.

    Raises:
        UserError: it does not fit; the first few differences are named.
    """
    missing = [name for name in wanted if name not in found]
    surplus = [name for name in found if name not in wanted]
    unlike = [
        f"{name} of shape {tuple(found[name].shape)} for {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in found and found[name].shape != value.shape
    ]
    for what, names in (("no", missing), ("too much:", surplus), ("", unlike)):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            listed = f"{what} {', '.join(names[:_SHOWN])}{more}".strip()
            raise UserError(f"expected weights of {network} in {path}, found {listed}")
    infinite = [name for name in wanted if not bool(torch.isfinite(found[name]).all())]
    if infinite:
        raise UserError(f"expected finite weights in {path}, found a NaN or an infinity in {infinite[0]}")
