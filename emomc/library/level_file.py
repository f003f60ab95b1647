"""Convert a level to the tensors of its file and back: pruned layers as their remaining weights and a bit mask."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from emomc.common.errors import require

_VALUES, _MASK, _SHAPE = ".remaining", ".mask", ".shape"
_MOST_DIMENSIONS = 8


def pack_level(state: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a level's file.

    Args:
        state: the state dict of the network, with removed weights set to zero.
        masks: name of a weight in the state -> boolean tensor, true where the weight remains.
    """
    packed = {}
    for key, value in state.items():
        mask = masks.get(key)
        tensor = value.detach().cpu().contiguous()
        if mask is None or bool(mask.all()):
            packed[key] = tensor
        else:
            on = mask.detach().cpu()
            packed[key + _VALUES] = tensor[on].contiguous()
            packed[key + _MASK] = torch.from_numpy(np.packbits(on.flatten().numpy()))
            packed[key + _SHAPE] = torch.tensor(tensor.shape)
    return packed


def unpack_level(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict that ``pack_level`` packed.

    Raises:
        UserError: a mask does not match its values or its shape.
    """
    state = {}
    for key, value in packed.items():
        if key.endswith(_VALUES):
            name = key.removesuffix(_VALUES)
            for part in (_MASK, _SHAPE):
                require(name + part in packed, f"an entry {name + part}", sorted(packed)[:4])
            require(value.ndim == 1, f"values of {name} in one dimension", tuple(value.shape))
            mask = unpack_mask(packed[name + _MASK], _shape_of(packed[name + _SHAPE], name))
            require(int(mask.sum()) == len(value), f"{int(mask.sum())} values of {name}", len(value))
            state[name] = value.new_zeros(mask.shape)
            state[name][mask] = value
        elif not key.endswith((_MASK, _SHAPE)):
            state[key] = value
    return state


def _shape_of(declared: Tensor, name: str) -> torch.Size:
    plain = declared.dtype == torch.int64 and declared.ndim == 1 and len(declared) <= _MOST_DIMENSIONS
    require(plain and bool((declared >= 0).all()), f"the shape of {name} as a list of whole numbers", declared.tolist())
    return torch.Size(declared.tolist())


def unpack_mask(bits: Tensor, shape: torch.Size) -> Tensor:
    """Return the mask of the given shape from its packed bits.

    Raises:
        UserError: the number of bytes does not match the shape.
    """
    # The file declares the shape: compare it with the bits on disk before memory is allocated.
    plain = bits.dtype == torch.uint8 and bits.ndim == 1
    require(plain, "a mask as bytes in one dimension", f"{bits.dtype} {tuple(bits.shape)}")
    count = math.prod(shape)
    require(len(bits) == (count + 7) // 8, f"the bytes of a mask of {count} bits", len(bits))
    flat = np.unpackbits(bits.numpy(), count=count)
    return torch.from_numpy(flat).bool().reshape(shape)


def mask_key(weight: str) -> str:
    """Return the name of the tensor that holds the mask of a weight, if it is pruned."""
    return f"{weight}{_MASK}"
