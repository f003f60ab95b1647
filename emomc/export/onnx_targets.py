"""The toolchains that ONNX files are written for, and the options that each takes.

To add a toolchain, add an entry to ``TARGETS``. Nothing here imports torch or onnx.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Literal

from emomc.common.errors import UserError, require
from emomc.compression.codings import MAX_CODE_BITS
from emomc.compression.widths import FULL_ACTIVATION_BITS

MIN_OPSET, MAX_OPSET = 13, 21
"""The first ONNX opset with scales per channel, and the latest that is written."""
NARROW_OPSET = 21
"""The first ONNX opset whose QuantizeLinear and DequantizeLinear take 4-bit and 16-bit integers."""
CONTAINER_BITS = 8
"""Bits of the integers that toolchains compute with."""

OnnxWeights = Literal["integers", "float32"]
PixelLayout = Literal["nchw", "nhwc"]
"""Order of the sizes of a batch of pixels: channels before or after height and width."""
Activations = Literal["operators", "qdq", "qcdq", "floats", "attributes"]


@dataclasses.dataclass(frozen=True)
class OnnxTarget:
    """A toolchain that reads ONNX files."""

    name: str
    """Name on the command line."""
    summary: str
    """Description for help texts."""
    activations: Activations = "qdq"
    """How narrow activations are written. qdq: QuantizeLinear and DequantizeLinear on the inputs of layers, after a
    Clip of their float values where the integers have more values than the grid. qcdq: the Clip is between the two, and
    weights are rounded by such nodes, too, whose Clip says how many bits they have. operators: as qdq with the Clip
    between the two, and ConvInteger or MatMulInteger where onnxruntime does not fuse. floats: Clip, Div, Round and Mul.
    attributes: layers carry the widths of ZigZag, and nothing is rounded."""
    opset: int = MAX_OPSET
    """Where none is asked for."""
    max_opset: int = MAX_OPSET
    """The latest that the toolchain takes."""
    weights: OnnxWeights = "integers"
    """Where nothing is asked for."""
    takes_integers: bool = True
    """Whether it takes weights as integers."""
    takes_int4: bool = False
    """Whether it takes weights as 4-bit integers."""
    signed_only: bool = False
    """Whether integers of activations are signed with a zero point of 0."""
    scales_sums: bool = False
    """Whether the scales of weights multiply the sums of layers, so that the weights themselves are whole numbers."""

    @property
    def runs_in_onnxruntime(self) -> bool:
        """Whether onnxruntime runs the file as well."""
        return self.activations != "attributes"


TARGETS: Mapping[str, OnnxTarget] = {
    target.name: target
    for target in (
        OnnxTarget("onnxruntime", "onnxruntime", activations="operators", takes_int4=True),
        OnnxTarget("openvino", "OpenVINO", takes_int4=True),
        OnnxTarget("tensorrt", "TensorRT", signed_only=True, opset=17, max_opset=20),
        # onnx2tf 1.29 reads integers with a scale for each channel as other numbers.
        OnnxTarget(
            "tflite", "LiteRT, through onnx2tf", weights="float32", takes_integers=False, opset=17, max_opset=20
        ),
        OnnxTarget("qonnx", "QONNX and FINN", activations="qcdq", opset=17, max_opset=20),
        OnnxTarget("hls4ml", "hls4ml, through qonnx", activations="qcdq", opset=17, max_opset=20, scales_sums=True),
        OnnxTarget(
            "zigzag", "the accelerator model ZigZag", activations="attributes", weights="float32", takes_integers=False
        ),
        OnnxTarget(
            "ncnn", "ncnn, through pnnx", activations="floats", weights="float32", takes_integers=False, opset=17
        ),
    )
}
"""Name -> target."""

if TYPE_CHECKING:
    TargetName = str
else:
    TargetName = Literal[tuple(TARGETS)]


@dataclasses.dataclass(frozen=True)
class OnnxOptions:
    """How an ONNX file is written."""

    target: OnnxTarget = TARGETS["onnxruntime"]
    opset: int = MAX_OPSET
    """13..21."""
    int4: bool = True
    """Whether weights of up to 4 bits are stored as 4-bit integers rather than as 8-bit ones."""
    weights: OnnxWeights = "integers"
    """integers: behind a DequantizeLinear. float32: the products of codes and scales."""
    pixels: PixelLayout | None = None
    """Layout of the uint8 pixels that the file takes; None: it takes normalised images."""

    def check_weight_bits(self, bits_of: Mapping[str, int]) -> None:
        """Check that the opset has integers for the weights.

        Args:
            bits_of: layer name -> bits of its weights.

        Raises:
            UserError: it has none.
        """
        if self.weights == "float32" or self.opset >= NARROW_OPSET:
            return
        for layer, bits in bits_of.items():
            if CONTAINER_BITS < bits <= MAX_CODE_BITS:
                later = f"--onnx_opset {NARROW_OPSET} or " if self.target.max_opset >= NARROW_OPSET else ""
                raise UserError(
                    f"expected {later}--onnx_weights float32 for {self.target.name} where weights have more than "
                    f"{CONTAINER_BITS} bits, found {bits} bits in {layer}; search with --max_bits {CONTAINER_BITS}"
                )


def onnx_options(
    target: TargetName = "onnxruntime",
    *,
    opset: int | None = None,
    int4: bool | None = None,
    weights: OnnxWeights | None = None,
    pixels: PixelLayout | None = None,
    activation_bits: int | Collection[int] = FULL_ACTIVATION_BITS,
) -> OnnxOptions:
    """Return the options of a file for a target; what is not given, the target decides.

    Args:
        target: a name of ``TARGETS``.
        opset: ONNX opset, 13..21.
        int4: whether to store weights of up to 4 bits as INT4.
        weights: integers, or float32.
        pixels: layout of the pixels that the file takes; None: it takes normalised images.
        activation_bits: bits of the layers' inputs, 2..16, or all that layers have; at 16 they are not rounded.

    Raises:
        UserError: the target cannot take the combination.
    """
    require(target in TARGETS, f"a target of {', '.join(TARGETS)}", target)
    chosen = TARGETS[target]
    given = {activation_bits} if isinstance(activation_bits, int) else {*activation_bits}
    rounded = sorted(bits for bits in given if bits < FULL_ACTIVATION_BITS)
    narrow = bool(rounded) and chosen.activations != "attributes"
    most = chosen.max_opset
    require(opset is None or MIN_OPSET <= opset <= most, f"--onnx_opset of {MIN_OPSET}..{most} for {target}", opset)
    if weights == "integers" and not chosen.takes_integers:
        raise UserError(f"expected --onnx_weights float32 for {target}, found integers")
    if pixels is not None and chosen.activations == "attributes":
        raise UserError(
            f"expected no --preprocess for {target}, which costs the layers of a network alone, found {pixels}"
        )
    weights = weights or chosen.weights
    if int4 and (weights == "float32" or not chosen.takes_int4):
        with_what = "--onnx_weights float32" if chosen.takes_int4 else f"--target {target}"
        raise UserError(f"expected --onnx_int4 false with {with_what}, found true")
    if int4 and narrow and rounded[0] <= CONTAINER_BITS:
        raise UserError(
            f"expected --onnx_int4 false with activations of {rounded[0]} bits, since no runtime computes with "
            f"4-bit weights and 8-bit activations as integers, found true"
        )
    if weights == "float32" and narrow and chosen.activations == "operators":
        raise UserError(
            f"expected --onnx_weights integers for {target} with activations of {rounded[0]} bits, since it would "
            f"round float32 weights itself, found float32"
        )
    if chosen.signed_only and narrow and rounded[-1] >= CONTAINER_BITS:
        raise UserError(
            f"expected activations of at most 7 bits for {target}, whose 8-bit integers are signed, found "
            f"{rounded[-1]}: search with --activation_bits 7"
        )
    opset = opset or chosen.opset
    in_integers = chosen.activations != "floats"
    if narrow and in_integers and rounded[-1] > CONTAINER_BITS and opset < NARROW_OPSET:
        later = most >= NARROW_OPSET
        expected = f"--onnx_opset {NARROW_OPSET}" if later else f"activations of at most {CONTAINER_BITS} bits"
        raise UserError(f"expected {expected} for {target}, found --onnx_opset {opset} and {rounded[-1]} bits")
    if int4 and opset < NARROW_OPSET:
        raise UserError(f"expected --onnx_opset {NARROW_OPSET} with --onnx_int4 true, found {opset}")
    if int4 is None:
        int4 = chosen.takes_int4 and weights == "integers" and opset >= NARROW_OPSET and not narrow
    return OnnxOptions(chosen, opset, int4, weights, pixels)
