"""ONNX files with narrow activations: they compute what the search simulates, with integers."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from emomc.common.errors import UserError, UserFact
from emomc.compression.activation_grid import ActivationGrid
from emomc.compression.activations import integer_bias
from emomc.compression.layer_inputs import measure_inputs
from emomc.compression.quantization import quantize_symmetric
from emomc.export.loading import unpack_network
from emomc.export.onnx_graph import write_onnx
from emomc.export.onnx_targets import TARGETS, onnx_options
from emomc.networks.build import build_network
from emomc.networks.folding import FoldedNetwork
from emomc.networks.graph import trace_network
from emomc.networks.preparation import plain_copy
from emomc.packed_file.network import NetworkDescription, PackedLayer, PackedNetwork


def pack_narrow(network: nn.Module, spec: str, shape: tuple[int, int, int], *, activation_bits, bits=(8, 4, 6)):
    """Quantize a network and the inputs of its layers, whose ranges are measured on images of noise.

    Bits of inputs are one number, or several that the layers take in turns; at 16 inputs are not rounded.
    """
    activation_bits = (activation_bits,) if isinstance(activation_bits, int) else activation_bits
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _ in range(3):
            network.train()(torch.randn(8, *shape, generator=generator))
    trace = trace_network(plain_copy(network.eval(), shape), shape)
    folded = FoldedNetwork(trace)
    state = folded.fold(network.state_dict())
    folded.load(state)
    inputs = measure_inputs(folded, [torch.randn(16, *shape, generator=generator)])
    layers, rest = [], {name: tensor.detach() for name, tensor in state.rest.items()}
    for index, layer in enumerate(trace.layers):
        width = bits[index % len(bits)]
        quantized = quantize_symmetric(state.weights[layer.name], width, per_channel=True)
        scale, own = state.scale(layer.name, quantized.scale), activation_bits[index % len(activation_bits)]
        grid = ActivationGrid.of_range(own, *inputs[layer.name].range) if own < 16 else None
        if grid is not None and layer.name in folded.bias_keys:
            key = folded.bias_keys[layer.name]
            rest[key] = integer_bias(rest[key], scale, grid)
        layers.append(PackedLayer(layer.name, width, quantized.codes.numpy(), scale.detach().numpy(), grid))
    classes = tuple(str(index) for index in range(trace.output_shape[0]))
    description = NetworkDescription(spec, {}, None, shape, classes)
    return PackedNetwork(description, tuple(layers), {name: tensor.numpy() for name, tensor in rest.items()})


onnx = pytest.importorskip("onnx", reason="the extra 'export' is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
pytest.importorskip("onnxscript", reason="the extra 'export' is not installed")

ZOO = {"lenet5": {}, "mobilenet": {"width": 0.125}, "resnet18": {"width": 0.125}}
TORCHVISION = {"mobilenet_v2": {"width_mult": 0.5}, "squeezenet1_1": {}}


def network_of(name):
    torch.manual_seed(0)
    if name in ZOO:
        channels = 1 if name == "lenet5" else 3
        network = build_network(name, in_channels=channels, num_classes=10, network_args=ZOO[name])
        return network, (channels, 32, 32)
    return getattr(torchvision.models, name)(num_classes=20, **TORCHVISION[name]), (3, 64, 64)


def written(tmp_path, name, bits, target="onnxruntime", widths=(8, 4, 6), **options):
    """Return a network's ONNX file, its packed form and what gives the scores that were promised."""
    network, shape = network_of(name)
    packed = pack_narrow(network, "mine.py:Net", shape, activation_bits=bits, bits=widths)
    path = tmp_path / f"{name}.onnx"
    write_onnx(path, packed, network, options=onnx_options(target, activation_bits=bits, **options))
    return path, packed, unpack_network(packed, network)


def session_of(path, profile=None, *, as_written=False):
    """Open a file; as it is written, onnxruntime does not change its roundings and the weights between them."""
    how = onnxruntime.SessionOptions()
    if as_written:
        how.add_session_config_entry("session.disable_quant_qdq", "1")
    if profile is not None:
        how.enable_profiling, how.profile_file_prefix = True, str(profile)
    return onnxruntime.InferenceSession(path, how, providers=["CPUExecutionProvider"])


def kernels(session):
    """Return how many nodes of each operation were run, and stop the profile."""
    events = json.loads(Path(session.end_profiling()).read_text())
    ran = {event["name"]: event["args"]["op_name"] for event in events if event["name"].endswith("_kernel_time")}
    return Counter(ran.values())


def agree(session, promised, images, *, most=0.0):
    """Check that the median image has the promised scores, and that at most so many get another class."""
    scores = torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])
    with torch.no_grad():
        expected = promised(images)
    off = (scores - expected).abs().amax(1) / expected.abs().amax(1)
    # With many bits, inputs half-way between two codes are frequent, and move little.
    assert float(off.median()) < 1e-3
    assert int((scores.argmax(1) != expected.argmax(1)).sum()) <= most


@pytest.mark.parametrize(
    "name",
    ["lenet5", *(pytest.param(name, marks=pytest.mark.slow) for name in ("mobilenet", "resnet18", *TORCHVISION))],
)
def test_onnxruntime_computes_convolutions_with_integers_and_gives_the_promised_classes(tmp_path, name):
    path, packed, promised = written(tmp_path, name, 8)
    session = session_of(path, tmp_path / "profile")
    agree(session, promised, torch.randn(64, *packed.description.input_shape), most=1)
    ran = kernels(session)
    convolutions = sum(layer.codes.ndim == 4 for layer in packed.layers)
    assert ran["QLinearConv"] + ran["ConvInteger"] == convolutions
    assert ran["QLinearConv"] >= convolutions / 3
    assert not any(ran[operation] for operation in ("Conv", "FusedConv", "NhwcFusedConv", "Gemm", "MatMul"))


@pytest.mark.parametrize(
    "target",
    [
        target if target in ("openvino", "tflite", "qonnx") else pytest.param(target, marks=pytest.mark.slow)
        for target in TARGETS
        if target not in ("onnxruntime", "zigzag")
    ],
)
@pytest.mark.parametrize("bits", [7, pytest.param(3, marks=pytest.mark.slow)])
def test_every_target_rounds_as_the_search_does(tmp_path, target, bits):
    path, packed, promised = written(tmp_path, "lenet5", bits, target)
    session = session_of(path, as_written=True)
    agree(session, promised, 3 * torch.randn(64, *packed.description.input_shape))


@pytest.mark.filterwarnings("ignore:onnxruntime computes 5 layers in float32")
@pytest.mark.parametrize("bits", [5, *(pytest.param(bits, marks=pytest.mark.slow) for bits in (2, 8, 13))])
def test_every_width_is_rounded_as_the_search_does(tmp_path, bits):
    path, packed, promised = written(tmp_path, "lenet5", bits)
    agree(session_of(path), promised, 3 * torch.randn(64, *packed.description.input_shape))


@pytest.mark.parametrize(
    ("name", "opset"),
    [("lenet5", 13), *(pytest.param("mobilenet", opset, marks=pytest.mark.slow) for opset in (13, 15, 17, 18, 20))],
)
def test_every_opset(tmp_path, name, opset):
    path, packed, promised = written(tmp_path, name, 8, opset=opset)
    model = onnx.load(path)
    assert [(used.domain, used.version) for used in model.opset_import] == [("", opset)]
    agree(session_of(path), promised, torch.randn(16, *packed.description.input_shape), most=1)


@pytest.mark.parametrize(
    "target", ["onnxruntime", *(pytest.param(target, marks=pytest.mark.slow) for target in ("openvino", "qonnx"))]
)
def test_each_layer_has_bits_of_its_own(tmp_path, target):
    with warnings.catch_warnings():
        # onnxruntime computes the layer whose inputs are not rounded in float32.
        warnings.simplefilter("ignore", UserFact)
        path, packed, promised = written(tmp_path, "lenet5", (8, 3, 16, 4, 8), target)
    agree(
        session_of(path, as_written=target != "onnxruntime"), promised, torch.randn(64, *packed.description.input_shape)
    )
    steps = {initial.name: onnx.numpy_helper.to_array(initial) for initial in onnx.load(path).graph.initializer}
    for layer in packed.layers:
        name = f"{layer.name}/input/scale"
        assert (name in steps) == (layer.inputs is not None)
        assert layer.inputs is None or steps[name] == np.float32(layer.inputs.step)


class Tokens(nn.Module):
    """Linear layers whose inputs have three dimensions, so that they become products of matrices."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(8, 12), nn.Linear(12, 6), nn.Linear(6, 4)

    def forward(self, images):
        return self.last(self.second(self.first(images.flatten(1, 2)).relu()).relu()).mean(1)


@pytest.mark.parametrize("bits", [(16, 8, 8), (8, 16, 4), pytest.param((8, 8, 16), marks=pytest.mark.slow)])
def test_products_of_matrices_with_inputs_that_are_not_rounded_stay_as_they_are(tmp_path, bits):
    torch.manual_seed(0)
    network = Tokens()
    packed = pack_narrow(network, "mine.py:Tokens", (2, 5, 8), activation_bits=bits)
    with pytest.warns(UserFact, match="onnxruntime computes 1 layers in float32"):
        write_onnx(tmp_path / "one.onnx", packed, network, options=onnx_options("onnxruntime", activation_bits=bits))
    agree(session_of(tmp_path / "one.onnx"), unpack_network(packed, network), torch.randn(64, 2, 5, 8))


def test_weights_in_float32_keep_the_rounding_of_inputs(tmp_path):
    path, packed, promised = written(tmp_path, "lenet5", 6, "openvino", weights="float32")
    found = Counter(node.op_type for node in onnx.load(path).graph.node)
    assert found["QuantizeLinear"] == found["DequantizeLinear"] == len(packed.layers)
    agree(session_of(path, as_written=True), promised, torch.randn(64, *packed.description.input_shape))


def test_wide_weights_are_computed_in_float32_and_a_line_says_so(tmp_path):
    with pytest.warns(UserFact, match=r"computes 2 layers in float32 \(conv2, linear2\)"):
        path, packed, promised = written(tmp_path, "lenet5", 8, widths=(8, 12, 4))
    agree(session_of(path), promised, torch.randn(64, *packed.description.input_shape))


def test_a_clip_tells_fpga_tools_the_bits_of_each_layer(tmp_path):
    path, packed, _ = written(tmp_path, "lenet5", 8, "qonnx", widths=(8, 3, 5))
    model = onnx.load(path)
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    highest = {node.output[0]: constants[node.input[2]].item() for node in model.graph.node if node.op_type == "Clip"}
    clipped = {node.output[0]: highest[node.input[0]] for node in model.graph.node if node.input[0] in highest}
    expected = {f"{layer.name}.weight": 2 ** (layer.bits - 1) - 1 for layer in packed.layers}
    assert {name: clipped[name] for name in expected} == expected


def test_hls4ml_gets_whole_numbers_as_weights_and_no_bias_in_its_convolutions(tmp_path):
    path, packed, _ = written(tmp_path, "lenet5", 8, "hls4ml")
    model = onnx.load(path)
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for layer in packed.layers:
        assert (constants[f"{layer.name}.weight/values"] == layer.codes).all()
        assert constants[f"{layer.name}.weight/scale"] == 1
    assert [len(node.input) for node in model.graph.node if node.op_type == "Conv"] == [2, 2, 2]


def test_ncnn_rounds_in_floats(tmp_path):
    path, packed, _ = written(tmp_path, "lenet5", 8, "ncnn")
    found = Counter(node.op_type for node in onnx.load(path).graph.node)
    assert found["Round"] == len(packed.layers)
    assert not found["QuantizeLinear"] + found["DequantizeLinear"]


@pytest.mark.slow
def test_layers_with_the_same_input_share_a_rounding(tmp_path):
    path, packed, _ = written(tmp_path, "resnet18", 8, "openvino")
    rounded = sum(node.op_type == "QuantizeLinear" for node in onnx.load(path).graph.node)
    # Three blocks have a convolution in their shortcut.
    assert rounded == len(packed.layers) - 3


def test_zigzag_gets_the_width_of_the_rounded_inputs(tmp_path):
    path, _, _ = written(tmp_path, "lenet5", 5, "zigzag")
    found = [
        attribute.i
        for node in onnx.load(path).graph.node
        for attribute in node.attribute
        if attribute.name == "act_size"
    ]
    assert found == [5] * 5


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 15), st.integers(0, 100), st.booleans())
def test_a_bias_of_integers_is_within_half_a_step_and_a_whole_multiple(bits, seed, signed):
    generator = torch.Generator().manual_seed(seed)
    bias, scale = torch.randn(20, generator=generator), torch.randn(20, generator=generator) / 50
    scale[3] = 0
    grid = ActivationGrid.of_range(bits, -1.0 if signed else 0.0, 3.0)
    rounded, step = integer_bias(bias, scale, grid), grid.step * scale.abs()
    assert rounded[3] == bias[3]
    assert bool(((rounded - bias).abs() <= step / 2 * (1 + 1e-3) + 1e-6).all())
    codes = (rounded.double() / step.double())[scale != 0]
    torch.testing.assert_close(codes, codes.round(), rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize(
    ("target", "given_", "words"),
    [
        ("tensorrt", {"activation_bits": 8}, "at most 7 bits for tensorrt"),
        ("qonnx", {"activation_bits": 9}, "activations of at most 8 bits for qonnx"),
        ("openvino", {"activation_bits": 9, "opset": 17}, "--onnx_opset 21 for openvino"),
        ("onnxruntime", {"activation_bits": 8, "int4": True}, "--onnx_int4 false with activations of 8 bits"),
        ("onnxruntime", {"activation_bits": 8, "weights": "float32"}, "--onnx_weights integers for onnxruntime"),
        ("tensorrt", {"activation_bits": (4, 8)}, "at most 7 bits for tensorrt.*found 8"),
        ("qonnx", {"activation_bits": (4, 9, 16)}, "activations of at most 8 bits for qonnx.*9 bits"),
        ("onnxruntime", {"activation_bits": (4, 16), "int4": True}, "--onnx_int4 false with activations of 4 bits"),
        ("tvm", {}, "a target of onnxruntime, openvino"),
    ],
)
def test_what_a_target_cannot_take_is_refused(target, given_, words):
    with pytest.raises(UserError, match=words):
        onnx_options(target, **given_)


def test_wide_weights_need_an_opset_or_floats():
    bits = {"conv1": 8, "conv2": 9}
    with pytest.raises(UserError, match=r"--onnx_weights float32 for tensorrt .* 9 bits in conv2"):
        onnx_options("tensorrt").check_weight_bits(bits)
    onnx_options("tensorrt", weights="float32").check_weight_bits(bits)
    onnx_options("onnxruntime").check_weight_bits(bits)
