"""The content of a packed file: a compressed network and its description."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emomc.common.errors import UserError, first_line, require, shown
from emomc.common.json_values import parse_json
from emomc.compression.activation_grid import ActivationGrid
from emomc.compression.codings import MAX_CODE_BITS, MAX_WEIGHTS, MIN_CODE_BITS
from emomc.compression.widths import UNCOMPRESSED_BITS
from emomc.networks.interface import NetworkForm, NetworkInterface
from emomc.packed_file.layout import (
    LAYER_DIMENSIONS,
    MAX_CLASSES,
    MAX_METADATA_BYTES,
    MAX_NAME_BYTES,
    MAX_RECORDS,
    MAX_SIDE,
    MAX_TENSOR_DIMENSIONS,
    TYPES,
    metadata_bytes,
)

SIDES = ("channels", "height", "width")
"""What the header of a file has three numbers for."""


@dataclasses.dataclass(frozen=True)
class NetworkDescription:
    """Description of the network in a packed file."""

    network: str
    """A name of ``emomc.networks.zoo.NETWORKS``, or ``file.py:Class`` or ``module:Class`` of a user."""
    network_args: dict[str, Any]
    """Arguments of its constructor, JSON values."""
    network_source_sha256: str | None
    """SHA-256 of the source file of a user's network, 64 hex digits; None for the project's own networks."""
    input_shape: tuple[int, ...]
    """Of what the network takes: channels, height, width of an image; one or two numbers for other inputs."""
    class_names: tuple[str, ...]
    """Empty if the network does not classify."""
    mean: tuple[float, ...] = ()
    """Per channel, of pixels scaled to 0..1, stored as float32; empty if the normalisation is not known."""
    std: tuple[float, ...] = ()
    """As ``mean``; positive."""
    network_output: str | None = None
    """Key or index of the class scores among several outputs of a user's network."""
    interface: NetworkInterface | None = None
    """Inputs and outputs of a network, where they are more than one tensor each."""
    kept_channels: dict[str, str] = dataclasses.field(default_factory=dict)
    """Layer name -> which output channels of the whole network are left, as ``channel_bits`` writes them; of layers
    that say which channels go. Empty: all are left."""

    @property
    def form(self) -> NetworkForm:
        """How the network is seen as a function of one tensor."""
        return self.network_output if self.interface is None else self.interface

    @property
    def sides(self) -> tuple[int, int, int]:
        """The input shape as the three numbers of the header, with ones before those of fewer dimensions."""
        channels, height, width = (1,) * (len(SIDES) - len(self.input_shape)) + self.input_shape
        return channels, height, width


@dataclasses.dataclass(frozen=True, eq=False)
class PackedLayer:
    """The weights of one layer: ``codes * scale``, one float32 multiplication each."""

    name: str
    """Name of the layer; its weights are usually the state dict's ``NAME.weight``."""
    bits: int
    """2..16, or 32 for weights left in float32."""
    codes: NDArray[Any]
    """Integer codes in the shape of the weight (float32 weights at 32 bits), output channels first."""
    scale: NDArray[np.float32]
    """Shape (1,) or (output channels,), with BatchNorm folded in; (0,) at 32 bits."""
    inputs: ActivationGrid | None = None
    """The grid to which each call of the layer rounds its input, with a step of float32; None: it is not rounded."""
    half_scales: bool = False
    """Whether the file holds the scales, two or more, as ``round_scales`` makes them: float16 times a power of two."""


@dataclasses.dataclass(frozen=True, eq=False)
class PackedNetwork:
    """A compressed network: everything that a packed file holds."""

    description: NetworkDescription
    layers: tuple[PackedLayer, ...]
    tensors: dict[str, NDArray[Any]]
    """Every other entry of the folded network's state dict: biases, norms that stay, buffers."""


def check_packed(packed: PackedNetwork) -> None:
    """Check that a packed file can hold the network; integer codes are checked when they are encoded.

    Raises:
        UserError: a name, shape, type or count is out of the format's range, or a number is not finite.
    """
    check_description(packed.description)
    _check_names([layer.name for layer in packed.layers], list(packed.tensors))
    for layer in packed.layers:
        _check_layer(layer)
    weights = sum(layer.codes.size for layer in packed.layers)
    if weights > MAX_WEIGHTS:
        raise UserError(f"expected at most {MAX_WEIGHTS} weights in a network, found {weights}")
    for name, tensor in packed.tensors.items():
        if tensor.dtype.newbyteorder("<") not in TYPES:
            raise UserError(f"expected a supported number type in {name}, found {tensor.dtype}")
        if tensor.ndim > MAX_TENSOR_DIMENSIONS or not 1 <= tensor.size < 1 << 32:
            raise UserError(
                f"expected numbers in at most {MAX_TENSOR_DIMENSIONS} dimensions in {name}, found {tensor.shape}"
            )
        _check_finite(name, tensor)


def check_description(description: NetworkDescription) -> None:
    """Check that a packed file can hold the description.

    Raises:
        UserError: an entry does not fit the format.
    """
    names, digest = description.class_names, description.network_source_sha256
    if not isinstance(description.network, str) or not description.network.isprintable() or not description.network:
        raise UserError(f"expected the name of a network, found {description.network!r}")
    if not isinstance(description.network_args, dict):
        raise UserError(f"expected network_args as a mapping, found {type(description.network_args).__name__}")
    kept = description.kept_channels
    if not all(isinstance(part, str) and part.isprintable() for part in (*kept, *kept.values())):
        raise UserError(f"expected kept_channels as texts by layer, found {shown(kept)}")
    if not isinstance(description.network_output, str | None):
        raise UserError(f"expected the key of an output as a text, found {description.network_output!r}")
    if digest is not None and not (isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)):
        raise UserError(f"expected the SHA-256 of a network's source as 64 hex digits, found {digest!r}")
    if not all(isinstance(name, str) for name in names) or len(names) > MAX_CLASSES:
        raise UserError(f"expected the names of up to {MAX_CLASSES} classes, found {len(names)}")
    sides = description.input_shape
    if not 1 <= len(sides) <= len(SIDES) or not all(1 <= side <= MAX_SIDE for side in sides):
        raise UserError(f"expected 1 to 3 sides, as channels, height and width, in 1..{MAX_SIDE}, found {sides}")
    interface = description.interface
    if interface is not None and interface.inputs:
        require(sides == interface.input_shape, "the shape of the joined inputs", sides)
    mean, std = (np.array(values, np.float32) for values in (description.mean, description.std))
    if not len(mean) == len(std) or len(mean) not in (0, description.sides[0]):
        raise UserError(
            f"expected a mean and a standard deviation per channel or none, found {len(mean)} and {len(std)}"
        )
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise UserError(
            f"expected finite means and positive standard deviations, found {mean.tolist()} and {std.tolist()}"
        )
    metadata_of(description)


def channel_bits(kept: Sequence[bool]) -> str:
    """Return which channels are left as hexadecimal digits: one bit a channel, the first the highest of its byte."""
    return np.packbits(np.array(kept, bool)).tobytes().hex()


def read_channel_bits(text: str, channels: int) -> NDArray[np.bool_]:
    """Return which of so many channels are left, (channels,).

    Raises:
        UserError: the text is not that of so many channels, or leaves none.
    """
    digits = re.fullmatch("(?:[0-9a-f]{2})*", text)
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(text if digits else ""), np.uint8)).astype(bool)
    expected = f"which of {channels} channels are left, as {2 * ((channels + 7) // 8)} hexadecimal digits"
    fits = len(bits) == 8 * ((channels + 7) // 8) and bool(bits[:channels].any()) and not bits[channels:].any()
    require(fits, expected, text)
    return bits[:channels]


def _check_names(layers: Sequence[str], tensors: Sequence[str]) -> None:
    if not 1 <= len(layers) <= MAX_RECORDS or len(tensors) > MAX_RECORDS:
        raise UserError(f"expected 1 to {MAX_RECORDS} layers and tensors, found {len(layers)} and {len(tensors)}")
    entries = [f"{name}.weight" for name in layers] + [*tensors]
    if len(set(entries)) != len(entries):
        raise UserError("expected unique names of layers and tensors, found one twice")
    for name in (*layers, *tensors):
        if not 1 <= len(name.encode()) <= MAX_NAME_BYTES:
            raise UserError(f"expected names of 1 to {MAX_NAME_BYTES} bytes, found one of {len(name.encode())}")
        if not name.isprintable():
            raise UserError(f"expected names that can be printed, found {name!r}")


def _check_layer(layer: PackedLayer) -> None:
    name, shape = layer.name, layer.codes.shape
    if len(shape) not in LAYER_DIMENSIONS or not 1 <= layer.codes.size <= MAX_WEIGHTS:
        raise UserError(f"expected the weights of a convolution or linear layer in {name}, found the shape {shape}")
    if layer.scale.dtype != np.float32 or layer.scale.ndim != 1:
        raise UserError(f"expected 1-D float32 scales for {name}, found {layer.scale.dtype} {layer.scale.shape}")
    if layer.inputs is not None:
        with np.errstate(over="ignore"):
            fits = layer.inputs.step == float(np.float32(layer.inputs.step))
        require(fits, f"a float32 step of the inputs of {name}", layer.inputs.step)
    if layer.bits == UNCOMPRESSED_BITS:
        if layer.codes.dtype != np.float32 or len(layer.scale):
            raise UserError(f"expected float32 weights without a scale in {name}, found {layer.codes.dtype}")
        _check_finite(name, layer.codes)
        return
    if not MIN_CODE_BITS <= layer.bits <= MAX_CODE_BITS:
        raise UserError(
            f"expected {MIN_CODE_BITS} to {MAX_CODE_BITS} or {UNCOMPRESSED_BITS} bits for {name}, found {layer.bits}"
        )
    if len(layer.scale) not in (1, shape[0]):
        raise UserError(f"expected 1 or {shape[0]} scales for {name}, found {len(layer.scale)}")
    if layer.half_scales and len(layer.scale) < 2:
        raise UserError(f"expected two or more float16 scales for {name}, found {len(layer.scale)}")
    _check_finite(f"the scales of {name}", layer.scale)


def _check_finite(name: str, numbers: NDArray[Any]) -> None:
    if np.issubdtype(numbers.dtype, np.floating) and not np.isfinite(numbers).all():
        raise UserError(f"expected finite numbers in {name}, found NaN or infinity")


def metadata_of(description: NetworkDescription) -> bytes:
    """Return the metadata of a packed file as JSON.

    Raises:
        UserError: an argument cannot be written as JSON, or the metadata is too long.
    """
    values = dataclasses.asdict(description)
    keys = ["network", "network_args", "network_source_sha256", "class_names"]
    if description.network_output is not None:
        keys.append("network_output")
    if description.interface is not None:
        keys.append("interface")
    if description.kept_channels:
        keys.append("kept_channels")
    if len(description.input_shape) != len(SIDES):
        keys.append("input_shape")
    try:
        metadata = metadata_bytes({key: values[key] for key in keys})
        parse_json(metadata)  # a reader refuses what this refuses
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"expected a description that can be written as JSON, found: {first_line(error)}") from None
    if len(metadata) > MAX_METADATA_BYTES:
        raise UserError(f"expected at most {MAX_METADATA_BYTES} bytes of metadata, found {len(metadata)}")
    return metadata
