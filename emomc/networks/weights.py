"""Loading users' weights without running code that a file may contain."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from emomc.common.errors import UserError, first_cause, first_line
from emomc.common.files import existing_file
from emomc.networks.state import first_names, load_unique, unique_state
from emomc.runtime.tensor_files import read_tensors, read_torch

WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net")
"""Keys under which checkpoints store the weights; the first is Lightning's."""

_SHOWN = 3

_PLAIN_TYPES = {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool}
_PLAIN_TYPES |= {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}


def load_weights(network: nn.Module, path: Path, *, strict: bool = True) -> tuple[str, ...]:
    """Load a state dict into a network in place.

    The file is a safetensors file (suffix ``.safetensors``) or was written by ``torch.save`` and is read with
    ``weights_only``. The state dict may be under a key of ``WRAPPERS``. If the names of all weights have one prefix in
    the file, such as ``network.`` in a LightningModule's checkpoint, the prefix is removed, and entries without it (of
    a metric or a loss) are left out.

    Args:
        network: the network to fill; unchanged after an error.
        path: the file.
        strict: whether every weight must be found with its shape, and nothing else.

    Returns:
        What did not fit, with the reason: empty if ``strict``.

    Raises:
        UserError: the file is missing, cannot be read, has no state dict, has a value that is not finite, or does not
            fit the network: not in every weight if ``strict``, else in none.
    """
    found = _state_dict(_read(path), path)
    wanted = unique_state(network)
    prefix = _prefix(found, wanted)
    if prefix:
        found = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
    first = first_names(network)
    found = {name: value for name, value in found.items() if first.get(name, name) == name or name not in first}
    if strict:
        check_fit(found, wanted, type(network).__name__, path)
        left: tuple[str, ...] = ()
    else:
        fitting = {name: value for name, value in found.items() if name in wanted and value.shape == wanted[name].shape}
        if not any(name.endswith("weight") for name in fitting):
            # Nothing to keep: the error says what differs.
            check_fit(found, wanted, type(network).__name__, path)
        check_fit(fitting, {name: wanted[name] for name in fitting}, type(network).__name__, path)
        # A count of batches that BatchNorm does not use: files from elsewhere may lack it.
        missing = [name for name in wanted if name not in fitting and not name.endswith("num_batches_tracked")]
        surplus = [name for name in found if name not in fitting and name not in missing]
        reasons = dict.fromkeys(surplus, "not in the network")
        for name in missing:
            shape = tuple(found[name].shape) if name in found else None
            reasons[name] = "not in the file" if shape is None else f"of shape {shape} in the file"
        left = tuple(f"{name} ({reason})" for name, reason in reasons.items())
        found = {name: fitting.get(name, value) for name, value in wanted.items()}
    load_unique(network, found)
    return left


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return read_tensors(path, "weights")[0]
    existing_file(path, "a file of weights")
    try:
        return read_torch(path, "a file of weights", _harmless())
    # The reader of a file that was made by hand raises errors of many kinds.
    except Exception as error:
        raise UserError(
            f"expected weights in {path}, as safetensors or as a state dict written by torch.save, found a file that "
            f"cannot be read: {_reason(error)}; torch.save(model.state_dict(), FILE) writes one that can"
        ) from error


def _reason(error: Exception) -> str:
    """Return what torch found in a file: its own text is advice to read the file in spite of it."""
    found = re.search(r"GLOBAL (\S+)", str(error))
    return f"it has an object of {found[1]}, whose code is not run" if found else first_line(first_cause(error))


def _harmless() -> list[Any]:
    """Return what the training scripts of torchvision and timm leave in checkpoints beside the weights."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")]
    return [argparse.Namespace, np.dtype, scalar, *kinds]


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    named = content.items() if isinstance(content, Mapping) else ()
    found = {name: value for name, value in named if isinstance(name, str) and isinstance(value, Tensor)}
    if not found:
        raise UserError(f"expected a state dict in {path}, found a {type(content).__name__} without named tensors")
    return found


def _prefix(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Return the prefix that all wanted names have in ``found``; "" if they have none or are not all found."""
    if all(name in found for name in wanted):
        return ""
    first = next(iter(wanted), "")
    prefixes = [name.removesuffix(first) for name in found if name.endswith("." + first)]
    return next((prefix for prefix in prefixes if all(prefix + name in found for name in wanted)), "")


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor holds real numbers of its own, of a type that can be computed with."""
    return tensor.layout == torch.strided and tensor.device.type == "cpu" and tensor.dtype in _PLAIN_TYPES


def check_fit(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], network: str, path: Path) -> None:
    """Check that a state dict has the names and shapes of another, and finite values.

    Args:
        found: state dict from a file.
        wanted: state dict of the network.
        network: name of the network, for the error.
        path: the file, for the error.

    Raises:
        UserError: a name or shape differs (the error lists the first few), or a value is no finite real number.
    """
    missing = [name for name in wanted if name not in found]
    surplus = [name for name in found if name not in wanted]
    unlike = [
        f"{name} of shape {tuple(found[name].shape)} for {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in found and found[name].shape != value.shape
    ]
    for what, names in (("no", missing), ("unexpected names:", surplus), ("", unlike)):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            listed = f"{what} {', '.join(names[:_SHOWN])}{more}".strip()
            raise UserError(f"expected weights of {network} in {path}, found {listed}")
    for name in wanted:
        if not _is_plain(found[name]):
            kind = f"{found[name].dtype} ({found[name].layout}, on {found[name].device})"
            raise UserError(f"expected plain real numbers in {path}, found {name} of {kind}")
    infinite = [name for name in wanted if not bool(torch.isfinite(found[name]).all())]
    if infinite:
        raise UserError(f"expected finite weights in {path}, found a NaN or an infinity in {infinite[0]}")
