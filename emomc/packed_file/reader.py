"""Read packed files from untrusted sources: nothing is executed, every size is checked before memory is allocated."""

from __future__ import annotations

import dataclasses
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emomc.common.errors import UserError, first_line
from emomc.common.json_values import parse_json
from emomc.common.schema import checked
from emomc.compression.codings import MAX_WEIGHTS, decode
from emomc.compression.float16 import join_scales
from emomc.compression.streams import Stream
from emomc.compression.widths import UNCOMPRESSED_BITS
from emomc.networks.interface import NetworkInterface
from emomc.packed_file.layout import (
    ALIGNMENT,
    CHECKSUM,
    CODING_NAMES,
    HALF_BYTES,
    HEADER,
    MAGIC,
    MAX_METADATA_BYTES,
    MAX_RECORDS,
    MAX_SIDE,
    READ_VERSIONS,
    SCALE_BYTES,
    SHARED_EXPONENT,
    TYPES,
    aligned,
)
from emomc.packed_file.network import NetworkDescription, PackedLayer, PackedNetwork, check_description, check_packed
from emomc.packed_file.records import LayerRecord, TensorRecord, read_layer_record, read_tensor_record


def read_packed(path: Path | str, *, max_weights: int = MAX_WEIGHTS) -> PackedNetwork:
    """Read a packed file.

    Time and memory are bounded by the size of the file and by the number of weights that it declares.

    Args:
        path: the file.
        max_weights: largest number of weights allowed; lower it to bound the memory that an untrusted file can take.

    Raises:
        UserError: the file is missing, truncated, altered, of another version or malformed.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"expected a packed network at {path}, found no such file")
    with path.open("rb") as file:
        header = file.read(HEADER.size)
        try:
            size = path.stat().st_size
            _check_size(header, size)
            return parse_packed(header + file.read(size), max_weights=max_weights)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None


def parse_packed(data: bytes, *, max_weights: int = MAX_WEIGHTS) -> PackedNetwork:
    """Read the content of a packed file; see ``read_packed``."""
    _check_size(data, len(data))
    end = len(data) - CHECKSUM.size
    (stored,) = CHECKSUM.unpack_from(data, end)
    if zlib.crc32(memoryview(data)[:end]) != stored:
        raise UserError("expected the checksum of the packed file to match, found another: the file is damaged")
    return _Reader(data, max_weights).network()


def _check_size(header: bytes, file_bytes: int) -> None:
    if len(header) < HEADER.size or header[: len(MAGIC)] != MAGIC:
        raise UserError(f"expected a packed network, found {file_bytes} bytes that do not begin like one")
    version, declared = HEADER.unpack_from(header)[1], HEADER.unpack_from(header)[3]
    if version not in READ_VERSIONS:
        known = f"{READ_VERSIONS[0]} to {READ_VERSIONS[-1]}"
        raise UserError(f"expected a packed network of format version {known}, found {version}")
    if declared != file_bytes or file_bytes < HEADER.size + CHECKSUM.size:
        raise UserError(f"expected a packed network of {declared} bytes, found {file_bytes}")


class _Reader:
    """Reads the content in the order of the writer: parts cannot overlap, and no byte can be left over."""

    def __init__(self, data: bytes, max_weights: int) -> None:
        self._data = data
        self._end = len(data) - CHECKSUM.size
        self._position = HEADER.size
        self._weights_left = max_weights
        self._name_position = 0
        self._names = b""

    def network(self) -> PackedNetwork:
        """Return the network that the content describes."""
        header = HEADER.unpack_from(self._data)
        version = header[1]
        layer_count, tensor_count, names_bytes, metadata_bytes = header[2], header[4], header[5], header[6]
        input_shape, classes, normalised = header[7:10], header[10], header[11]
        if not 1 <= layer_count <= MAX_RECORDS or tensor_count > MAX_RECORDS:
            raise UserError(f"expected 1 to {MAX_RECORDS} layers and tensors, found {layer_count} and {tensor_count}")
        if not all(1 <= side <= MAX_SIDE for side in input_shape) or normalised > 1:
            raise UserError(f"expected images with sides of 1 to {MAX_SIDE}, found {input_shape}")
        if metadata_bytes > MAX_METADATA_BYTES:
            raise UserError(f"expected at most {MAX_METADATA_BYTES} bytes of metadata, found {metadata_bytes}")
        channels = input_shape[0] * normalised
        norm = np.frombuffer(self._take(8 * channels), "<f4").reshape(2, channels).tolist()
        layer_records = [read_layer_record(self._take, version) for _ in range(layer_count)]
        tensor_records = [read_tensor_record(self._take, version) for _ in range(tensor_count)]
        self._names = self._take(names_bytes)
        metadata = read_metadata(self._take(metadata_bytes), classes)
        self._skip_padding()
        mean, std = map(tuple, norm)
        shape = metadata.pop("input_shape") or input_shape
        description = NetworkDescription(**metadata, input_shape=shape, mean=mean, std=std)
        check_description(description)
        if description.sides != input_shape:
            raise UserError(f"expected inputs of shape {input_shape}, as the header says, found {shape}")
        layers = tuple(self._layer(record) for record in layer_records)
        tensors = [self._tensor(record) for record in tensor_records]
        if self._position != self._end or self._name_position != names_bytes:
            raise UserError(f"expected nothing after the last tensor, found {self._end - self._position} bytes")
        packed = PackedNetwork(description, layers, dict(tensors))
        if len(packed.tensors) != len(tensors):
            raise UserError("expected unique names of tensors, found one twice")
        check_packed(packed)
        return packed

    def _layer(self, record: LayerRecord) -> PackedLayer:
        name = self._name(record)
        bits, coding, index_bits, scales = record.bits, record.coding, record.index_bits, record.scales
        shape, entries, stream_bytes = record.shape, record.entries, record.stream_bytes
        if coding >= len(CODING_NAMES):
            raise UserError(f"expected a known coding of {name}, found coding {coding}")
        count = math.prod(shape)
        self._weights_left -= count
        if not count or self._weights_left < 0:
            limit = self._weights_left + count
            raise UserError(f"expected a number of weights from 1 to {limit} in {name}, found the shape {shape}")
        if scales not in ((0,) if bits == UNCOMPRESSED_BITS else (1, shape[0])):
            raise UserError(f"expected a scale for {name} or one per output channel, found {scales}")
        self._check_offset(name, record.offset)
        scale = self._scales(record)
        stream = Stream(self._take(stream_bytes), CODING_NAMES[coding], entries, index_bits)
        self._skip_padding()
        if bits == UNCOMPRESSED_BITS:
            if (coding, index_bits, entries, stream_bytes) != (0, 0, count, 4 * count):
                raise UserError(f"expected {count} float32 weights in {name}, found {entries} in {stream_bytes} bytes")
            weights = np.frombuffer(stream.data, "<f4").astype(np.float32).reshape(shape)
            return PackedLayer(name, bits, weights, scale, record.inputs)
        try:
            codes = decode(stream, shape, bits).reshape(shape)
        except UserError as error:
            raise UserError(f"{error} (layer {name})") from None
        return PackedLayer(name, bits, codes, scale, record.inputs, record.half_scales)

    def _scales(self, record: LayerRecord) -> NDArray[np.float32]:
        if not record.half_scales:
            return np.frombuffer(self._take(SCALE_BYTES * record.scales), "<f4").astype(np.float32)
        (exponent,) = SHARED_EXPONENT.unpack(self._take(SHARED_EXPONENT.size))
        halves = np.frombuffer(self._take(HALF_BYTES * record.scales), "<f2")
        return join_scales(exponent, halves)

    def _tensor(self, record: TensorRecord) -> tuple[str, NDArray[Any]]:
        name, kind, shape = self._name(record), record.type, record.shape
        if kind >= len(TYPES):
            raise UserError(f"expected a known type of tensor in {name}, found type {kind}")
        self._check_offset(name, record.offset)
        # A Python integer cannot overflow, and _take refuses more bytes than the file has left.
        count = math.prod(shape)
        if not count:
            raise UserError(f"expected numbers in {name}, found the shape {shape}")
        values = self._take(count * TYPES[kind].itemsize)
        self._skip_padding()
        if TYPES[kind] == np.bool_ and max(values) > 1:
            raise UserError(f"expected 0 and 1 in {name}, found {max(values)}")
        return name, np.frombuffer(values, TYPES[kind]).astype(TYPES[kind].newbyteorder("=")).reshape(shape)

    def _name(self, record: LayerRecord | TensorRecord) -> str:
        offset, length = self._name_position, record.name_bytes
        if record.name_offset not in (None, offset) or offset + length > len(self._names):
            raise UserError(f"expected names one after another, found one of {length} bytes after {offset}")
        self._name_position += length
        try:
            name = self._names[offset : offset + length].decode()
        except UnicodeDecodeError:
            raise UserError("expected names in UTF-8, found other bytes") from None
        # Errors show names, and a terminal would execute control characters.
        if not name.isprintable():
            raise UserError(f"expected names that can be printed, found {name!r}")
        return name

    def _take(self, length: int) -> bytes:
        if length > self._end - self._position:
            raise UserError(f"expected at most {self._end - self._position} more bytes, found {length} declared")
        self._position += length
        return self._data[self._position - length : self._position]

    def _skip_padding(self) -> None:
        if any(self._take(aligned(self._position) - self._position)):
            raise UserError(f"expected zeros up to a multiple of {ALIGNMENT} bytes, found others")

    def _check_offset(self, name: str, offset: int | None) -> None:
        if offset not in (None, self._position):
            raise UserError(f"expected {name} at byte {self._position}, found {offset}")


def read_metadata(text: bytes, classes: int) -> dict[str, Any]:
    """Return the entries of a packed file's metadata.

    Args:
        text: the metadata, JSON.
        classes: number of classes that the header declares.

    Raises:
        UserError: the text is no JSON, or has other entries.
    """
    try:
        values = parse_json(text)
    except ValueError as error:
        raise UserError(f"expected metadata in JSON, found: {first_line(error)}") from None
    found = checked(_Metadata, values, "the metadata of a packed network", known_only=True)
    if len(found.class_names) != classes:
        raise UserError(f"expected the names of {classes} classes, found {len(found.class_names)}")
    return vars(found)


@dataclasses.dataclass(frozen=True)
class _Metadata:
    """What a packed file says of its network in JSON."""

    network: str
    network_args: dict[str, Any]
    network_source_sha256: str | None
    class_names: tuple[str, ...]
    network_output: str | None = None
    kept_channels: dict[str, str] = dataclasses.field(default_factory=dict)
    input_shape: tuple[int, ...] | None = None
    interface: NetworkInterface | None = None
